"""A first-order method for the cheapest flow and the steepest potential together.

PDHG with Halpern's anchor, reflected, on one level of the graph. Checked step by step against dense
matrices in float64 in tests/metrics/transport/test_primal_dual.py.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from instrument_ig.metrics.transport.graph import Flow, Nodes, differences, divergence, edge_costs
from instrument_ig.metrics.transport.ground import Ground, diameter

BALANCE = 3.0  # how much further a step moves the flow than the potential, relative to their sizes
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


def iterated(
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
        found = iterated(turned, excess.T, ground[::-1], repeats, iterations)
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
    potential = (potential + reflect(potential, flow)) / 2  # T's own: reflections overshoot
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
