"""Entropic transport: OTT's Sinkhorn on a geometry of two axes, `solver="sinkhorn"`.

The only module that imports OTT. What Sinkhorn returns is turned into a potential and a flow, which
`certify` makes rigorous: the interval holds the exact distance whatever epsilon and however early
the iterations stopped. Checked against OTT's dense geometry and POT in
tests/metrics/transport/test_sinkhorn.py.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import acceleration, sinkhorn

from instrument_ig.machine import Execution, rowwise
from instrument_ig.metrics.transport import primal_dual
from instrument_ig.metrics.transport.attempts import (
    Asked,
    Problem,
    batch_size,
    chosen,
    in_batches,
)
from instrument_ig.metrics.transport.certify import Solution, best_flow, best_potential, enclosed
from instrument_ig.metrics.transport.graph import AXES, equalise, with_hubs, without_hubs
from instrument_ig.metrics.transport.ground import Ground
from instrument_ig.metrics.transport.kernel import log_kernel, log_kernel_along
from instrument_ig.types import Transport

ROUND = 10  # iterations between two looks at the marginals
MAX_ROUNDS = 200
MARGINAL_ERROR = 1e-3  # total variation at which a pair is done
FLOOR = 1e-7  # share of the uniform distribution that stands in for empty cells
RELAXATION = 1.7  # of Sinkhorn's updates: 3 to 5 times fewer iterations than 1 at epsilon 0.01
STEPS = 300  # primal-dual: the plan costs 1 % too much, its own potential is 20 % off
HOT_MAPS = 4  # of a pair, that an iteration reads and writes

Pairs = Float[Array, "P T F"]


@jax.tree_util.register_pytree_node_class
class ImagePair(geometry.Geometry):
    """The transport problem between the T F cells of two images, without its cost matrix."""

    def __init__(self, epsilon: Float[Array, ""], ground: Ground, form: str = "recursion"):
        super().__init__(epsilon=epsilon)
        self.regularisation = epsilon
        self.ground = ground
        self.form = form

    @property
    def image(self) -> tuple[int, int]:
        """The shape [T, F] that OTT's vectors are cut from."""
        return tuple(along.bins for along in self.ground)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the cost matrix that is never formed."""
        return (int(np.prod(self.image)),) * 2

    @property
    def dtype(self):
        """The type of the potentials."""
        return self.regularisation.dtype

    def apply_lse_kernel(self, f, g, eps, vec=None, axis=0):
        """Compute eps log K exp(h / eps) of h = f (axis 0) or g (axis 1)."""
        del vec  # only for signed weights
        h = f if axis == 0 else g
        log_weights = h.reshape(self.image) / eps
        result = eps * log_kernel(log_weights, self.ground, eps, form=self.form)
        return result.reshape(h.shape), jnp.ones(h.shape, self.dtype)

    def tree_flatten(self):
        """Separate the arrays from the rest."""
        return [self.regularisation], (self.ground, self.form)

    @classmethod
    def tree_unflatten(cls, aux_data, children):
        """Put both together again."""
        return cls(*children, *aux_data)


class State(NamedTuple):
    """Where Sinkhorn stands with every pair."""

    f: Pairs  # OTT's potentials, in the unit of the cost
    g: Pairs
    error: Float[Array, " P"]  # of the plan's second marginal, total variation; the first is exact
    relaxation: Float[Array, " P"]
    iterations: Int[Array, " P"]


def solve(p: Pairs, q: Pairs, problem: Problem, asked: Asked) -> Solution:
    """Certify pairs by Sinkhorn, all of them together until the last is done.

    Args:
      p: distributions; cells may be empty.
      q: others on the same cells.
      problem: the ground distance.
      asked: epsilon and the tolerance.

    Returns:
      The solution; `transport.cost` is that of a feasible plan, its upper bound.

    Numerics: a pair is done when the marginals of its plan are within 1e-3 in total variation, or
      after 2,000 iterations. Larger epsilon blurs the plan and widens the interval; the bounds stay
      rigorous. Where an interval is wider than the tolerance, 300 primal-dual steps improve the
      potentials of the pairs that are solved together.
    Cost: two `log_kernel` an iteration, two more for the certificate; the 300 steps take as long as
      ten to twenty iterations.
    """
    advance = lambda state: advanced(state, p, q, problem, asked)
    state = jax.lax.while_loop(lambda state: jnp.any(unfinished(state)), advance, begun(p))
    return certified(state, p, q, problem, asked)


@dataclass(frozen=True)
class Round:
    """A round for pairs of the maps (P, Q), compiled once for all."""

    problem: Problem

    def __call__(self, shared, rows):
        """Return where Sinkhorn then stands with each pair of indices."""
        (P, Q), asked = shared
        (i, j), state = rows
        return advanced(state, P[i], Q[j], self.problem, asked)


@dataclass(frozen=True)
class Certificate:
    """A certificate for pairs of the maps (P, Q), compiled once for all."""

    problem: Problem

    def __call__(self, shared, rows):
        """Return the `Transport` of each pair of indices."""
        (P, Q), asked = shared
        (i, j), state = rows
        return certified(state, P[i], Q[j], self.problem, asked).transport


def solve_many(
    maps: tuple[Array, Array],
    pairs: tuple[np.ndarray, np.ndarray],
    problem: Problem,
    asked: Asked,
    execution: Execution,
) -> Transport:
    """Certify many pairs by Sinkhorn, each with as many iterations as it needs.

    Args:
      maps: rows P [N, T, F] and columns Q [M, T, F].
      pairs: indices of both.
      problem: the ground distance.
      asked: epsilon and the tolerance.
      execution: how.

    Returns:
      One entry per pair, as of `solve`, on the host.
    """
    batch = batch_size(len(pairs[0]), maps[0][0].nbytes, execution, hot_maps=HOT_MAPS)
    one_round = rowwise(Round(problem), execution)
    state = begun(jnp.zeros((len(pairs[0]), *maps[0].shape[1:]), maps[0].dtype))
    waiting = np.arange(len(pairs[0]))
    while len(waiting):
        later = in_batches(one_round, (maps, asked), chosen((pairs, state), waiting), batch)
        put = lambda old, new, at=waiting: old.at[at].set(new)
        state = jax.tree.map(put, state, later)
        waiting = waiting[np.asarray(unfinished(later))]
    batch = batch_size(len(pairs[0]), maps[0][0].nbytes, execution)
    certificate = rowwise(Certificate(problem), execution)
    return jax.device_get(in_batches(certificate, (maps, asked), (pairs, state), batch))


def begun(p: Pairs) -> State:
    """Return where Sinkhorn starts."""
    return State(
        f=jnp.zeros_like(p),
        g=jnp.zeros_like(p),
        error=jnp.full(len(p), jnp.inf, p.dtype),
        relaxation=jnp.full(len(p), RELAXATION, p.dtype),
        iterations=jnp.zeros(len(p), int),
    )


def unfinished(state: State):
    """Say which pairs want another round; NaN wants none."""
    return (state.error > MARGINAL_ERROR) & (state.iterations < ROUND * MAX_ROUNDS)


def advanced(state: State, p: Pairs, q: Pairs, problem: Problem, asked: Asked) -> State:
    """Run one round of Sinkhorn; over-relaxed only while that brings the marginals closer.

    The last iteration of a round is a plain one, after which the first marginal is exact.
    """
    geometry_of_pair = ImagePair(asked.epsilon.astype(p.dtype), problem.ground, problem.form)

    def one(f, g, relaxation, p, q):
        # OTT's vectors stay images: cells in a row would keep loops from being vectorised.
        pair = linear_problem.LinearProblem(geometry_of_pair, p, q)

        def iterate(k, potentials):
            relaxed = acceleration.Momentum(value=jnp.where(k < ROUND - 1, relaxation, 1))
            solver = sinkhorn.Sinkhorn(momentum=relaxed)
            return solver.lse_step(pair, sinkhorn.SinkhornState(potentials), k).potentials

        f, g = jax.lax.fori_loop(0, ROUND, iterate, (f, g))
        marginal = geometry_of_pair.marginal_from_potentials(f, g, axis=0)
        return f, g, jnp.sum(jnp.abs(marginal - q)) / 2

    f, g, error = jax.vmap(one)(state.f, state.g, state.relaxation, _floored(p), _floored(q))
    relaxation = jnp.where(error < state.error, RELAXATION, 1).astype(p.dtype)
    iterations = state.iterations + ROUND * unfinished(state)
    return State(f, g, error, relaxation, iterations)


def _floored(p):
    return (1 - FLOOR) * p + FLOOR * jnp.mean(p, AXES, keepdims=True)


def certified(state: State, p: Pairs, q: Pairs, problem: Problem, asked: Asked) -> Solution:
    """Certify what Sinkhorn found; `STEPS` of the flow method first, if an interval is too wide."""
    ground = problem.ground
    dual, plan = _dual_and_flow(state, p, q, problem, asked.epsilon)
    before, least = best_potential(dual, p, q, ground)
    legs, upper, _ = best_flow(plan, p, q, ground)
    repeats = jnp.any(upper - least > asked.tolerance * upper).astype(int)

    def improved(potential, flow, excess):
        start = primal_dual.State(with_hubs(potential, ground), flow)
        found = primal_dual.iterated(start, excess, ground, repeats, STEPS)
        return without_hubs(found.potential, ground)

    after = jax.vmap(improved)(before, plan, with_hubs(p - q, ground))
    after, lower = best_potential(after, p, q, ground)
    better = lower > least
    potential = jnp.where(better[:, None, None], after, before)
    found = enclosed(
        jnp.where(better, lower, least),
        upper,
        potential,
        legs,
        ground,
        tolerance=asked.tolerance,
        iterations=state.iterations,
        marginal_error=state.error,
    )
    return found._replace(transport=found.transport._replace(cost=upper))


def _dual_and_flow(state, p, q, problem, epsilon):
    """Read a potential and a flow out of the plan u K v with u = exp(f / epsilon).

    The kernel is a product over the axes, so the plan can move its first marginal along time, to
    (K_time u) (K_frequency v), and then along frequency, or the other way round. Each leg is a flow
    on lines, which leaves out the plan's back and forth; half of the mass goes either way.
    """
    ground = problem.ground
    along = partial(log_kernel_along, ground=ground, epsilon=epsilon, form=problem.form)
    log_u, log_v = state.f / epsilon, state.g / epsilon
    after_time = jnp.exp(along(log_u, axis=0) + along(log_v, axis=1))
    after_frequency = jnp.exp(along(log_u, axis=1) + along(log_v, axis=0))
    along_time = (p - after_time + after_frequency - q) / 2
    along_frequency = (p - after_frequency + after_time - q) / 2
    legs = (with_hubs(leg, ground) for leg in (along_time, along_frequency))
    return (state.f - state.g) / 2, tuple(map(equalise, legs, ground, AXES))
