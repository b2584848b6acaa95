"""The earth mover's distance as the cheapest flow on the image's graph: `solver="flow"`.

min sum c_e |m_e| over flows m whose divergence is p - q; its dual is max sum f (p - q) over
potentials that rise by at most c_e along every edge e. A primal-dual method (PDHG with Halpern's
anchor, reflected) works on both at once, from the coarsest level of a pyramid to the finest.
Checked against moved point masses, POT and OR-tools in tests/metrics/transport/test_flow.py.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from instrument_ig.metrics.transport.certify import Solution, certify
from instrument_ig.metrics.transport.graph import (
    AXES,
    Flow,
    Nodes,
    cut,
    differences,
    divergence,
    edge_costs,
    with_hubs,
)
from instrument_ig.metrics.transport.ground import Ground, diameter
from instrument_ig.metrics.transport.pyramid import (
    coarsen,
    complete,
    levels,
    refine_flow,
    refine_potential,
)
from instrument_ig.types import Transport

ITERATIONS = 100  # on the finest level, in the first attempt
MORE = 4  # times as many in every further attempt, and on levels that cost little
MAX_ITERATIONS = 6400  # in the last attempt
BALANCE = 3.0  # how much further a step moves the flow than the potential, relative to their sizes
BATCH, MOST = 2**18, 16  # bytes of one array of a batch of pairs, which stays in cache; pairs

Pairs = Float[Array, "P T F"]
_NORM = {"linear": lambda _: 4, "circular": lambda _: 4, "categorical": lambda bins: bins + 1}


class _State(NamedTuple):
    potential: Nodes
    flow: Flow


class _Steps(NamedTuple):
    potential: Array
    flow: tuple[Array, Array]  # along either axis
    product: tuple[float, float]  # of the two


def solve(
    p: Pairs,
    q: Pairs,
    ground: Ground,
    *,
    tolerance: float,
    max_iterations: int = MAX_ITERATIONS,
) -> Solution:
    """Solve and certify pairs in one compiled loop, which the slowest pair ends.

    Args:
      p: distributions; cells may be empty.
      q: others on the same cells.
      ground: the axes' costs.
      tolerance: relative width of the interval that counts as converged. Until it is reached, a
        pair is solved again with four times as many iterations.
      max_iterations: on the finest level, in the last attempt.

    Returns:
      The solution; `transport.cost` is the middle of the interval, and `iterations` those of the
      last attempt on the finest level.

    Numerics: see `certify`.
    Cost: about three times `iterations` passes of 5 array reads and 3 writes over the cells.
    References: Beckmann, A continuous model of transportation, 1952; Chambolle and Pock, A
      first-order primal-dual algorithm for convex problems, 2011; Lu and Yang, Restarted Halpern
      PDHG for linear programming, 2024.
    """

    def one(p, q):
        def unfinished(carry):
            iterations, found = carry
            wide = found.transport.upper - found.transport.lower
            return (wide > tolerance * found.transport.upper) & (iterations <= max_iterations)

        def attempt(carry):
            iterations, _ = carry
            return iterations * MORE, _certified(p, q, ground, iterations, tolerance)

        first = attempt((jnp.asarray(ITERATIONS), None))
        return lax.while_loop(unfinished, attempt, first)[1]

    return jax.vmap(one)(p, q)


def solve_many(
    p: Pairs,
    q: Pairs,
    ground: Ground,
    *,
    tolerance: float,
    max_iterations: int = MAX_ITERATIONS,
    report: Callable[[int, int], None] | None = None,
) -> Transport:
    """Solve and certify many pairs, each with as many iterations as it needs.

    Batches small enough for the cache run one after the other; only the pairs whose interval is
    wider than the tolerance go on to the next attempt.

    Args:
      p: distributions; cells may be empty.
      q: others on the same cells.
      ground: the axes' costs.
      tolerance: relative width of the interval that counts as converged.
      max_iterations: on the finest level, in the last attempt.
      report: called with the number of finished pairs and of all.

    Returns:
      One entry per pair, as of `solve`.

    Numerics: see `certify`.
    Cost: see `solve`; memory for some twenty copies of a batch.
    """
    batch = min(max(1, BATCH // p[0].nbytes), MOST, len(p))
    single = jnp.float32, jnp.float32, jnp.float32, bool, int, jnp.float32
    found = Transport(*(np.zeros(len(p), kind) for kind in single))
    waiting, iterations = np.arange(len(p)), ITERATIONS
    while len(waiting) and iterations <= max_iterations:
        for start in range(0, len(waiting), batch):
            some = waiting[start : start + batch]
            filled = np.resize(some, batch)  # repeats a pair where too few are left
            part = _transports(
                p[filled], q[filled], jnp.asarray(iterations), ground=ground, tolerance=tolerance
            )
            for field, values in zip(found, part, strict=True):
                field[some] = np.asarray(values)[: len(some)]
        wide = found.upper - found.lower > tolerance * found.upper
        waiting, iterations = waiting[wide[waiting]], iterations * MORE
        if report:
            report(len(p) - len(waiting), len(p))
    return Transport(*map(jnp.asarray, found))


def polish(
    potential: Float[Array, "T F"],
    flow: Flow,
    p: Float[Array, "T F"],
    q: Float[Array, "T F"],
    ground: Ground,
    iterations: int,
) -> Float[Array, "T F"]:
    """Improve the potential of one pair, from any potential and flow, on the finest level alone.

    Args:
      potential: where to start.
      flow: feasible or not; the better both are, the fewer iterations it takes.
      p: a distribution.
      q: another.
      ground: the axes' costs.
      iterations: primal-dual steps.

    Returns:
      The potential, 1-Lipschitz only in the limit (see `certify`).

    Cost: 5 array reads and 3 writes over the cells per iteration.
    """
    if ground[0].bins > ground[1].bins:  # processors vectorise along the last axis
        flow = tuple(along.T for along in flow[::-1])
        return polish(potential.T, flow, p.T, q.T, ground[::-1], iterations).T
    start = _State(with_hubs(potential, ground), flow)
    state = _iterate(start, with_hubs(p - q, ground), ground, jnp.asarray(iterations))
    return _without_hubs(state.potential, ground)


@partial(jax.jit, static_argnames="ground")
def _transports(p, q, iterations, *, ground, tolerance):
    one = lambda p, q: _certified(p, q, ground, iterations, tolerance).transport
    return jax.vmap(one)(p, q)


def _certified(p, q, ground, iterations, tolerance):
    if ground[0].bins > ground[1].bins:  # processors vectorise along the last axis
        turned = _certified(p.T, q.T, ground[::-1], iterations, tolerance)
        time, frequency = (along.T for along in turned.flow[::-1])
        return turned._replace(potential=turned.potential.T, flow=(time, frequency))
    state = _descend(with_hubs(p - q, ground), levels(ground), iterations, MORE * iterations)
    potential = _without_hubs(state.potential, ground)
    return certify(potential, state.flow, p, q, ground, tolerance=tolerance, iterations=iterations)


def _without_hubs(potential, ground):
    for axis, along in zip(AXES, ground, strict=True):
        potential = cut(potential, axis, 0, along.bins)
    return potential


def _descend(excess, grounds, iterations, most):
    """Solve the coarser levels first: their solution is where the finest starts."""
    fine, *coarser = grounds
    if not coarser:
        start = _State(jnp.zeros_like(excess), complete(excess, fine))
        return _iterate(start, excess, fine, iterations)
    more = jnp.minimum(2 * iterations, most)
    coarse = _descend(coarsen(excess, fine, coarser[0]), coarser, more, most)
    start = _State(
        refine_potential(coarse.potential, fine, coarser[0]),
        refine_flow(coarse.flow, fine, coarser[0]),
    )
    return _iterate(start, excess, fine, iterations)


def _iterate(start, excess, ground, iterations):
    """Run PDHG whose iterates, reflected, are drawn back to the start: 1 / (k + 2) of the way.

    One step T of PDHG raises the potential by sigma (excess - divergence), and lowers the flow by
    tau times the rise of the potential, as it was and went, less what its cost allows. Halpern's
    iteration is z -> (2 T z - z) (k + 1) / (k + 2) + start / (k + 2). Flows are in units of tau.
    """
    steps = _step_sizes(start, ground)
    source = steps.potential * excess
    flow_start = tuple(m / tau for m, tau in zip(start.flow, steps.flow, strict=True))

    def reflect(potential, flow):
        leaving = divergence(
            tuple(m * product for m, product in zip(flow, steps.product, strict=True)), ground
        )
        return potential + 2 * (source - leaving)

    def shrink(flow, rise, cost):
        return flow - rise - _clip(flow - rise, cost)

    def anchored(k, value, anchor):
        weight = 1 / (k + 2)
        return (1 - weight) * value + weight * anchor

    def step(k, carry):
        k = k.astype(excess.dtype)
        reflected, flow = carry  # the potential is anchored where it is read, to store it once
        reflected = reflect(anchored(k - 1, reflected, start.potential), flow)
        rises = differences(reflected, ground)
        turned = (
            2 * shrink(m, rise, cost) - m for m, rise, cost in zip(flow, rises, costs, strict=True)
        )
        return reflected, tuple(
            anchored(k, m, anchor) for m, anchor in zip(turned, flow_start, strict=True)
        )

    costs = edge_costs(ground)
    reflected, flow = lax.fori_loop(0, iterations, step, (start.potential, flow_start))
    last = iterations.astype(excess.dtype) - 1
    potential = anchored(last, reflected, start.potential)
    reflected = reflect(potential, flow)
    rises = differences(reflected, ground)
    flow = map(shrink, flow, rises, costs)
    return _State(
        (potential + reflected) / 2,
        tuple(m * tau for m, tau in zip(flow, steps.flow, strict=True)),
    )


def _step_sizes(state, ground):
    """Balance the steps: sizes of the flow and of the potential in the metric they make.

    Flows across expensive edges are small, and take small steps. sigma tau ||divergence||^2 = 1.
    """
    costs = edge_costs(ground)
    norms = [_NORM[along.kind](along.bins) for along in ground]
    total = sum(norm / cost for norm, cost in zip(norms, costs, strict=True) if cost)
    product = tuple(1 / (cost * total) if cost else 0.0 for cost in costs)
    flow = sum(cost * total * jnp.sum(m**2) for m, cost in zip(state.flow, costs, strict=True))
    potential = jnp.sum((state.potential - jnp.mean(state.potential)) ** 2)
    guess = (diameter(ground) / 4) ** 2 * state.potential.size  # at the coarsest level, from zero
    ratio = flow / jnp.where(potential > 0, potential, guess)
    tau = jnp.where(ratio > 0, BALANCE * jnp.sqrt(ratio), 1.0)
    return _Steps(1 / tau, tuple(tau * share for share in product), product)


def _clip(values, limit):  # jnp.clip takes care of NaN, for three times the instructions
    values = jnp.where(values > limit, limit, values)
    return jnp.where(values < -limit, -limit, values)
