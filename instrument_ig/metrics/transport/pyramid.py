"""Coarser and coarser versions of the graph, and what moves between them.

A coarse node is a block of two bins along each axis that still has many; its edges cost twice as
much. Mass is summed over blocks; potentials are interpolated; flows are spread so that, if the
coarse flow balanced the blocks, what is left to balance is within blocks alone. That makes a good
first guess for a solver, and it makes `complete`: a flow for any leftover, in O(cells), that costs
little more than the cheapest.

Checked against the divergence in float64 NumPy in tests/metrics/transport/test_pyramid.py.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from instrument_ig.metrics.transport.graph import (
    AXES,
    Flow,
    Nodes,
    cut,
    differences,
    equalise,
    pad_axis,
)
from instrument_ig.metrics.transport.ground import AxisCost, Ground

FEWEST = 5  # bins an axis keeps: below that, blocks say nothing about the cells in them


def levels(ground: Ground) -> list[Ground]:
    """List the grounds of the pyramid, from the given one to the coarsest.

    The axis with the cheaper edges goes first, until both cost about the same: across expensive
    edges neighbours have little to do with each other.
    """
    cheapest = min((along.edge for along in ground if _halved(along) != along), default=0)
    coarse = tuple(_halved(along) if along.edge < 1.5 * cheapest else along for along in ground)
    return [ground] if coarse == ground else [ground, *levels(coarse)]


def _halved(along: AxisCost) -> AxisCost:
    bins = -(-along.bins // 2)
    ragged_ring = along.kind == "circular" and along.bins % 2
    if along.kind == "categorical" or ragged_ring or bins < FEWEST:
        return along
    return along._replace(bins=bins, edge=along.edge * 2)


def coarsen(nodes: Nodes, fine: Ground, coarse: Ground) -> Float[Array, "*batch _ _"]:
    """Sum over blocks."""
    for axis in _halved_axes(fine, coarse):
        first, second = _pairs(nodes, axis)
        nodes = first + second
    return nodes


def refine_potential(potential: Nodes, fine: Ground, coarse: Ground) -> Float[Array, "*batch _ _"]:
    """Interpolate linearly between the centres of blocks."""
    for axis in _halved_axes(fine, coarse):
        ends = "wrap" if fine[axis].kind == "circular" else "edge"
        around = pad_axis(potential, axis, 1, 1, mode=ends)
        n = potential.shape[axis]
        before, after = cut(around, axis, 0, n), cut(around, axis, 2, n + 2)
        potential = _interleaved(
            0.75 * potential + 0.25 * before, 0.75 * potential + 0.25 * after, axis
        )
        potential = cut(potential, axis, 0, fine[axis].bins)
    return potential


def refine_flow(flow: Flow, fine: Ground, coarse: Ground) -> Flow:
    """Spread a flow evenly over its blocks, and within them evenly too."""
    halved = _halved_axes(fine, coarse)
    flow = tuple(
        _refine_along(along, axis, fine, halved) for along, axis in zip(flow, AXES, strict=True)
    )
    return _fold(flow, fine)


def _refine_along(flow, own, fine, halved):
    for axis in halved:
        if axis != own:
            flow = _interleaved(flow / 2, flow / 2, axis)
    if own not in halved:
        return flow
    if fine[own].kind == "circular":
        return _interleaved((jnp.roll(flow, 1, own) + flow) / 2, flow, own)
    into, out = pad_axis(flow, own, 1, 0), pad_axis(flow, own, 0, 1)
    return _interleaved((into + out) / 2, out, own)


def complete(leftover: Nodes, ground: Ground) -> Flow:
    """Return a flow whose divergence is `leftover`, up to rounding.

    Blocks are equalised, then their sums are carried on the coarser graph, and so on.
    """
    return _complete(leftover, levels(ground))


def _complete(leftover, grounds):
    fine, *coarser = grounds
    if not coarser:
        return _equalise_all(leftover, fine)
    within = _equalise_blocks(leftover, fine, coarser[0])
    between = _complete(coarsen(leftover, fine, coarser[0]), coarser)
    return tuple(a + b for a, b in zip(within, refine_flow(between, fine, coarser[0]), strict=True))


def _fold(flow: Flow, ground: Ground) -> Flow:
    """End linear axes where they end, if their last block is half outside.

    What ran between bins that do not exist stops; what ran along one runs along the last bin.
    """
    for axis, along in zip(AXES, ground, strict=True):
        if along.kind == "linear":
            flow = tuple(
                cut(m, axis, 0, along.bins - 1) if own == axis else _merged(m, axis, along.bins)
                for own, m in zip(AXES, flow, strict=True)
            )
    return flow


def _merged(flow, axis, bins):
    end = jnp.sum(cut(flow, axis, bins - 1, None), axis, keepdims=True)
    return jnp.concatenate([cut(flow, axis, 0, bins - 1), end], axis)


def _equalise_all(excess, ground):
    flow = []
    for axis, along in zip(AXES, ground, strict=True):
        flow.append(equalise(excess, along, axis))
        excess = jnp.broadcast_to(jnp.mean(excess, axis, keepdims=True), excess.shape)
    return tuple(flow)


def _equalise_blocks(excess, fine, coarse):
    flow = [jnp.zeros_like(along) for along in differences(excess, fine)]
    for axis in _halved_axes(fine, coarse):
        first, second = _pairs(excess, axis)
        across = (first - second) / 2
        flow[axis] = _interleaved(across, jnp.zeros_like(across), axis)
        mean = (first + second) / 2
        excess = _interleaved(mean, mean, axis)
    return _fold(tuple(flow), fine)


def _halved_axes(fine, coarse):
    return [axis for axis in AXES if fine[axis].bins != coarse[axis].bins]


def _pairs(nodes, axis):
    nodes = pad_axis(nodes, axis, 0, nodes.shape[axis] % 2)
    n = nodes.shape[axis]
    return tuple(lax.slice_in_dim(nodes, start, n, 2, axis) for start in (0, 1))


def _interleaved(even, odd, axis):
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis).reshape(shape)
