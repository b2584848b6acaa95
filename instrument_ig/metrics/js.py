"""Jensen-Shannon divergence, for pairs, for all pairs, and split over frames and bins.

Checked against SciPy (whose `jensenshannon` is the square root) in tests/metrics/test_js.py.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.machine import Execution
from instrument_ig.metrics.arguments import checked_pair, checked_sets
from instrument_ig.metrics.distribution import nan_unless_distributions
from instrument_ig.metrics.pairwise import all_pairs, outer, tile_side


def js_divergence(
    p: Float[Array | np.ndarray, "T F"], q: Float[Array | np.ndarray, "T F"]
) -> Float[Array, ""]:
    """Compute the Jensen-Shannon divergence in nats, between 0 and ln 2.

    KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2.

    Args:
      p: a distribution (`to_distribution`).
      q: another on the same cells.

    Returns:
      The divergence (its square root is a metric). Cells without mass on one side or on both count
      exactly. A map that is no distribution (`are_distributions`) gives NaN.

    Raises:
      ValueError: the maps are not two images of one shape.

    Numerics: zero exactly for p = q, symmetric to the last bit and never negative. The absolute
      error is below 1e-7 nats in float32: maps that differ by 1 % keep four digits, maps nearer
      than one part in 10,000 none. The derivative by p is log(p / m) / 2: minus infinity at a cell
      with p = 0 < q, and -44 here, that of the smallest float32 share.
    Cost: two logarithms and one division per cell.
    References: Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    p, q = checked_pair(p, q)
    return _divergence(p, q) * nan_unless_distributions(p, q)


def pairwise_js(
    P: Float[Array | np.ndarray, "N T F"],
    Q: Float[Array | np.ndarray, "M T F"] | None = None,
    *,
    execution: Execution | None = None,
) -> Float[Array, "N M"]:
    """Compute `js_divergence` of every pair, within P or between P and Q.

    Args:
      P: distributions.
      Q: the columns; by default P again.
      execution: its memory is what the tiles get; one device does it all.

    Returns:
      [i, j] is the divergence of P[i] and Q[j]. Within P: symmetric, and zero on the diagonal (NaN
      in the row and column of a map that is no distribution).

    Raises:
      ValueError: the maps are not of one shape [T, F], or the memory is too small for one.

    Numerics: that of `js_divergence`.
    Cost: two logarithms per cell and pair, for half of the pairs within P.
    """
    P, Q = checked_sets(P, Q)
    return _pairwise(P, Q, tile_side(P, Q, execution))


@partial(jax.jit, static_argnames="side")
def _pairwise(P, Q, side):
    marks = nan_unless_distributions(P, P), None if Q is None else nan_unless_distributions(Q, Q)
    return all_pairs(_divergence, P, Q, side) * outer(*marks)


class SplitJS(NamedTuple):
    """Where two distributions differ: parts that add up to their divergence."""

    cells: Float[Array, "T F"]  # nats
    frames: Float[Array, " T"]
    bins: Float[Array, " F"]


def split_js(p: Float[Array | np.ndarray, "T F"], q: Float[Array | np.ndarray, "T F"]) -> SplitJS:
    """Split the Jensen-Shannon divergence over cells, frames and bins.

    Args:
      p: a distribution.
      q: another on the same cells.

    Returns:
      The cells' own terms of the sum, and their sums over bins and over frames. Each adds up to
      `js_divergence(p, q)`.

    Raises:
      ValueError: the maps are not two images of one shape.

    Numerics: no part is negative beyond rounding, because the terms of p and q are taken together
      cell by cell. They add up within float32 rounding of the sum. NaN where a map is no
      distribution.
    Cost: that of `js_divergence`.
    """
    p, q = checked_pair(p, q)
    cells = _cell(p, q) * nan_unless_distributions(p, q)
    return SplitJS(cells, jnp.sum(cells, 1), jnp.sum(cells, 0))


def _divergence(p, q):
    return _in_range(jnp.sum(_cell(p, q)))


@jax.custom_jvp
def _cell(p, q):
    """Compute (s / 4) ((1+u) log(1+u) + (1-u) log(1-u)), s = p + q and u = (p - q) / s."""
    s = p + q
    u = (p - q) / _positive(s)
    return s / 4 * (_x_log_x(1 + u) + _x_log_x(1 - u))


@_cell.defjvp
def _cell_jvp(primals, tangents):
    (p, q), (p_tangent, q_tangent) = primals, tangents
    return _cell(p, q), (p_tangent * _log_share(p, q) + q_tangent * _log_share(q, p)) / 2


def _log_share(p, q):
    """Compute log(p / m) with m = (p + q) / 2."""
    return jnp.log(_positive(1 + (p - q) / _positive(p + q)))


def _x_log_x(x):
    return x * jnp.log(_positive(x))


def _positive(x):
    # Not a `where`: XLA:CPU makes a branch of a selected logarithm, which is five times slower.
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def _in_range(divergence):
    # Sums of p and q may round to above one, and nearly equal maps to below zero; the gradient
    # passes.
    return divergence + jax.lax.stop_gradient(jnp.clip(divergence, 0, math.log(2)) - divergence)
