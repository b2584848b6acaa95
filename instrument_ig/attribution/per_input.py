"""Maps that need one evaluation per input and promise nothing about their sum."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.attribution import work_items
from instrument_ig.types import Attribution


def map_each(function: work_items.Function, score: Any, data: Any, **options: Any) -> Any:
    """Return the contribution of function(score, row, None) for each row of `data`."""
    rows = np.arange(work_items.n_rows(data))
    once = work_items.WorkItems(rows, None, np.ones(len(rows), np.float32), rows)
    return work_items.weighted_sums(function, score, data, once, **options)[0]


def without_completeness(values: Float[Array, "B ..."], steps: int) -> Attribution:
    """Wrap maps in units other than the score's: residual NaN, never converged."""
    b = len(values)
    return Attribution(values, jnp.full(b, jnp.nan), jnp.full(b, steps), jnp.zeros(b, bool))
