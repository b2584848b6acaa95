"""Where does an earth mover's distance sit? Its flow's cost by direction and place.

Checked against moved point masses in tests/metrics/transport/test_split.py.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.config import MetricConfig
from instrument_ig.metrics.arguments import checked_pair
from instrument_ig.metrics.transport.emd import Number, in_units, or_nan, settings, solution
from instrument_ig.metrics.transport.graph import AXES, cut, flow_cost, pad_axis
from instrument_ig.metrics.transport.ground import LINEAR
from instrument_ig.types import Axis, Transport


class SplitEMD(NamedTuple):
    """What moving p into q costs at each cell: parts that add up to the upper bound."""

    time: Float[Array, "T F"]  # cost of the ways along time
    frequency: Float[Array, "T F"]  # and along frequency
    transport: Transport


def split_emd(
    p: Float[Array | np.ndarray, "T F"],
    q: Float[Array | np.ndarray, "T F"],
    *,
    axes: Sequence[Axis] = (LINEAR, LINEAR),
    tolerance: Number = MetricConfig.emd_tolerance,
    extents: Sequence[float] = (1.0, 1.0),
) -> SplitEMD:
    """Split an earth mover's distance by the direction and the place of its flow.

    The cost of the mass that passes between two neighbouring cells belongs to both, half each.

    Args:
      p: a distribution (`to_distribution`).
      q: another on the same cells.
      axes: the kinds of the time and of the frequency axis.
      tolerance: relative width of the certified interval.
      extents: the longest way along each axis.

    Returns:
      The parts and the distance. Several cheapest flows may exist; this is one that comes within
      the interval of the cheapest. All is NaN where a map is no distribution.

    Raises:
      ValueError: see `emd`.

    Numerics: the parts are scaled to add up to `transport.upper`, which the rounding slack of
      `certify` puts at most 1e-3 above the flow's own cost.
    Cost: that of `emd` by "flow". There is no gradient.
    """
    p, q = checked_pair(p, q)
    problem, asked, unit = settings(p, axes, extents, "flow", MetricConfig.epsilon, tolerance)
    return _split(problem, p, q, asked, unit)


@partial(jax.jit, static_argnums=0)
def _split(problem, p, q, asked, unit):
    found = solution(problem, p[None], q[None], asked)
    found = jax.tree.map(lambda field: field[0], found)
    time, frequency = (
        _on_cells(cost, axis, problem.ground)
        for cost, axis in zip(flow_cost(found.flow, problem.ground), AXES, strict=True)
    )
    transport = or_nan(in_units(found.transport, unit), p, q)
    total = jnp.sum(time + frequency)
    scale = jnp.where(total > 0, transport.upper / total, transport.upper)
    return SplitEMD(time * scale, frequency * scale, transport)


def _on_cells(cost, own, ground):
    """Give the cost of every edge to the cells at its ends, and a hub's to the bins around it."""
    for axis, along in zip(AXES, ground, strict=True):
        if axis == own and along.kind != "categorical":
            cost = _at_both_ends(cost / 2, along, axis)
        elif axis != own and along.kind == "categorical":
            hub = cut(cost, axis, along.bins, None)
            cost = cut(cost, axis, 0, along.bins) + hub / along.bins
    return cost


def _at_both_ends(cost, along, axis):
    if along.kind == "circular":
        return cost + jnp.roll(cost, 1, axis)
    return pad_axis(cost, axis, 0, 1) + pad_axis(cost, axis, 1, 0)
