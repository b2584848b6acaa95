"""Integrated gradients: how much of score(input) - score(baseline) is due to each cell.

Checked against closed forms, a plain loop over path points, and Captum in
tests/attribution/test_integrated_gradients.py.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.attribution import arguments, work_items
from instrument_ig.attribution.paths import Paths, Space, lay_paths, to_maps
from instrument_ig.attribution.quadrature import Quadrature, quadrature
from instrument_ig.attribution.work_items import Report, WorkItems
from instrument_ig.types import Attribution, Score, Split

TOLERANCE = 0.01  # relative residual that counts as converged where none is asked for


def integrated_gradients(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images,
    *,
    params: Any = None,
    at: Space = "input",
    steps: int = 50,
    rule: str = "gauss_legendre",
    floor: float = 0.01,
    memory: int | None = None,
    chunk: int | None = None,
    report: Report = None,
) -> Attribution:
    """Attribute score(input) - score(baseline) to the cells of each input.

    values = (x - b) * integral over alpha in [0, 1] of grad score(b + alpha (x - b)), the integral
    by a quadrature rule. An exact integral sums to the score difference (completeness); what is
    missing is the residual. A small residual is necessary for a good map, not sufficient: errors of
    opposite sign cancel in the sum.

    Args:
        score: function of one image, or a `Split` of one. A pytree with arrays inside (such as a
            `jax.tree_util.Partial`) is compiled once for all scores of its kind; a plain function
            once per function object.
        inputs: images [B, T, F], or any shape [B, ...]. The result follows their dtype.
        baselines: one image [T, F] for all, one each [B, T, F], or several [R, B, T, F], over which
            the maps are averaged (expected gradients).
        params: stacked parameters, pytree of [M, ...], of a score of (params, image), or a `Split`
            of two such functions: M models in one call, results [M, B, ...].
        at: where a `Split` is explained. "input": its prefix is affine; it and its transpose run
            once per map, the result is that of the whole score. "tap": the path is straight in the
            prefix's output and the maps have its shape (layer integrated gradients).
        steps: path points of each map and baseline.
        rule: a name in `quadrature.RULES`.
        floor: score difference below which the residual is judged absolutely: `converged` is
            abs(residual) <= 0.01 * max(abs(difference), floor).
        memory: bytes the program may hold at once. None: half the device's, 2 GiB on a CPU.
        chunk: path points evaluated together. None: as many as are fast and fit in `memory`.
        report: called with (path points done, path points in all).

    Raises:
        ValueError: a shape, dtype, NaN, rule, `steps` or `at` that cannot be; not even one path
            point fits in `memory`; a score that is not one real number.

    Numerics: batches, chunks and neighbours change results only by rounding. Gradients are those of
        `jax.grad`: a score that shares the gradient of a tied maximum may be off at constant
        baselines. Under `jit` or `vmap` values are not checked, NaN propagates.
    Cost: per map R * steps gradients and R + 1 scores; memory of one chunk beside the maps.
    References: Sundararajan, Taly, Yan, Axiomatic attribution for deep networks, 2017, eq. 1.
        Erion et al., Improving performance of deep learning models with axiomatic attribution
        priors and expected gradients, 2021.
    """
    inputs = arguments.checked_images(inputs)
    baselines = arguments.checked_baselines(baselines, inputs)
    points = quadrature(rule, steps)
    options = {"memory": memory, "chunk": chunk, "report": report}

    def explain(score):
        arguments.checked_score(score, inputs)
        paths = lay_paths(score, inputs, baselines, at)
        return _integrate(paths, (len(inputs), len(baselines)), points, floor, options)

    if params is None:
        return explain(score)
    return _each_model(explain, score, params)


def _each_model(explain, score, params):
    """Explain models one after another with one program, which is compiled for the first."""
    n_models = len(jax.tree.leaves(params)[0])
    own = lambda m: jax.tree.map(lambda leaf: leaf[m], params)
    maps = [explain(_bind(score, own(m))) for m in range(n_models)]
    return jax.tree.map(lambda *rows: jnp.stack(rows), *maps)


def _bind(score, params):
    """Fix the parameters of a score of (params, image), or of both halves of a `Split`."""
    return jax.tree.map(lambda part: jax.tree_util.Partial(part, params), score)


def _integrate(paths: Paths, shape, points: Quadrature, floor, options) -> Attribution:
    """Integrate every path by the same rule; `shape` is (inputs, baselines of each)."""
    rows, steps = np.prod(shape), len(points.nodes)
    dtype = paths.points.start.dtype
    items = WorkItems(
        np.repeat(np.arange(rows), steps),
        np.tile(points.nodes.astype(dtype), rows),
        np.tile(points.weights.astype(dtype), rows),
    )
    integrals, _ = work_items.weighted_sums(_gradient, paths.rest, paths.points, items, **options)
    maps = to_maps(paths, integrals)
    maps = maps.reshape(*shape, *maps.shape[1:]).mean(1)
    difference = _difference(paths, options).reshape(shape).mean(1)
    residual = maps.reshape(shape[0], -1).sum(1) - difference
    converged = jnp.abs(residual) <= TOLERANCE * jnp.maximum(jnp.abs(difference), floor)
    return Attribution(maps, residual, jnp.full(shape[0], steps * shape[1]), converged)


def _difference(paths: Paths, options) -> Float[Array, " rows"]:
    """score(input) - score(baseline) of every path."""
    rows = len(paths.points.start)
    dtype = paths.points.start.dtype
    ends = WorkItems(
        np.tile(np.arange(rows), 2), np.repeat(np.array([0, 1], dtype), rows), np.ones(2 * rows)
    )
    options = options | {"report": None}
    _, scores = work_items.weighted_sums(_score, paths.rest, paths.points, ends, **options)
    return jnp.asarray(scores[rows:] - scores[:rows])


def _gradient(score, path, alpha):
    return jax.grad(score)(path.start + alpha * path.delta), ()


def _score(score, path, alpha):
    return (), score(path.start + alpha * path.delta)
