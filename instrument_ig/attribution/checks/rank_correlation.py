"""Spearman's correlation between maps: do they put the cells in the same order?

Checked against SciPy in tests/attribution/test_checks.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from instrument_ig.attribution.arguments import Images, checked_maps


def rank_correlation(maps: Images, others: Images) -> Float[Array, " B"]:
    """Correlate the ranks of each map's cells with those of its counterpart; ties share a rank.

    Args:
        maps: [B, ...].
        others: of the same shape.

    Raises:
        ValueError: the shapes differ.

    Numerics: NaN where a map is constant or holds a NaN, for it has no order.
    Cost: two sorts of the cells per map.
    """
    checked_maps(others, maps)
    ranks, other = _ranks(maps), _ranks(others)
    size = jnp.sqrt(jnp.square(ranks).sum(1) * jnp.square(other).sum(1))
    return (ranks * other).sum(1) / size


def dependence(maps: Images) -> Float[Array, " B"]:
    """Return the mean rank correlation between maps of one input from different baselines.

    1: the maps agree whatever the baseline; 0: they have nothing in common.

    Args:
        maps: [R, B, ...], one set of maps per baseline.

    Raises:
        ValueError: fewer than two baselines.

    Numerics: as for `rank_correlation`.
    Cost: R sets of ranks, each computed R - 1 times.
    """
    r = len(maps)
    if r < 2:
        raise ValueError(f"maps {maps.shape}: a comparison needs at least two baselines")
    pairs = [(i, j) for i in range(r) for j in range(i)]
    return jnp.stack([rank_correlation(maps[i], maps[j]) for i, j in pairs]).mean(0)


@jax.jit
@jax.vmap
def _ranks(values):
    """Ranks of all cells with mean 0; equal cells share the mean of theirs, and NaN has none."""
    values = values.reshape(-1)
    ordered = jnp.sort(values)
    first = jnp.searchsorted(ordered, values, side="left")
    last = jnp.searchsorted(ordered, values, side="right") - 1
    ranks = (first + last - (values.size - 1)).astype(values.dtype) / 2
    return jnp.where(jnp.isnan(values).any(), jnp.nan, ranks)
