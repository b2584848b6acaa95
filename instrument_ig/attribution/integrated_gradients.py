"""Integrated gradients: how much of score(input) - score(baseline) is due to each cell.

Checked against closed forms, a plain loop over path points, and Captum in
tests/attribution/test_integrated_gradients.py.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from instrument_ig.attribution import adaptive, arguments
from instrument_ig.attribution.paths import Integrand, Paths, Space, lay_paths
from instrument_ig.attribution.programs import is_traced
from instrument_ig.attribution.quadrature import Quadrature, quadrature
from instrument_ig.attribution.work_items import (
    Report,
    WorkItems,
    available_memory,
    n_rows,
    weighted_sums,
)
from instrument_ig.types import Attribution, Score, Split

TOLERANCE = 0.01  # relative residual that counts as converged where none is asked for
GROUP = 64  # paths integrated side by side, so that memory does not grow with the batch
GROUP_SHARE = 4  # of the memory one part in so many is for a group's arrays


def integrated_gradients(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images,
    *,
    key: Array | None = None,
    params: Any = None,
    at: Space = "input",
    steps: int = 50,
    rule: str = "gauss_legendre",
    tolerance: float | None = None,
    max_steps: int = 1024,
    floor: float = 0.01,
    memory: int | None = None,
    chunk: int | None = None,
    report: Report = None,
) -> Attribution:
    """Attribute score(input) - score(baseline) to the cells of each input.

    values = (x - b) * integral over alpha in [0, 1] of grad score(b + alpha (x - b)). An exact
    integral sums to the score difference (completeness); what is missing is the residual. Either
    all maps get `steps` points by `rule`, or, with a `tolerance`, each gets as many as it needs,
    where it needs them (see `adaptive`), and points once evaluated are used to the end.

    A small residual is necessary for a good map, not sufficient: errors of opposite sign cancel in
    the sum over cells. On ReLU networks the error of the map itself falls as 1 / points.

    Args:
        score: function of one image, or a `Split` of one. A pytree with arrays inside (such as a
            `jax.tree_util.Partial`) is compiled once for all scores of its kind; a plain function
            once per function object, with the values it closes over as they are then.
        inputs: images [B, T, F], or any shape [B, ...]. The result follows their dtype.
        baselines: one image [T, F] for all, one each [B, T, F], or several [R, B, T, F], over which
            the maps are averaged (expected gradients).
        key: not used; nothing is drawn.
        params: stacked parameters, pytree of [M, ...], of a score of (params, image), or a `Split`
            of two such functions: M models in one call, results [M, B, ...].
        at: where a `Split` is explained. "input": its prefix is affine and runs at the ends of
            paths only; the result is that of the whole score. "tap": the path is straight in the
            prefix's output and the maps have its shape (layer integrated gradients).
        steps: path points of each map and baseline, without a tolerance.
        rule: a name in `quadrature.RULES`, without a tolerance.
        tolerance: of the relative residual, abs(residual) / max(abs(difference), floor).
        max_steps: gradients per map and baseline at which a map gives up, with a tolerance.
        floor: score difference below which the residual is judged absolutely, in score units.
        memory: bytes the program may hold at once. None: half the device's, 2 GiB on a CPU.
        chunk: path points evaluated together. None: as many as are fast and fit in `memory`.
        report: called with (maps done, maps in all).

    Returns:
        `converged` says whether the relative residual is within `tolerance` (0.01 if None) and,
        with a tolerance, the refinement ended for that reason and not for `max_steps` or NaN.
        `steps` counts gradients, points evaluated twice included.

    Raises:
        ValueError: a shape, dtype, NaN, rule or number that cannot be; not even one path point
            fits in `memory`; a score that is not one real number; a prefix that bends; `params` of
            unequal lengths; a tolerance under `jit`.

    Numerics: batches, chunks and neighbours change results only by rounding (which may cost a point
        more or less where a residual just meets its tolerance); equal calls give equal bits.
        Gradients are those of `jax.grad`: a score that shares the gradient of a tied maximum may be
        off at constant baselines. Under `jit` or `vmap` values are not checked, and NaN propagates;
        a NaN map spoils no other.
    Cost: per map R * steps gradients and 2 R scores. Memory beside inputs and maps does not
        depend on steps or B: a chunk, and for each path of a group one gradient, or 48 of them
        with a tolerance. The R paths of one input are integrated together; under `jit` there is
        one group, and `memory` is not asked.
    References: Sundararajan, Taly, Yan, Axiomatic attribution for deep networks, 2017, eq. 1.
        Erion et al., Improving performance of deep learning models with axiomatic attribution
        priors and expected gradients, 2021.
    """
    del key
    inputs = arguments.checked_images(inputs)
    baselines = arguments.checked_baselines(baselines, inputs)
    arguments.checked_numbers(tolerance, floor, max_steps, chunk)
    models = [score] if params is None else _bind_each(score, params)
    memory = available_memory() if memory is None else memory
    plan = Plan(at, quadrature(rule, steps), tolerance, max_steps, floor, memory, chunk)
    maps = []
    for m, model in enumerate(models):
        arguments.checked_score(model, inputs)
        count = report and (
            lambda done, m=m: report(m * len(inputs) + done, len(models) * len(inputs))
        )
        maps.append(_explain(model, inputs, baselines, plan, count or (lambda _: None)))
    return maps[0] if params is None else jax.tree.map(lambda *rows: jnp.stack(rows), *maps)


class Plan(NamedTuple):
    """How to integrate, in the words of `integrated_gradients`."""

    at: Space
    rule: Quadrature
    tolerance: float | None
    max_steps: int
    floor: float
    memory: int
    chunk: int | None


def _bind_each(score, params):
    """Fix the parameters of a score of (params, image), or of both halves of a `Split`."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(params)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(f"params: leading axes {sorted(lengths)}, not one entry per model")
    own = lambda m: jax.tree.map(lambda leaf: leaf[m], params)
    bind = lambda m: jax.tree.map(lambda part: jax.tree_util.Partial(part, own(m)), score)
    return [bind(m) for m in range(n_rows(params))]


def _explain(score, inputs, baselines, plan, report):
    """Explain inputs in groups of equal size; the last is filled up with its last input."""
    if is_traced((inputs, baselines, score)):
        if plan.tolerance is not None:
            raise ValueError(f"tolerance={plan.tolerance}: under jit or vmap, pass steps instead")
        return _explain_group(score, inputs, baselines, plan, report)
    b = len(inputs)
    size = _group_size(score, inputs, len(baselines), plan)
    maps = []
    for start in range(0, b, size):
        group = np.minimum(np.arange(start, start + size), b - 1)
        own = baselines if baselines.shape[1] == 1 else baselines[:, group]
        count = lambda done, start=start: report(min(start + done, b))
        maps.append(_explain_group(score, inputs[group], own, plan, count))
    return jax.tree.map(lambda *rows: jnp.concatenate(rows)[:b], *maps)


def _group_size(score, inputs, r, plan):
    """Return into how many inputs a batch is cut, so that a group's arrays fit its share."""
    inner = arguments.shape_of_one(score.prefix, inputs) if isinstance(score, Split) else inputs[0]
    outer = inner if plan.at == "tap" else inputs[0]
    sums = 1 if plan.tolerance is None else adaptive.SLOTS
    row = (2 + sums) * outer.size + 2 * inner.size
    bytes_per_path = row * max(4, inputs.dtype.itemsize)
    paths = min(GROUP, plan.memory // GROUP_SHARE // bytes_per_path)
    n_groups = -(-len(inputs) // max(1, paths // r))
    return -(-len(inputs) // n_groups)


def _explain_group(score, inputs, baselines, plan, report):
    shape = len(inputs), len(baselines)
    options = {"memory": plan.memory, "chunk": plan.chunk}
    paths, integrand = lay_paths(score, inputs, baselines, plan.at)
    ends = _end_scores(integrand, paths, options).astype(paths.maps.delta.dtype)
    difference = (ends[:, 1] - ends[:, 0]).reshape(shape).mean(1)
    allowed = (plan.tolerance or TOLERANCE) * abs(difference).clip(plan.floor)
    count = lambda rows: report(rows // shape[1])
    if plan.tolerance is None:
        integrals = _fixed(integrand, paths, plan.rule, count, options)
    else:
        integrals = adaptive.integrate(
            _gradient_and_slope,
            integrand,
            paths,
            ends,
            np.repeat(allowed, shape[1]),
            plan.max_steps,
            count,
            **options,
        )
    maps = paths.maps.delta * integrals.values
    maps = maps.reshape(*shape, *maps.shape[1:]).mean(1)
    residual = maps.reshape(len(maps), -1).sum(1) - difference
    settled = integrals.settled.reshape(shape).all(1)
    converged = (jnp.abs(residual) <= allowed) & settled
    steps = jnp.asarray(integrals.steps.reshape(shape).sum(1))
    return Attribution(maps.astype(inputs.dtype), residual.astype(inputs.dtype), steps, converged)


def _end_scores(integrand, paths, options):
    """Return the scores where each path starts and ends, [rows, 2]."""
    rows = np.repeat(np.arange(n_rows(paths)), 2)
    alpha = np.tile(np.array([0, 1], paths.maps.delta.dtype), n_rows(paths))
    ends = WorkItems(rows, alpha, alpha, rows)
    return weighted_sums(_score, integrand, paths, ends, **options)[1].reshape(-1, 2)


def _fixed(integrand, paths, rule: Quadrature, report, options) -> adaptive.Integrals:
    """Integrate every path by the same rule."""
    n, steps = n_rows(paths), len(rule.nodes)
    rows = np.repeat(np.arange(n), steps)
    nodes, weights = (np.tile(each.astype(paths.maps.delta.dtype), n) for each in rule)
    items = WorkItems(rows, nodes, weights, rows)
    count = lambda done, _: report(done // steps)
    sums, _ = weighted_sums(_gradient, integrand, paths, items, report=count, **options)
    return adaptive.Integrals(sums, np.full(n, steps), np.ones(n, bool))


def _score(integrand: Integrand, path: Paths, alpha):
    return (), integrand.value(path, alpha)


def _gradient(integrand: Integrand, path: Paths, alpha):
    """One point: the gradient is summed, the score is recorded."""
    value, gradient = integrand.value_and_gradient(path, alpha)
    return gradient, value


def _gradient_and_slope(integrand: Integrand, path: Paths, alpha):
    """The same, and the slope of the score along the path is recorded."""
    value, gradient = integrand.value_and_gradient(path, alpha)
    return gradient, (value, jnp.vdot(gradient.astype(path.maps.delta.dtype), path.maps.delta))
