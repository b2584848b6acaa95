"""Difference mean: how far apart two heatmaps are, cell by cell."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.machine import Execution
from instrument_ig.metrics.arguments import checked_pair, checked_sets
from instrument_ig.metrics.pairwise import all_pairs, tile_side


def difference_mean(
    a: Float[Array | np.ndarray, "T F"],
    b: Float[Array | np.ndarray, "T F"],
    *,
    signed: bool = False,
) -> Float[Array, ""]:
    """Average |a - b| over the cells, or a - b itself where `signed`.

    Args:
      a: a heatmap, of any sign and scale: this measure sees magnitudes, not distributions.
      b: another of the same shape.
      signed: keep the sign, so that differences of both signs cancel.

    Returns:
      The mean, in the heatmaps' unit. Constant maps and all-zero maps are maps like any other; a
      NaN or an infinity in either map gives NaN or infinity.

    Raises:
      ValueError: the maps are not two images of one shape.

    Numerics: zero for a = b; float32 rounding of the mean is about 1e-7 of it.
    Cost: one pass over both maps.
    References: Chen et al., Interpreting CNN models for musical instrument recognition, 2024,
      section 2.1.
    """
    a, b = checked_pair(a, b, "ab")
    return jnp.mean(a - b) if signed else _absolute(a, b)


def pairwise_difference_mean(
    A: Float[Array | np.ndarray, "N T F"],
    B: Float[Array | np.ndarray, "M T F"] | None = None,
    *,
    signed: bool = False,
    execution: Execution | None = None,
) -> Float[Array, "N M"]:
    """Compute `difference_mean` of every pair, within A or between A and B.

    Args:
      A: heatmaps.
      B: the columns; by default A again.
      signed: see `difference_mean`; then within A the result is antisymmetric.
      execution: its memory is what the tiles get; one device does it all.

    Returns:
      [i, j] is the distance of A[i] and B[j]. Within A: symmetric, and zero on the diagonal.

    Raises:
      ValueError: the maps are not of one shape [T, F], or the memory is too small for one.

    Numerics: that of `difference_mean`.
    Cost: N M T F cells, half of them within A; `signed` needs only N + M means.
    """
    A, B = checked_sets(A, B, "AB")
    return _pairwise(A, B, signed, tile_side(A, B, execution))


@partial(jax.jit, static_argnames=("signed", "side"))
def _pairwise(A, B, signed, side):
    if not signed:
        return all_pairs(_absolute, A, B, side)
    means = jnp.mean(A, (1, 2))
    return means[:, None] - (means if B is None else jnp.mean(B, (1, 2)))[None, :]


def _absolute(a, b):
    return jnp.mean(jnp.abs(a - b))
