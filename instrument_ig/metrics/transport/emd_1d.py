"""The earth mover's distance along one axis alone, exact: of the marginals in time or frequency.

Checked against SciPy and POT in tests/metrics/transport/test_emd_1d.py.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.metrics.arguments import checked_batches
from instrument_ig.metrics.distribution import nan_unless_distributions
from instrument_ig.metrics.transport.graph import equalise
from instrument_ig.metrics.transport.ground import LINEAR, AxisCost, ground_cost
from instrument_ig.types import Axis

Maps = Float[Array | np.ndarray, "*batch T F"]


def emd_time(
    p: Maps,
    q: Maps,
    *,
    axes: Sequence[Axis] = (LINEAR, LINEAR),
    extents: Sequence[float] = (1.0, 1.0),
) -> Float[Array, "*batch"]:
    """Compute the exact earth mover's distance between the distributions over frames.

    W1 of the sums over frequency; no more than W1 of the maps, because moving mass along frequency
    costs nothing here.

    Args:
      p: a distribution (`to_distribution`).
      q: another on the same cells.
      axes: kinds of the time and of the frequency axis.
      extents: the longest way along each axis.

    Returns:
      The distance, in the unit of the time axis' extent. A map that is no distribution
      (`are_distributions`) gives NaN.

    Raises:
      ValueError: the maps are not of one shape; see `ground_cost`.

    Numerics: exact up to float32 rounding of sums of T and F terms, for maps of sum one; what one
      map has more than the other is spread evenly over the axis first. Zero for p = q.
    Cost: one pass over the cells.
    References: Vallender, Calculation of the Wasserstein distance between probability
      distributions on the line, 1974; Rabin, Delon and Gousseau, Transportation distances on the
      circle, 2011.
    """
    p, q = checked_batches(p, q)
    along, _ = ground_cost(p.shape[-2:], axes, extents)
    return emd_1d(jnp.sum(p, -1), jnp.sum(q, -1), along) * nan_unless_distributions(p, q)


def emd_frequency(
    p: Maps,
    q: Maps,
    *,
    axes: Sequence[Axis] = (LINEAR, LINEAR),
    extents: Sequence[float] = (1.0, 1.0),
) -> Float[Array, "*batch"]:
    """Compute the exact earth mover's distance between the distributions over bins.

    As `emd_time`, of the sums over time.

    Args:
      p: a distribution (`to_distribution`).
      q: another on the same cells.
      axes: kinds of the time and of the frequency axis.
      extents: the longest way along each axis.

    Returns:
      The distance, in the unit of the frequency axis' extent; NaN as of `emd_time`.

    Raises:
      ValueError: the maps are not of one shape; see `ground_cost`.

    Numerics: see `emd_time`.
    Cost: one pass over the cells.
    """
    p, q = checked_batches(p, q)
    _, along = ground_cost(p.shape[-2:], axes, extents)
    return emd_1d(jnp.sum(p, -2), jnp.sum(q, -2), along) * nan_unless_distributions(p, q)


def emd_1d(
    p: Float[Array | np.ndarray, "*batch n"],
    q: Float[Array | np.ndarray, "*batch n"],
    along: AxisCost,
) -> Float[Array, "*batch"]:
    """Compute the exact earth mover's distance on a line, around a ring or between categories.

    What must pass each edge is known: the cumulated difference, less its median around a ring; and
    half of |p - q| changes category.

    Numerics: rounding of the sums of n differences; nothing is checked, NaN propagates.
    Cost: O(n) per pair, around a ring O(n log n).
    """
    excess = jnp.subtract(p, q)
    if along.kind == "categorical":
        return along.edge / 2 * jnp.sum(jnp.abs(excess), -1)
    return along.edge * jnp.sum(jnp.abs(equalise(excess, along, -1)), -1)
