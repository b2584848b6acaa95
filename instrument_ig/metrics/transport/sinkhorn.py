"""Entropic transport: OTT's Sinkhorn on a geometry of two axes, `solver="sinkhorn"`.

The only module that imports OTT. What Sinkhorn returns is turned into a potential and a flow, which
`certify` makes rigorous: the interval holds the exact distance whatever epsilon and however early
the iterations stopped. Checked against OTT's dense geometry and POT in
tests/metrics/transport/test_sinkhorn.py.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn

from instrument_ig.metrics.transport.certify import Solution, certify, lower_bound, sharpen
from instrument_ig.metrics.transport.flow import polish
from instrument_ig.metrics.transport.graph import AXES, level_out, with_hubs
from instrument_ig.metrics.transport.ground import Ground
from instrument_ig.metrics.transport.kernel import log_kernel, log_kernel_along
from instrument_ig.types import Transport

ROUND = 10  # iterations between two looks at the marginals
MARGINAL_ERROR = 1e-3  # total variation at which a pair is done
FLOOR = 1e-7  # share of the uniform distribution that stands in for empty cells
RELAXATION = 1.7  # of Sinkhorn's updates: 3 to 5 times fewer iterations than 1 at epsilon 0.01
POLISH = 300  # primal-dual steps: the plan costs 1 % too much, its own potential is 20 % off
BATCH = 2**20  # bytes of one array of a batch of pairs: stays in cache

Pairs = Float[Array, "P T F"]


@jax.tree_util.register_pytree_node_class
class ImagePairs(geometry.Geometry):
    """P pairs of images as one transport problem between P T F cells.

    No mass can go from one pair to another, so that Sinkhorn on all is Sinkhorn on each. Every pair
    has a relaxation w of its own: an update goes w times as far as Sinkhorn's.
    """

    def __init__(self, relaxation: Float[Array, " P"], ground: Ground, epsilon: float):
        super().__init__(epsilon=epsilon)
        self.relaxation = relaxation
        self.ground = ground

    @property
    def images(self) -> tuple[int, int, int]:
        """The shape [P, T, F] that OTT's vectors are cut from."""
        return len(self.relaxation), *(along.bins for along in self.ground)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the cost matrix that is never formed."""
        return (int(np.prod(self.images)),) * 2

    @property
    def dtype(self):
        """The type of the potentials."""
        return self.relaxation.dtype

    def apply_lse_kernel(self, f, g, eps, vec=None, axis=0):
        """Compute eps log K exp(h / eps) of h = f (axis 0) or g (axis 1)."""
        del vec  # only for signed weights
        images = (f if axis == 0 else g).reshape(self.images)
        result = eps * log_kernel(images / eps, self.ground, self._epsilon_init)
        return result.ravel(), jnp.ones(self.shape[0], self.dtype)

    def update_potential(self, f, g, log_marginal, iteration=None, axis=0):
        """Go towards Sinkhorn's update of g (axis 0) or f (axis 1), and beyond."""
        target = super().update_potential(f, g, log_marginal, iteration, axis)
        start = g if axis == 0 else f
        far = jnp.repeat(self.relaxation, self.images[1] * self.images[2])
        return start + far * (target - start)

    def tree_flatten(self):
        """Separate the arrays from the rest."""
        return [self.relaxation], (self.ground, self._epsilon_init)

    @classmethod
    def tree_unflatten(cls, aux_data, children):
        """Put both together again."""
        return cls(*children, *aux_data)


class _State(NamedTuple):
    f: Pairs  # OTT's potentials, in the unit of the cost
    g: Pairs
    error: Float[Array, " P"]  # of the plan's second marginal, total variation
    relaxation: Float[Array, " P"]


def solve(
    p: Pairs,
    q: Pairs,
    ground: Ground,
    *,
    epsilon: float,
    tolerance: float,
    max_iterations: int = 2000,
) -> Solution:
    """Certify pairs by Sinkhorn in one compiled loop, which the slowest pair ends.

    Args:
      p: distributions; cells may be empty.
      q: others on the same cells.
      ground: the axes' costs.
      epsilon: regularisation, in the unit of the cost.
      tolerance: relative width of the interval that counts as converged.
      max_iterations: of Sinkhorn.

    Returns:
      The solution; `transport.cost` is that of a feasible plan, its upper bound.

    Numerics: see `solve_many`.
    Cost: two `log_kernel` an iteration; for the certificate about ten, and 300 steps of the flow
      method, which take the time of some twenty iterations.
    """
    advance = partial(_advance, p=_floored(p), q=_floored(q), ground=ground, epsilon=epsilon)

    def unfinished(carry):
        state, iterations = carry
        return jnp.any((state.error > MARGINAL_ERROR) & (iterations < max_iterations))

    def one_round(carry):
        state, iterations = carry
        return advance(state), iterations + ROUND * (state.error > MARGINAL_ERROR)

    start = _start(p), jnp.zeros(len(p), int)
    state, iterations = jax.lax.while_loop(unfinished, one_round, start)
    return _certified(state, p, q, iterations, ground, epsilon, tolerance)


def solve_many(
    p: Pairs,
    q: Pairs,
    ground: Ground,
    *,
    epsilon: float,
    tolerance: float,
    max_iterations: int = 2000,
    report: Callable[[int, int], None] | None = None,
) -> Transport:
    """Certify many pairs by Sinkhorn, each with as many iterations as it needs.

    Compiled rounds of ten iterations run on cache-sized batches; a pair whose plan has the right
    marginals leaves its batch and the next pair takes its place.

    Args:
      p: distributions; cells may be empty.
      q: others on the same cells.
      ground: the axes' costs.
      epsilon: regularisation, in the unit of the cost.
      tolerance: relative width of the interval that counts as converged.
      max_iterations: per pair.
      report: called with the number of finished pairs and of all.

    Returns:
      One entry per pair; `cost` is that of a feasible plan, its upper bound.

    Numerics: a pair is done when the marginals of its plan are within 1e-3 in total variation.
      Larger epsilon blurs the plan and widens the interval; the bounds stay rigorous.
    Cost: see `solve`; memory for four copies of the maps and some twenty of a batch.
    """
    batch = min(max(1, BATCH // p[0].nbytes), len(p))
    options = {"ground": ground, "epsilon": epsilon}
    state, iterations = _start(p), np.zeros(len(p), int)
    waiting = np.arange(len(p))
    while len(waiting):
        some = np.resize(waiting[:batch], batch)  # repeats a pair where too few are left
        state = _advance_some(state, some, p, q, **options)
        iterations[waiting[:batch]] += ROUND
        done = ~(np.asarray(state.error) > MARGINAL_ERROR) | (iterations >= max_iterations)
        waiting = waiting[~done[waiting]]
        if report:
            report(len(p) - len(waiting), len(p))
    pairs = np.arange(len(p))
    parts = [
        _certify_some(
            state,
            np.resize(pairs[start : start + batch], batch),  # one program for all
            p,
            q,
            jnp.asarray(iterations),
            tolerance=tolerance,
            **options,
        )
        for start in range(0, len(p), batch)
    ]
    return jax.tree.map(lambda *fields: jnp.concatenate(fields)[: len(p)], *parts)


@partial(jax.jit, static_argnames=("ground", "epsilon"), donate_argnums=0)
def _advance_some(state, some, p, q, *, ground, epsilon):
    chosen = jax.tree.map(lambda field: field[some], state)
    chosen = _advance(chosen, _floored(p[some]), _floored(q[some]), ground, epsilon)
    return jax.tree.map(lambda field, new: field.at[some].set(new), state, chosen)


@partial(jax.jit, static_argnames=("ground", "epsilon", "tolerance"))
def _certify_some(state, some, p, q, iterations, *, ground, epsilon, tolerance):
    chosen = jax.tree.map(lambda field: field[some], state)
    return _certified(
        chosen, p[some], q[some], iterations[some], ground, epsilon, tolerance
    ).transport


def _start(p):
    return _State(
        f=jnp.zeros_like(p),
        g=jnp.zeros_like(p),
        error=jnp.full(len(p), jnp.inf, p.dtype),
        relaxation=jnp.full(len(p), RELAXATION, p.dtype),
    )


def _floored(p):
    mean = jnp.mean(p, (1, 2), keepdims=True)
    return (1 - FLOOR) * p + FLOOR * mean


def _advance(state, p, q, ground, epsilon):
    """Run one round of Sinkhorn; over-relaxed only while that brings the marginals closer."""
    problem = linear_problem.LinearProblem(
        ImagePairs(state.relaxation, ground, epsilon), p.ravel(), q.ravel()
    )
    solver = sinkhorn.Sinkhorn(
        min_iterations=ROUND, max_iterations=ROUND, inner_iterations=ROUND, implicit_diff=None
    )
    output = solver(problem, init=(state.f.ravel(), state.g.ravel()))
    f, g = output.f.reshape(p.shape), output.g.reshape(p.shape)
    log_u = jnp.log(p) - log_kernel(g / epsilon, ground, epsilon)  # the first marginal exactly
    marginal = jnp.exp(g / epsilon + log_kernel(log_u, ground, epsilon))
    error = jnp.sum(jnp.abs(marginal - q), (1, 2)) / 2
    relaxation = jnp.where(error < state.error, RELAXATION, 1).astype(p.dtype)
    return _State(f, g, error, relaxation)


def _certified(state, p, q, iterations, ground, epsilon, tolerance):
    """Read a potential and a flow out of the plan u K v with u = exp(f / epsilon).

    The kernel is a product over the axes, so the plan can move its first marginal along time, to
    (K_time u) (K_frequency v), and then along frequency, or the other way round. Each leg is a flow
    on lines, which leaves out the plan's back and forth; half of the mass goes either way.
    """
    along = partial(log_kernel_along, ground=ground, epsilon=epsilon)
    log_v = state.g / epsilon
    v_time, v_frequency = along(log_v, axis=0), along(log_v, axis=1)
    log_u = jnp.log(_floored(p)) - along(v_frequency, axis=0)
    u_time, u_frequency = along(log_u, axis=0), along(log_u, axis=1)
    marginal = jnp.exp(log_v + along(u_time, axis=1))
    after_time, after_frequency = jnp.exp(u_time + v_frequency), jnp.exp(u_frequency + v_time)
    along_time = (p - after_time + after_frequency - q) / 2
    along_frequency = (p - after_frequency + after_time - q) / 2
    legs = (with_hubs(leg, ground) for leg in (along_time, along_frequency))
    flow = tuple(map(level_out, legs, ground, AXES))
    potential = _sharper(epsilon / 2 * (log_u - log_v), p, q, ground)
    polished = jax.vmap(partial(polish, ground=ground, iterations=POLISH))(potential, flow, p, q)
    potential = _better(_sharper(polished, p, q, ground), potential, p, q, ground)
    solution = certify(potential, flow, p, q, ground, tolerance=tolerance, iterations=iterations)
    transport = solution.transport._replace(
        cost=solution.transport.upper,
        marginal_error=jnp.sum(jnp.abs(marginal - _floored(q)), (1, 2)) / 2,
    )
    return solution._replace(transport=transport)


def _sharper(potential, p, q, ground):
    """Sharpen from either side and return what bounds the distance better."""
    one, other = sharpen(potential, p, q, ground), -sharpen(-potential, q, p, ground)
    return _better(one, other, p, q, ground)


def _better(one, other, p, q, ground):
    better = lower_bound(one, p, q, ground) > lower_bound(other, p, q, ground)
    return jnp.where(better[:, None, None], one, other)
