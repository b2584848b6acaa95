"""An image as a graph: potentials live on its nodes, flows on its edges.

The graph's shortest paths are the ground distance. Neighbouring cells are joined; one more edge
closes a circular axis; the bins of a categorical axis meet in a hub, half the way from each. So the
earth mover's distance is the cheapest flow whose divergence is p - q (Beckmann), with about two
edges per cell instead of one variable per pair of cells.

Nodes are [..., A, B]: the cells of the two axes, and hubs as the last bin of a categorical axis. A
flow is a pair of arrays, of the edges along axis -2 and along axis -1; positive flow runs towards
the higher index, from the last bin to the first, or from a bin to its hub. Checked in float64 NumPy
in tests/metrics/transport/test_pyramid.py.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from instrument_ig.metrics.transport.ground import AxisCost, Ground

Nodes = Float[Array, "*batch A B"]
Flow = tuple[Array, Array]
AXES = (-2, -1)


def edge_costs(ground: Ground) -> tuple[float, float]:
    """Return the cost of one edge along each axis."""
    return tuple(a.edge / 2 if a.kind == "categorical" else a.edge for a in ground)


def with_hubs(cells: Float[Array, "*batch T F"], ground: Ground) -> Nodes:
    """Give the nodes of an image whose hubs hold no mass."""
    for axis, along in zip(AXES, ground, strict=True):
        if along.kind == "categorical":
            cells = pad_axis(cells, axis, 0, 1)
    return cells


def without_hubs(potential: Nodes, ground: Ground) -> Float[Array, "*batch T F"]:
    """Keep the cells of an image alone."""
    for axis, along in zip(AXES, ground, strict=True):
        potential = cut(potential, axis, 0, along.bins)
    return potential


def differences(potential: Nodes, ground: Ground) -> Flow:
    """Return how much the potential rises along every edge."""
    return tuple(map(_difference, (potential, potential), ground, AXES))


def divergence(flow: Flow, ground: Ground) -> Nodes:
    """Return what leaves every node less what enters it."""
    time, frequency = map(_divergence, flow, ground, AXES)
    return time + frequency


def flow_cost(flow: Flow, ground: Ground) -> Flow:
    """Return what the flow along every edge costs."""
    return tuple(
        jnp.abs(along) * cost for along, cost in zip(flow, edge_costs(ground), strict=True)
    )


def equalise(excess: Array, along: AxisCost, axis: int) -> Array:
    """Return the flow along one axis after which every line holds its mean at all of its nodes.

    It is the cheapest such flow: on a line and on a star there is only one, and around a ring,
    where a circulation may be added, the cheapest has median zero.
    """
    excess = excess - jnp.mean(excess, axis, keepdims=True)
    if along.kind == "categorical":
        return _bins(excess, along, axis)
    passed = jnp.cumsum(excess, axis)
    if along.kind == "circular":
        return passed - jnp.median(passed, axis, keepdims=True)
    return cut(passed, axis, 0, along.bins - 1)


def _difference(potential, along, axis):
    if along.kind == "categorical":
        return cut(potential, axis, along.bins, None) - _bins(potential, along, axis)
    if along.kind == "circular":
        return jnp.roll(potential, -1, axis) - potential
    return jnp.diff(potential, axis=axis)


def _divergence(flow, along, axis):
    if along.kind == "categorical":
        return jnp.concatenate([flow, -jnp.sum(flow, axis, keepdims=True)], axis)
    if along.kind == "circular":
        return flow - jnp.roll(flow, 1, axis)
    return pad_axis(flow, axis, 0, 1) - pad_axis(flow, axis, 1, 0)


def _bins(nodes, along, axis):
    return cut(nodes, axis, 0, along.bins)


def cut(array: Array, axis: int, start: int, stop: int | None) -> Array:
    """Keep a range of one axis."""
    return lax.slice_in_dim(array, start, stop, axis=axis)


def rotated(array: Array, axis: int, by: Int[Array, ""]) -> Array:
    """Move every bin of one axis up by a number known only when the program runs, in [0, bins]."""
    n = array.shape[axis]
    twice = jnp.concatenate([array, array], axis)
    return lax.dynamic_slice_in_dim(twice, n - by, n, array.ndim + axis)


def pad_axis(array: Array, axis: int, before: int, after: int, mode: str = "constant") -> Array:
    """Lengthen one axis, by zeros unless `mode` says otherwise."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (before, after)
    return jnp.pad(array, widths, mode=mode)
