"""Rigorous bounds on the earth mover's distance, from any potential and any flow.

A potential f that rises by at most the ground distance between any two cells proves W1 >= sum f
(p - q); a flow m with divergence p - q proves W1 <= its cost (weak duality). Here any potential is
first divided by what it exceeds the ground distance by, and any flow is completed. All sums are
bounded outwards by the rounding errors of float32, so that the exact W1, of the given float32 maps
each divided by its sum, lies in [lower, upper] in exact arithmetic. Checked in float64 NumPy and
against POT and OR-tools in tests/metrics/transport/test_certify.py.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from instrument_ig.metrics.transport.graph import (
    AXES,
    Flow,
    divergence,
    edge_costs,
    with_hubs,
)
from instrument_ig.metrics.transport.ground import Ground, diameter
from instrument_ig.metrics.transport.lipschitz import project_lipschitz
from instrument_ig.metrics.transport.pyramid import complete
from instrument_ig.types import Transport

UNIT = 2.0**-24  # float32: one operation's relative error
SLACK = 1 + 64 * UNIT  # covers the few operations after a sum; every bound here has less than 32
NOTHING = 64 * UNIT  # of the diameter: distances that float32 does not tell from zero

Cells = Float[Array, "*batch T F"]


class Solution(NamedTuple):
    """A certified distance and what certifies it."""

    transport: Transport
    potential: Float[Array, "*batch T F"]  # 1-Lipschitz; its centred values are the gradient by p
    flow: Flow  # feasible: divergence p - q, cost at most `transport.upper`


def tree_sums(
    cells: Sequence[Float[Array, "*batch _ _"]],
) -> tuple[list[Float[Array, "*batch"]], float]:
    """Sum the last two axes of several arrays in a fixed order, and bound the rounding.

    Adding in halves makes the error at most the depth of the tree times the unit roundoff times the
    sum of absolute values, where a sum in unknown order would have to reckon with the number of
    cells.

    Returns:
      The sums, and what times a sum of absolute values bounds the error of any of them; it also
      covers cells that were rounded up to eight times themselves.
    """
    flat = [x.reshape(*x.shape[:-2], -1) for x in cells]
    depth = math.ceil(math.log2(max(2, *(x.shape[-1] for x in flat))))
    widths = [[(0, 0)] * (x.ndim - 1) + [(0, 2**depth - x.shape[-1])] for x in flat]
    sums = jnp.stack([jnp.pad(x, width) for x, width in zip(flat, widths, strict=True)])
    for _ in range(depth):
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return list(sums[..., 0]), (depth + 8) * UNIT * SLACK


def c_transform(potential: Cells, p: Cells, q: Cells, ground: Ground) -> Cells:
    """Raise the potential where there is more of p and lower it where there is more of q.

    As far as the ground distance allows: bound by the cells with p < q alone, then by the cells
    with p > q alone (two steps of coordinate ascent). The result is 1-Lipschitz, and the bound it
    gives is at least that of a potential which was.
    """
    transform = lambda f, binding: (-_project_from(binding, f, ground), None)
    return lax.scan(transform, potential, jnp.stack([p < q, p > q]))[0]


def _project_from(binding: Bool[Array, "*batch T F"], potential, ground):
    projected = project_lipschitz(jnp.where(binding, potential, jnp.inf), ground)
    return jnp.where(projected < jnp.inf, projected, potential)


def lower_bound(potential: Cells, p: Cells, q: Cells, ground: Ground) -> Float[Array, "*batch"]:
    """Bound W1 from below by a potential, rigorously whatever the potential is.

    sum f (p - q) over the steepest rise of f in units of the ground distance. Tight only for
    potentials that are nearly 1-Lipschitz (`c_transform`).
    """
    excess = p - q
    centre = jnp.sum(potential * q, AXES, keepdims=True) / jnp.sum(q, AXES, keepdims=True)
    potential = potential - centre  # any would do; this one makes `offset` small
    gains, offsets = potential * excess, potential * q
    signed = (gains, offsets, excess)
    (gain, offset, balance, *sizes, p_mass, q_mass), rounding = tree_sums(
        [*signed, *map(jnp.abs, signed), p, q]
    )
    gain_error, offset_error, balance_error = (rounding * size for size in sizes)
    off_balance = (jnp.abs(balance) + balance_error) * (jnp.abs(offset) + offset_error)
    off_balance = off_balance / (q_mass * (1 - rounding))
    steepness = _steepness(potential, ground)
    value = gain - gain_error - off_balance * SLACK
    value = value / (steepness * p_mass * (1 + rounding) * SLACK)
    return jnp.where(steepness > 0, jnp.maximum(value, 0), 0 * gain)


def _steepness(potential, ground):
    rises = [
        _steepest(potential, along, axis) / along.edge
        for axis, along in zip(AXES, ground, strict=True)
        if along.bins > 1
    ]
    return jnp.max(jnp.stack([*rises, jnp.zeros(potential.shape[:-2], potential.dtype)]), 0)


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
    excess = p - q
    sizes = map(jnp.abs, (*flow, leftover(flow, p, q, ground), excess))
    (time, frequency, left, moved, balance, p_mass), rounding = tree_sums([*sizes, excess, p])
    most = 1 + rounding
    cost = sum(x * cost for x, cost in zip((time, frequency), edge_costs(ground), strict=True))
    off_balance = jnp.abs(balance) + rounding * moved
    unseen = 8 * UNIT * (2 * (time + frequency) + moved) * most  # rounding of the leftover itself
    charged = diameter(ground) * (left * most + off_balance + unseen) / 2
    return (cost * most + charged) * SLACK / (p_mass * (1 - rounding))


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
      potential: any; the better of its c-transforms, begun on either side, is taken.
      flow: any; it is completed. The completion of no flow at all is taken where it costs less.
      p: a distribution.
      q: another.
      ground: the distance.
      tolerance: relative width of the interval, (upper - lower) / upper, that counts as converged.
      iterations: of the solver, handed through.

    Returns:
      The solution; `cost` is the middle of the interval.

    Numerics: rounding widens the interval by about 1e-6 of the flow's sum over edges, which is
      1e-4 of the distance at 128 bins an axis and 1e-3 at 1025. p = q gives exactly zero, and
      bounds of 0 and less than 4e-6 of the diameter, all that is known of nearly equal maps, count
      as converged. Subnormal shares (below 1.2e-38) count as zero.
    Cost: that of some 100 passes over the cells.
    """
    potential, lower = best_potential(potential, p, q, ground)
    flow, upper, rest = best_flow(flow, p, q, ground)
    options = {"tolerance": tolerance, "iterations": iterations, "marginal_error": rest}
    return enclosed(lower, upper, potential, flow, ground, **options)


def enclosed(
    lower: Float[Array, "*batch"],
    upper: Float[Array, "*batch"],
    potential: Cells,
    flow: Flow,
    ground: Ground,
    *,
    tolerance: float | Float[Array, ""],
    iterations: Int[Array, "*batch"],
    marginal_error: Float[Array, "*batch"],
) -> Solution:
    """Put bounds and what proves them together."""
    lower = jnp.minimum(lower, upper)
    narrow = upper - lower <= tolerance * upper
    transport = Transport(
        cost=(lower + upper) / 2,
        lower=lower,
        upper=upper,
        converged=narrow | (upper <= NOTHING * diameter(ground)),
        iterations=iterations,
        marginal_error=marginal_error,
    )
    return Solution(transport, potential, flow)


def best_potential(
    potential: Cells, p: Cells, q: Cells, ground: Ground
) -> tuple[Cells, Float[Array, "*batch"]]:
    """Return the better of the c-transforms of f, and of -f from q to p, and its lower bound."""
    starts, sources, targets = map(jnp.stack, ((potential, -potential), (p, q), (q, p)))
    one, other = c_transform(starts, sources, targets, ground)
    sides = jnp.stack([one, -other])
    lower = jax.vmap(lambda f: lower_bound(f, p, q, ground))(sides)
    second = lower[1] > lower[0]
    potential = jnp.where(second[..., None, None], sides[1], sides[0])
    return potential, jnp.where(second, lower[1], lower[0])


def best_flow(
    flow: Flow, p: Cells, q: Cells, ground: Ground
) -> tuple[Flow, Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Complete the flow, and none: where p is nearly q, a solver's flow is mostly noise.

    Returns:
      The cheaper of the two, its upper bound, and what the given flow left, total variation.
    """
    rest = leftover(flow, p, q, ground)
    additions = complete(jnp.stack([rest, with_hubs(p - q, ground)]), ground)
    flows = tuple(added.at[0].add(along) for added, along in zip(additions, flow, strict=True))
    upper = jax.vmap(lambda flow: upper_bound(flow, p, q, ground))(flows)
    alone = upper[1] < upper[0]
    choose = lambda pair: jnp.where(alone[..., None, None], pair[1], pair[0])
    flow = tuple(map(choose, flows))
    return flow, jnp.where(alone, upper[1], upper[0]), jnp.sum(jnp.abs(rest), AXES) / 2
