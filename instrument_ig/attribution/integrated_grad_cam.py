"""Integrated Grad-CAM: Grad-CAM's weights collected along the path from a baseline.

Checked by hand in tests/attribution/test_grad_cams.py.
"""

import jax
import numpy as np
from jaxtyping import Array

from instrument_ig.attribution import arguments
from instrument_ig.attribution.grad_cam import upsample
from instrument_ig.attribution.paths import lay_paths
from instrument_ig.attribution.per_input import map_each, without_completeness
from instrument_ig.attribution.quadrature import quadrature
from instrument_ig.attribution.work_items import Report, WorkItems, n_rows, weighted_sums
from instrument_ig.types import Attribution, Score, Split


def integrated_grad_cam(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images,
    *,
    key: Array | None = None,
    steps: int = 50,
    rule: str = "midpoint",
    memory: int | None = None,
    chunk: int | None = None,
    report: Report = None,
) -> Attribution:
    """Average relu(sum_c w_c (A_c - A_c(b))) over the path from baseline b to the input.

    A are the tap's feature maps at a path point and w_c the sum over positions of d score / d A_c
    there; the average is upsampled bilinearly to the axes of the input.

    Args:
        score: a `Split` at the tap; `prefix` maps an image [T, F] to [t, f, C].
        inputs: images [B, T, F].
        baselines: as for `integrated_gradients`; the paper's is zero.
        key: not used; nothing is drawn.
        steps: path points of each map and baseline.
        rule: a name in `quadrature.RULES`.
        memory: bytes the program may hold at once. None: half the device's, 2 GiB on a CPU.
        chunk: path points evaluated together. None: as many as are fast and fit in `memory`.
        report: called with (path points done, path points in all).

    Returns:
        Values [B, T, F] in arbitrary units; residual NaN and converged False, for rectified maps
        do not share out the score.

    Raises:
        ValueError: `score` is no `Split`, its tap is no stack of maps [t, f, C], or an argument
            that `integrated_gradients` refuses.

    Numerics: NaN and infinities propagate to the map they arise in, and to no other.
    Cost: R * (steps + 1) passes through the prefix and R * steps gradients behind it per image;
        memory of one chunk, of the images and baselines, and of the feature maps of all baselines.
    References: Sattarzadeh et al., Integrated Grad-CAM, ICASSP 2021.
    """
    del key
    inputs = arguments.checked_images(inputs)
    arguments.checked_tap(score, inputs)
    baselines = arguments.checked_baselines(baselines, inputs)
    nodes, weights = quadrature(rule, steps)
    images = lay_paths(arguments.whole(score), inputs, baselines, "input")[0].maps
    at_start = map_each(_tap, score, images.start, memory=memory, chunk=chunk)
    n, r, dtype = n_rows(images), len(baselines), images.delta.dtype
    rows = np.repeat(np.arange(n), steps)
    items = WorkItems(rows, np.tile(nodes.astype(dtype), n), np.tile(weights / r, n), rows // r)
    maps, _ = weighted_sums(
        _map,
        score,
        (images, at_start),
        items,
        slots=len(inputs),
        memory=memory,
        chunk=chunk,
        report=report,
    )
    upsampled = jax.vmap(lambda values: upsample(values, inputs.shape[1:]))(maps)
    return without_completeness(upsampled.astype(inputs.dtype), steps=r * steps)


def _tap(score, image, _):
    return score.prefix(image), ()


def _map(score, path_and_start, alpha):
    path, at_start = path_and_start
    maps = score.prefix(path.at(alpha))
    weights = jax.grad(score.rest)(maps).sum((0, 1))
    return jax.nn.relu((maps - at_start) @ weights), ()
