"""Integrated gradients: how much of score(input) - score(baseline) is due to each cell.

Checked against closed forms, a plain loop over path points, and Captum in
tests/attribution/test_integrated_gradients.py.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from instrument_ig.attribution import adaptive, arguments
from instrument_ig.attribution.paths import Space, straight_paths, to_path
from instrument_ig.attribution.quadrature import Quadrature, quadrature
from instrument_ig.config import AttributionConfig
from instrument_ig.machine import (
    Execution,
    Traced,
    fitting,
    is_traced,
    map_rows,
    n_rows,
    nobody,
    over_processes,
    sum_over_points,
)
from instrument_ig.types import Attribution, Score, Split

GROUP = 1024  # paths integrated side by side, at most: between groups progress is told
COPIES = 16  # a path with its integral is four images, and may take a quarter of the memory


def integrated_gradients(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images,
    *,
    key: Array | None = None,
    at: Space = "input",
    steps: int = 50,
    rule: str = AttributionConfig.rule,
    tolerance: float | None = None,
    max_steps: int = AttributionConfig.max_steps,
    floor: float = 0.01,
    execution: Execution | None = None,
) -> Attribution:
    """Attribute score(input) - score(baseline) to the cells of each input.

    values = (x - b) * integral over alpha in [0, 1] of grad score(b + alpha (x - b)). An exact
    integral sums to the score difference (completeness); what is missing is the residual. Either
    all maps get `steps` points by `rule`, or, with a `tolerance`, each gets as many as it needs,
    where it needs them (see `adaptive`), and points once evaluated are used to the end.

    A small residual is necessary for a good map, not sufficient: errors of opposite sign cancel in
    the sum over cells. On ReLU networks the error of the map itself falls as 1 / points.

    Args:
        score: function of one image, or a `Split` of one. It is traced at every call, as it is
            then: it may close over arrays, over traced values, and over what has changed since.
            Programs are compiled once for all scores that compute the same with other arrays.
        inputs: images [B, T, F], or any shape [B, ...]. The values follow their dtype.
        baselines: one image [T, F] for all, one each [B, T, F], or several [R, B, T, F], over which
            the maps are averaged (expected gradients).
        key: not used; nothing is drawn.
        at: "input", or "tap", where a `Split` is cut: the path is straight in the prefix's output
            and the maps have its shape (layer integrated gradients).
        steps: path points of each map and baseline, without a tolerance.
        rule: a name in `quadrature.RULES`, without a tolerance.
        tolerance: of the relative residual, abs(residual) / max(abs(difference), floor). Where
            something is traced (`jit`, `vmap`, `grad`) it is judged, not sought: maps get `steps`
            points by `rule`.
        max_steps: gradients per map and baseline at which a map gives up, with a tolerance.
        floor: score difference below which the residual is judged absolutely, in score units.
        execution: memory, precision of the path gradients, devices, progress in maps.

    Returns:
        `converged` says whether the relative residual is within `tolerance` (0.01 if None) and,
        with a tolerance, the refinement ended for that reason and not for `max_steps`, NaN or the
        noise of the scores. `steps` counts gradients, points evaluated twice included. Residuals
        are in single precision at least.

    Raises:
        ValueError: a shape, dtype, NaN, rule or number that cannot be; not even one path point
            fits in memory; a score that is not one real number.

    Numerics: batches and neighbours change results only by rounding (which may cost a point more
        or less where a residual just meets its tolerance); equal calls give equal bits on one kind
        of device. Scores at the ends are computed at "highest" precision whatever that of the path
        gradients, so residuals are true. Gradients are those of `jax.grad`: a score that shares the
        gradient of a tied maximum may be off at constant baselines. Where something is traced,
        values are not checked, and NaN propagates; a NaN map spoils no other.
    Cost: per map R * steps gradients and 1 + R scores (one per baseline that all share). Memory
        beside inputs and maps does not depend on steps, B or R; where something is traced there is
        one program, and `execution.memory` is not asked.
    References: Sundararajan, Taly, Yan, Axiomatic attribution for deep networks, 2017, eq. 1.
        Erion et al., Improving performance of deep learning models with axiomatic attribution
        priors and expected gradients, 2021.
    """
    del key
    execution = execution or Execution()
    inputs = arguments.checked_images(inputs)
    baselines = arguments.checked_baselines(baselines, inputs)
    arguments.checked_numbers(tolerance, floor, max_steps)
    integrand = _integrand(score, inputs, at, execution.precision)
    plan = Plan(quadrature(rule, steps), tolerance, max_steps, floor)
    if baselines.shape[0] == 1:
        explain = lambda rows, execution: _explain(integrand, *rows, baselines, plan, execution)
        return over_processes(explain, (inputs,), execution)
    explain = lambda rows, execution: _explain(integrand, *rows, plan, execution)
    return over_processes(explain, (inputs, baselines), execution)


class Plan(NamedTuple):
    """How to integrate, in the words of `integrated_gradients`."""

    rule: Quadrature
    tolerance: Any
    max_steps: int
    floor: float


class Integrand(NamedTuple):
    """A score along paths: whole, as residuals judge it, and from where the paths lie on."""

    whole: Traced
    prefix: Traced | None  # None: paths lie in the space of the inputs
    rest: Traced


def _integrand(score, inputs, at, precision):
    whole = arguments.checked_score(score, inputs)
    if at == "input":
        again = precision != "highest"
        rest = arguments.checked_score(score, inputs, precision) if again else whole
        return Integrand(whole, None, rest)
    if at != "tap":
        raise ValueError(f"at={at!r}: neither input nor tap")
    prefix, rest = arguments.checked_split(score, inputs, precision)
    return Integrand(whole, arguments.checked_split(score, inputs).prefix, rest)


def _explain(integrand, inputs, baselines, plan, execution):
    b, r = len(inputs), baselines.shape[1]
    start, end = _end_scores(integrand.whole, inputs, baselines, execution)
    rise = (end - start).mean(1)
    allowed = (plan.tolerance or AttributionConfig.tolerance) * abs(rise).clip(plan.floor)
    traced = is_traced((inputs, baselines, integrand))
    is_sought = plan.tolerance is not None and not traced
    size = b * r if traced else _group_size(integrand, inputs, b * r, execution)
    maps, steps, settled = 0.0, [], []
    for first in range(0, b * r, size):
        which = np.arange(first, min(first + size, b * r))
        paths = _lay(integrand, inputs, baselines, which, execution)
        done = partial(_tell, execution, first=first, r=r, total=b)
        if is_sought:
            ends = np.stack([ends.reshape(-1)[which] for ends in jax.device_get((start, end))], 1)
            limit = np.asarray(allowed)[which // r]
            options = limit, plan.max_steps, execution, done
            found = adaptive.integrate(integrand.rest, paths, ends, *options)
        else:
            found = _by_rule(integrand.rest, paths, plan.rule, execution, done)
        maps = maps + _means(paths.delta, found.values, which // r, b, r)
        steps.append(found.steps)
        settled.append(found.settled)
    residual = maps.reshape(b, -1).sum(1) - rise
    is_settled = np.concatenate(settled).reshape(b, r).all(1)
    return Attribution(
        maps.astype(inputs.dtype),
        residual,
        jnp.asarray(np.concatenate(steps).reshape(b, r).sum(1)),
        (jnp.abs(residual) <= allowed) & is_settled,
    )


def _end_scores(score, inputs, baselines, execution):
    """Return the scores where paths start and where they end, both [B, R]."""
    shape = len(inputs), baselines.shape[1]
    starts = baselines.reshape(-1, *inputs.shape[1:])
    start, end = (map_rows(score, images, execution, done=nobody) for images in (starts, inputs))
    precise = np.promote_types(start.dtype, jnp.float32)
    spread = lambda scores: jnp.broadcast_to(scores.astype(precise), shape)
    return spread(start.reshape(-1, shape[1])), spread(end[:, None])


def _group_size(integrand, inputs, n, execution):
    """Return how many paths are integrated side by side."""
    one = integrand.prefix.program.out if integrand.prefix else inputs[0]
    needed = COPIES * one.size * max(4, one.dtype.itemsize)
    most = min(GROUP, fitting(n, needed, execution, hot_bytes=0))
    return -(-n // -(-n // most))


def _lay(integrand, inputs, baselines, which, execution):
    """Return paths in the space of the maps."""
    images = straight_paths(inputs, baselines, which)
    if integrand.prefix is None:
        return images
    through = lambda path: (integrand.prefix(path.start), integrand.prefix(path.at(1)))
    return to_path(*map_rows(through, images, execution, done=nobody))


def _by_rule(rest, paths, rule, execution, done):
    """Integrate every path by the same rule."""
    gradient = lambda path, alpha: jax.grad(rest)(path.at(alpha))
    nodes = rule.nodes.astype(paths.delta.dtype)
    options = {"precision": execution.precision, "done": done}
    sums = sum_over_points(gradient, paths, nodes, rule.weights, execution, **options)
    n = n_rows(paths)
    return adaptive.Integrals(sums, np.full(n, len(nodes)), np.ones(n, bool))


@partial(jax.jit, static_argnums=(3, 4))
def _means(delta, gradients, own, b, r):
    """Return the sum of each input's maps over its baselines, divided by their number."""
    return jax.ops.segment_sum(delta * gradients, own, b) / r


def _tell(execution, paths, *, first, r, total):
    if execution.report:
        execution.report(min((first + paths) // r, total), total)
