"""The earth mover's distance as the cheapest flow on the image's graph: `solver="flow"`.

min sum c_e |m_e| over flows m whose divergence is p - q; its dual is max sum f (p - q) over
potentials that rise by at most c_e along every edge e. A primal-dual method (PDHG with Halpern's
anchor, reflected) works on both at once, from the coarsest level of a pyramid to the finest.
Checked against moved point masses, POT and OR-tools in tests/metrics/transport/test_flow.py.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from instrument_ig.machine import Execution, rowwise
from instrument_ig.metrics.transport.attempts import (
    Asked,
    Problem,
    batch_size,
    passes,
    until_narrow,
)
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

ITERATIONS = 100  # on the finest level, in the first attempt; the length of every compiled loop
ATTEMPTS = (1, 4, 16, 64)  # times as many
MORE = 4  # times as many, at most, on levels that cost little
BALANCE = 3.0  # how much further a step moves the flow than the potential, relative to their sizes

Pairs = Float[Array, "P T F"]
_NORM = {"linear": lambda _: 4, "circular": lambda _: 4, "categorical": lambda bins: bins + 1}


class State(NamedTuple):
    """Where the primal-dual method stands."""

    potential: Nodes
    flow: Flow


class Steps(NamedTuple):
    """How far one step goes."""

    potential: Array
    flow: tuple[Array, Array]  # along either axis
    product: tuple[float, float]  # of the two


def solve(p: Pairs, q: Pairs, problem: Problem, asked: Asked) -> Solution:
    """Solve and certify pairs together, until the last is as narrow as the tolerance.

    Until then all pairs are solved again, with four times as many iterations.

    Args:
      p: distributions; cells may be empty.
      q: others on the same cells.
      problem: the ground distance.
      asked: the tolerance.

    Returns:
      The solution; `transport.cost` is the middle of the interval, and `iterations` those of the
      last attempt on the finest level.

    Numerics: see `certify`.
    Cost: about twice `iterations` passes of 5 array reads and 3 writes over the cells, at most
      8,500 on the finest level.
    References: Beckmann, A continuous model of transportation, 1952; Chambolle and Pock, A
      first-order primal-dual algorithm for convex problems, 2011; Lu and Yang, Restarted Halpern
      PDHG for linear programming, 2024.
    """
    return until_narrow(
        lambda repeats: attempt(p, q, repeats, problem.ground, asked.tolerance), ATTEMPTS
    )


@dataclass(frozen=True)
class Attempt:
    """An attempt at pairs of the maps (P, Q), compiled once for all."""

    problem: Problem

    def __call__(self, shared, pairs):
        """Return the `Transport` of each pair of indices."""
        (P, Q), asked, repeats = shared
        i, j = pairs
        return attempt(P[i], Q[j], repeats, self.problem.ground, asked.tolerance).transport


def solve_many(
    maps: tuple[Array, Array],
    pairs: tuple[np.ndarray, np.ndarray],
    problem: Problem,
    asked: Asked,
    execution: Execution,
) -> Transport:
    """Solve and certify many pairs, each with as many iterations as it needs.

    Args:
      maps: rows P [N, T, F] and columns Q [M, T, F].
      pairs: indices of both.
      problem: the ground distance.
      asked: the tolerance.
      execution: how.

    Returns:
      One entry per pair, as of `solve`, on the host.
    """
    batch = batch_size(len(pairs[0]), maps[0][0].nbytes, execution)
    program = rowwise(Attempt(problem), execution)
    return passes(program, (maps, asked), pairs, ATTEMPTS, batch)


def attempt(
    p: Pairs, q: Pairs, repeats: Int[Array, ""], ground: Ground, tolerance: Float[Array, ""]
) -> Solution:
    """Run `repeats` times `ITERATIONS` on the finest level, more on coarser ones, and certify."""
    descend = lambda excess: _descend(excess, levels(ground), repeats, 1)
    state = jax.vmap(descend)(with_hubs(p - q, ground))
    potential = without_hubs(state.potential, ground)
    iterations = jnp.full(len(p), ITERATIONS * repeats)
    options = {"tolerance": tolerance, "iterations": iterations}
    return certify([potential], state.flow, p, q, ground, **options)


def without_hubs(potential: Nodes, ground: Ground) -> Float[Array, "*batch T F"]:
    """Keep the cells of an image alone."""
    for axis, along in zip(AXES, ground, strict=True):
        potential = cut(potential, axis, 0, along.bins)
    return potential


def _descend(excess, grounds, repeats, times):
    """Solve the coarser levels first: their solution is where the finest starts."""
    fine, *coarser = grounds
    if coarser:
        blocks = coarsen(excess, fine, coarser[0])
        coarse = _descend(blocks, coarser, repeats, min(2 * times, MORE))
        potential = refine_potential(coarse.potential, fine, coarser[0])
        start = State(potential, refine_flow(coarse.flow, fine, coarser[0]))
    else:
        start = State(jnp.zeros_like(excess), complete(excess, fine))
    return primal_dual(start, excess, fine, repeats, times * ITERATIONS)


def primal_dual(
    start: State, excess: Nodes, ground: Ground, repeats: Int[Array, ""], iterations: int
) -> State:
    """Run PDHG whose iterates, reflected, are drawn back to the start: 1 / (k + 2) of the way.

    One step T of PDHG raises the potential by sigma (excess - divergence), and lowers the flow by
    tau times the rise of the potential, as it was and went, less what its cost allows. Halpern's
    iteration is z -> (2 T z - z) (k + 1) / (k + 2) + start / (k + 2). Flows are in units of tau.

    Args:
      start: of one pair; the better it is, the fewer iterations it takes.
      excess: p - q at every node.
      ground: the axes' costs.
      repeats: how often `iterations` are run. Accelerators run a loop of known length without
        asking the host after every step.
      iterations: of one compiled loop.

    Cost: 5 array reads and 3 writes over the cells per iteration.
    """
    if ground[0].bins > ground[1].bins:  # processors vectorise along the last axis
        turned = State(start.potential.T, tuple(along.T for along in start.flow[::-1]))
        found = primal_dual(turned, excess.T, ground[::-1], repeats, iterations)
        return State(found.potential.T, tuple(along.T for along in found.flow[::-1]))
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

    def run(repeat, carry):
        first = repeat * iterations
        return lax.fori_loop(0, iterations, lambda k, carry: step(first + k, carry), carry)

    costs = edge_costs(ground)
    reflected, flow = lax.fori_loop(0, repeats, run, (start.potential, flow_start))
    last = (repeats * iterations).astype(excess.dtype) - 1
    potential = anchored(last, reflected, start.potential)
    return State(potential, tuple(m * tau for m, tau in zip(flow, steps.flow, strict=True)))


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
    return Steps(1 / tau, tuple(tau * share for share in product), product)


def _clip(values, limit):  # jnp.clip takes care of NaN, for three times the instructions
    values = jnp.where(values > limit, limit, values)
    return jnp.where(values < -limit, -limit, values)
