"""Completeness: how much of the score difference a map fails to share out."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from instrument_ig.types import Attribution


def relative_residual(attribution: Attribution, floor: float = 0.01) -> Float[Array, "*M B"]:
    """Return abs(residual) / max(abs(score difference), floor) of each map.

    Args:
        attribution: maps, of several models or one; their sums less their residuals are the score
            differences.
        floor: as for `integrated_gradients`.

    Numerics: NaN for maps that do not claim completeness, and for those with a NaN.
    Cost: one pass over the maps.
    """
    sums = attribution.values.reshape(*attribution.residual.shape, -1).sum(-1)
    difference = sums - attribution.residual
    return jnp.abs(attribution.residual) / jnp.maximum(jnp.abs(difference), floor)
