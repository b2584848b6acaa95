"""Maps that need one evaluation per input and promise nothing about their sum."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.types import Attribution


def without_completeness(values: Float[Array, "B ..."], steps: int) -> Attribution:
    """Wrap maps in units other than the score's: residual NaN, never converged."""
    b = len(values)
    precise = np.promote_types(values.dtype, jnp.float32)
    # Made by NumPy, for `jax_debug_nans` takes those of JAX for accidents.
    residual = jnp.asarray(np.full(b, np.nan, precise))
    return Attribution(values, residual, jnp.full(b, steps), jnp.zeros(b, bool))
