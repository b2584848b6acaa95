"""Rigorous bounds on the earth mover's distance, from any potential and any flow.

A potential f that rises by at most the ground distance between any two cells proves W1 >= sum f
(p - q); a flow m with divergence p - q proves W1 <= its cost (weak duality). Here any potential is
first divided by what it exceeds the ground distance by, and any flow is completed. All sums are
bounded outwards by the rounding errors of float32, so that the exact W1, of the given float32 maps
each divided by its sum, lies in [lower, upper] in exact arithmetic. Checked in float64 NumPy and
against POT and OR-tools in tests/metrics/transport/test_certify.py.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from instrument_ig.metrics.transport.graph import AXES, Flow, divergence, flow_cost, with_hubs
from instrument_ig.metrics.transport.ground import Ground, diameter
from instrument_ig.metrics.transport.pyramid import complete
from instrument_ig.types import Transport

UNIT = 2.0**-24  # float32: one operation's relative error
SLACK = 1 + 64 * UNIT  # covers the few operations after a sum; every bound here has less than 32

Cells = Float[Array, "*batch T F"]


class Solution(NamedTuple):
    """A certified distance and what certifies it."""

    transport: Transport
    potential: Float[Array, "*batch T F"]  # 1-Lipschitz; its centred values are the gradient by p
    flow: Flow  # feasible: divergence p - q, cost at most `transport.upper`


def tree_sum(cells: Cells) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Sum the last two axes in a fixed order, and bound the rounding error.

    Adding in halves makes the error at most the depth of the tree times the unit roundoff times the
    sum of absolute values, where a sum in unknown order would have to reckon with the number of
    cells. The bound also covers cells that were rounded up to eight times themselves.
    """
    flat = cells.reshape(*cells.shape[:-2], -1)
    depth = math.ceil(math.log2(max(flat.shape[-1], 2)))
    widths = [(0, 0)] * (flat.ndim - 1) + [(0, 2**depth - flat.shape[-1])]
    total, absolute = (_halving_sum(jnp.pad(x, widths)) for x in (flat, jnp.abs(flat)))
    return total, absolute * ((depth + 8) * UNIT * SLACK)


def _halving_sum(flat):
    while (half := flat.shape[-1] // 2) > 0:
        flat = flat[..., :half] + flat[..., half:]
    return flat[..., 0]


def project_lipschitz(potential: Cells, ground: Ground) -> Cells:
    """Return the largest 1-Lipschitz function below a potential: min_y potential(y) + d(x, y).

    Args:
      potential: any; a cell at infinity does not bind the others.
      ground: the distance.

    Returns:
      The projection: the potential itself where it was 1-Lipschitz already.

    Numerics: 1-Lipschitz up to one rounding of its own size; `lower_bound` measures what is left.
    Cost: two sweeps along each axis, forth and back; two more around a ring.
    """
    for axis, along in zip(AXES, ground, strict=True):
        potential = _project_axis(potential, along, axis)
    return potential


def _project_axis(potential, along, axis):
    if along.kind == "categorical":
        return jnp.minimum(potential, jnp.min(potential, axis, keepdims=True) + along.edge)

    def reach(lowest, row):
        lowest = jnp.minimum(lowest + along.edge, row)
        return lowest, lowest

    rows = jnp.moveaxis(potential, axis, 0)
    for reverse in (False, True):
        last, rows = lax.scan(reach, jnp.full_like(rows[0], jnp.inf), rows, reverse=reverse)
        if along.kind == "circular":
            _, rows = lax.scan(reach, last, rows, reverse=reverse)
    return jnp.moveaxis(rows, 0, axis)


def sharpen(potential: Cells, p: Cells, q: Cells, ground: Ground) -> Cells:
    """Raise the potential where there is more of p and lower it where there is more of q.

    As far as the ground distance allows: bound by the cells with p < q alone, then by the cells
    with p > q alone (two steps of coordinate ascent). The result is 1-Lipschitz, and the bound it
    gives is at least that of a potential which was.
    """
    sunk = _project_from(p < q, potential, ground)
    return -_project_from(p > q, -sunk, ground)


def _project_from(binding, potential, ground):
    projected = project_lipschitz(jnp.where(binding, potential, jnp.inf), ground)
    return jnp.where(projected < jnp.inf, projected, potential)


def lower_bound(potential: Cells, p: Cells, q: Cells, ground: Ground) -> Float[Array, "*batch"]:
    """Bound W1 from below by a potential, rigorously whatever the potential is.

    sum f (p - q) over the steepest rise of f in units of the ground distance. Tight only for
    potentials that are nearly 1-Lipschitz (`project_lipschitz`, `sharpen`).
    """
    excess = p - q
    q_mass, q_error = tree_sum(q)
    potential = potential - (tree_sum(potential * q)[0] / q_mass)[..., None, None]
    gain, gain_error = tree_sum(potential * excess)
    offset, offset_error = tree_sum(potential * q)
    off_balance = _most(tree_sum(excess)) * _most((offset, offset_error)) / (q_mass - q_error)
    steepness = _steepness(potential, ground)
    value = (gain - gain_error - off_balance * SLACK) / (steepness * _most(tree_sum(p)) * SLACK)
    return jnp.where(steepness > 0, jnp.maximum(value, 0), 0 * gain)


def _most(total_and_error):
    total, error = total_and_error
    return jnp.abs(total) + error


def _steepness(potential, ground):
    rises = [
        _steepest(potential, along, axis) / along.edge
        for axis, along in zip(AXES, ground, strict=True)
        if along.bins > 1
    ]
    return jnp.max(jnp.stack([*rises, jnp.zeros(potential.shape[:-2])]), 0)


def _steepest(potential, along, axis):
    if along.kind == "categorical":
        return jnp.max(jnp.ptp(potential, axis), -1)
    if along.kind == "circular":
        potential = jnp.concatenate([potential, lax.slice_in_dim(potential, 0, 1, axis=axis)], axis)
    return jnp.max(jnp.abs(jnp.diff(potential, axis=axis)), AXES)


def leftover(flow: Flow, p: Cells, q: Cells, ground: Ground) -> Float[Array, "*batch A B"]:
    """Return what the flow leaves to be carried away at every node: p - q - divergence."""
    return with_hubs(p - q, ground) - divergence(flow, ground)


def upper_bound(flow: Flow, p: Cells, q: Cells, ground: Ground) -> Float[Array, "*batch"]:
    """Bound W1 from above by a flow, rigorously whatever the flow is.

    What the flow leaves is charged at the largest distance there is. Tight only for flows which
    leave nothing but rounding errors (`complete` carries the rest).
    """
    p_mass, p_error = tree_sum(p)
    cost = sum(_most(tree_sum(along)) for along in flow_cost(flow, ground))
    left = _most(tree_sum(jnp.abs(leftover(flow, p, q, ground))))
    off_balance = _most(tree_sum(p - q))
    passed = sum(_most(tree_sum(jnp.abs(along))) for along in flow)
    moved = _most(tree_sum(jnp.abs(p - q)))
    unseen = 8 * UNIT * (2 * passed + moved)  # rounding of the leftover itself
    charged = diameter(ground) * (left + off_balance + unseen) / 2
    return (cost + charged) * SLACK / (p_mass - p_error)


def certify(
    potential: Cells,
    flow: Flow,
    p: Cells,
    q: Cells,
    ground: Ground,
    *,
    tolerance: float | Float[Array, ""],
    iterations: Int[Array, "*batch"],
) -> Solution:
    """Make the best of a solver's potential and flow: an interval and what proves it.

    Args:
      potential: any; it is sharpened and projected.
      flow: any; it is completed.
      p: a distribution.
      q: another.
      ground: the distance.
      tolerance: relative width of the interval, (upper - lower) / upper, that counts as converged.
      iterations: of the solver, handed through.

    Returns:
      The solution; `cost` is the middle of the interval.

    Numerics: rounding widens the interval by about 1e-6 of the flow's sum over edges, which is
      1e-4 of the distance at 128 bins an axis and 1e-3 at 1025. p = q gives exactly zero.
      Subnormal shares (below 1.2e-38) count as zero.
    Cost: that of some 60 passes over the cells.
    """
    potential = sharpen(potential, p, q, ground)
    rest = leftover(flow, p, q, ground)
    flow = jax.tree.map(jnp.add, flow, complete(rest, ground))
    upper = upper_bound(flow, p, q, ground)
    lower = jnp.minimum(lower_bound(potential, p, q, ground), upper)
    transport = Transport(
        cost=(lower + upper) / 2,
        lower=lower,
        upper=upper,
        converged=upper - lower <= tolerance * upper,
        iterations=iterations,
        marginal_error=jnp.sum(jnp.abs(rest), AXES) / 2,
    )
    return Solution(transport, potential, flow)
