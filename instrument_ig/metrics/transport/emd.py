"""Earth mover's distance between heatmaps, with a rigorous interval around the exact value.

One pair and all pairs, by one of two solvers; both are differentiable, and both are one program
inside `jit`, `vmap` and `grad`. Checked against moved point masses, POT and OR-tools in
tests/metrics/transport/test_emd.py.
"""

from collections.abc import Sequence
from functools import partial
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import zero_from_primal
from jaxtyping import Array, Float

from instrument_ig.config import MetricConfig
from instrument_ig.machine import Execution, available_memory, over_processes
from instrument_ig.metrics.arguments import checked_number, checked_pair, checked_sets
from instrument_ig.metrics.distribution import are_distributions
from instrument_ig.metrics.transport.attempts import COPIES, Asked, Problem, batch_size
from instrument_ig.metrics.transport.certify import UNIT, Solution
from instrument_ig.metrics.transport.ground import LINEAR, ground_cost, unit_of
from instrument_ig.metrics.transport.kernel import form_for
from instrument_ig.types import Axis, Transport

SOLVERS = ("sinkhorn", "flow")
WINDOW = 32  # batches of pairs between two reports

Number = float | Float[Array | np.ndarray, ""]


def emd(
    p: Float[Array | np.ndarray, "T F"],
    q: Float[Array | np.ndarray, "T F"],
    *,
    axes: Sequence[Axis] = (LINEAR, LINEAR),
    solver: str = "sinkhorn",
    epsilon: Number = MetricConfig.epsilon,
    tolerance: Number = MetricConfig.emd_tolerance,
    extents: Sequence[float] = (1.0, 1.0),
) -> Transport:
    """Compute the earth mover's distance W1 between two distributions, and bound it.

    The least cost of moving p into q, where moving a unit of mass costs the sum of its ways along
    time and along frequency, each measured as the kind of its axis says (`ground_cost`): the
    largest way along one axis costs its extent.

    Args:
      p: a distribution (`to_distribution`).
      q: another on the same cells.
      axes: the kinds of the time and of the frequency axis.
      solver: "sinkhorn", entropic transport by OTT, or "flow", the distance itself.
      epsilon: of Sinkhorn, in units of the mean extent; may be traced.
      tolerance: relative width (upper - lower) / upper at which the interval counts as converged;
        "flow" works until it is reached, "sinkhorn" tries a little; may be traced.
      extents: the longest way along each axis, for instance seconds and octaves.

    Returns:
      The distance `cost` inside [`lower`, `upper`], which holds the exact distance rigorously:
      `lower` comes from a potential no steeper than the ground distance, `upper` is the cost of a
      feasible flow. `cost` is `upper` for Sinkhorn and the middle for flow. A map that is no
      distribution (`are_distributions`) gives NaN and `converged` False.

    Raises:
      ValueError: the maps are not two images of one shape; an unknown solver or kind of axis, a bad
        extent, epsilon or tolerance.

    Numerics: zero weights are exact, equal maps are at exactly zero, and masses within 1e-3 of one
      are divided out. Extents change nothing but the scale. By the theorem of Danskin the gradient
      by p is the potential less its mean and by q its negative, finite at every cell and the same
      for `cost`, `lower` and `upper`. It never sees how the solver got there, and there is none by
      epsilon and tolerance.
    Cost: on 126 x 128 cells, a few milliseconds; linear in the cells. Compiled once per shape,
      kinds of axes and ratio of extents. Under `vmap` the slowest pair decides: `pairwise_emd` is
      faster for many.
    References: Cuturi, Sinkhorn distances, 2013; Altschuler et al., Near-linear time approximation
      algorithms for optimal transport via Sinkhorn iteration, 2017; Beckmann, A continuous model
      of transportation, 1952.
    """
    p, q = checked_pair(p, q)
    problem, asked, unit = settings(p, axes, extents, solver, epsilon, tolerance)
    found = _compiled(problem, p[None], q[None], asked, unit)
    return jax.tree.map(lambda field: field[0], found)


def pairwise_emd(
    P: Float[Array | np.ndarray, "N T F"],
    Q: Float[Array | np.ndarray, "M T F"] | None = None,
    *,
    axes: Sequence[Axis] = (LINEAR, LINEAR),
    solver: str = "sinkhorn",
    epsilon: Number = MetricConfig.epsilon,
    tolerance: Number = MetricConfig.emd_tolerance,
    extents: Sequence[float] = (1.0, 1.0),
    execution: Execution | None = None,
) -> Transport:
    """Compute `emd` of every pair, within P or between P and Q.

    Args:
      P: distributions.
      Q: the columns; by default P again.
      axes: see `emd`.
      solver: see `emd`.
      epsilon: see `emd`.
      tolerance: see `emd`.
      extents: see `emd`.
      execution: memory, devices that share the pairs, and who hears of pairs done. Inside a
        transformation of JAX only its memory counts.

    Returns:
      A `Transport` of [N, M] arrays. Within P half of the pairs are solved: symmetric, and zero on
      the diagonal. A map that is no distribution has NaN in its row and column.

    Raises:
      ValueError: see `emd`; or the memory is too small for one pair.

    Numerics: that of `emd`.
    Cost: each pair takes as many iterations as it needs, whatever its neighbours do; inside a
      transformation of JAX, as many as the slowest pair of its batch.
    """
    within, execution = Q is None, execution or Execution()
    P, Q = checked_sets(P, Q)
    Q = P if within else Q
    problem, asked, unit = settings(P, axes, extents, solver, epsilon, tolerance)
    rows, columns = are_distributions(P), are_distributions(Q)
    batch_size(1, P[0].nbytes, execution)  # raises where memory is too small
    if any(isinstance(x, jax.core.Tracer) for x in (rows, columns, *asked)):
        pairs = np.triu_indices(len(P), 1) if within else np.indices((len(P), len(Q)))
        i, j = (at.ravel() for at in pairs)
        found = _traced(problem, P, Q, (i, j), asked, unit, execution)
    else:
        usable = np.asarray(rows)[:, None] & np.asarray(columns)
        i, j = np.nonzero(np.triu(usable, 1) if within else usable)
        found = _from_host(problem, P, Q, (i, j), asked, execution)
        found = in_units(found, unit) if len(i) else found
    return _matrix(found, i, j, rows[:, None] & columns[None], within)


def settings(maps, axes, extents, solver, epsilon, tolerance):
    """Split what a program depends on from what it does not; all costs are in units of `unit`."""
    _load(solver)
    shape = maps.shape[-2:]
    ground_cost(shape, axes, extents)
    unit = unit_of(extents)
    ground = ground_cost(shape, axes, [extent / unit for extent in extents])
    asked = Asked(checked_number("tolerance", tolerance), checked_number("epsilon", epsilon))
    known = not isinstance(asked.epsilon, jax.core.Tracer)
    form = form_for(ground, asked.epsilon) if known and solver == "sinkhorn" else "recursion"
    asked = Asked(*(jnp.asarray(value, maps.dtype) for value in asked))
    return Problem(solver, ground, form), asked, jnp.asarray(unit, maps.dtype)


def solution(problem: Problem, p: Array, q: Array, asked: Asked) -> Solution:
    """Solve pairs [P, T, F] in one program, in units of `problem.ground`.

    Under `vmap` all examples are pairs of one call, so that every loop has one length.
    """

    @custom_vmap
    def solve(p, q, asked):
        return _load(problem.solver).solve(p, q, problem, asked)

    @solve.def_vmap
    def _(size, batched, p, q, asked):
        every = lambda x, has: x if has else jnp.broadcast_to(x, (size, *x.shape))
        p, q = every(p, batched[0]), every(q, batched[1])
        if any(batched[2]):
            asked = jax.tree.map(every, asked, batched[2])
            found = jax.lax.map(lambda one: solve(*one), (p, q, asked))
        else:
            flat = lambda x: x.reshape(-1, *x.shape[2:])
            apart = lambda x: x.reshape(size, -1, *x.shape[1:])
            found = jax.tree.map(apart, solve(flat(p), flat(q), asked))
        return found, jax.tree.map(lambda _: True, found)

    return solve(p, q, asked)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def distances(problem: Problem, p: Array, q: Array, asked: Asked, unit: Array) -> Transport:
    """Return the `Transport` of pairs [P, T, F]; NaN where a map is no distribution."""
    found = solution(problem, p, q, asked).transport
    return or_nan(in_units(found, unit), p, q)


@distances.defjvp
def _(problem, primals, tangents):
    p, q, asked, unit = primals
    found = solution(problem, p, q, asked)
    slope = found.potential - jnp.mean(found.potential, (1, 2), keepdims=True)
    tangent = unit * jnp.sum(slope * (tangents[0] - tangents[1]), (1, 2))
    transport = or_nan(in_units(found.transport, unit), p, q)
    tangent = jnp.where(jnp.isnan(transport.cost), jnp.nan, tangent)
    flat = jax.tree.map(zero_from_primal, transport)
    return transport, flat._replace(cost=tangent, lower=tangent, upper=tangent)


_compiled = jax.jit(distances, static_argnums=0)


def in_units(transport: Transport, unit: Array) -> Transport:
    """Multiply by the unit, outwards by the rounding of both."""
    slack = jnp.where(unit == 1, 0, 4 * UNIT).astype(unit.dtype)
    return transport._replace(
        cost=transport.cost * unit,
        lower=transport.lower * (unit * (1 - slack)),
        upper=transport.upper * (unit * (1 + slack)),
    )


def or_nan(transport: Transport, p: Array, q: Array) -> Transport:
    """Blank out the distance of maps that are no distributions."""
    usable = are_distributions(p) & are_distributions(q)
    mask = lambda field: jnp.where(usable, field, jnp.nan)
    return transport._replace(
        cost=mask(transport.cost),
        lower=mask(transport.lower),
        upper=mask(transport.upper),
        converged=transport.converged & usable,
        marginal_error=mask(transport.marginal_error),
    )


def _traced(problem, P, Q, pairs, asked, unit, execution):
    """Solve all pairs in one program, a batch at a time."""
    count, cells = len(pairs[0]), P.shape[1:]
    batch = batch_size(max(count, 1), P.dtype.itemsize * int(np.prod(cells)), execution)
    calls = -(-count // batch)
    every = np.minimum(np.arange(calls * batch), count - 1).reshape(calls, batch)
    one = lambda at: distances(problem, P[at[0]], Q[at[1]], asked, unit)
    found = jax.lax.map(one, tuple(jnp.asarray(side[every]) for side in pairs))
    return jax.tree.map(lambda field: field.reshape(-1)[:count], found)


def _from_host(problem, P, Q, pairs, asked, execution):
    """Solve pairs by compiled pieces, a window after the other; pairs that are done leave."""
    solve_many = _load(problem.solver).solve_many
    map_bytes, count = P[0].nbytes, len(pairs[0])

    def own(pairs, execution):
        """Solve what is this process's share."""
        total = len(pairs[0])
        window = WINDOW * batch_size(total, map_bytes, execution)
        window = max(1, min(window, 4 * available_memory(execution) // (COPIES * map_bytes)))
        parts = []
        for start in range(0, total, window):
            some = tuple(side[start : start + window] for side in pairs)
            parts.append(solve_many((P, Q), some, problem, asked, execution))
            if execution.report:
                execution.report(min(start + window, total), total)
        return jax.tree.map(lambda *fields: np.concatenate(fields), *parts)

    return over_processes(own, pairs, execution) if count else None


def _matrix(found, i, j, usable, within):
    """Put pairs into [N, M]; zero on the diagonal, NaN for maps that are no distributions."""
    blank = jnp.where(usable, 0.0, jnp.nan)
    same = usable & np.eye(*usable.shape, dtype=bool) if within else jnp.zeros_like(usable)
    empty = Transport(blank, blank, blank, same, jnp.zeros(usable.shape, int), blank)
    if found is None or not len(i):
        return empty

    def fill(matrix, values):
        matrix = matrix.astype(values.dtype).at[i, j].set(values)
        return matrix.at[j, i].set(values) if within else matrix

    return jax.tree.map(fill, empty, found)


def _load(solver: str) -> ModuleType:
    if solver == "flow":
        from instrument_ig.metrics.transport import flow

        return flow
    if solver == "sinkhorn":
        from instrument_ig.metrics.transport import sinkhorn  # imports OTT, which takes a second

        return sinkhorn
    raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
