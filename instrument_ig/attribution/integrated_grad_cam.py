"""Integrated Grad-CAM: Grad-CAM's weights collected along the path from a baseline.

Checked by hand in tests/attribution/test_grad_cams.py.
"""

from functools import partial

import jax
import numpy as np
from jaxtyping import Array

from instrument_ig.attribution import arguments
from instrument_ig.attribution.grad_cam import upsample
from instrument_ig.attribution.paths import straight_paths
from instrument_ig.attribution.per_input import without_completeness
from instrument_ig.attribution.quadrature import quadrature
from instrument_ig.machine import Execution, sum_over_points
from instrument_ig.types import Attribution, Score, Split


def integrated_grad_cam(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images,
    *,
    key: Array | None = None,
    steps: int = 50,
    rule: str = "midpoint",
    execution: Execution | None = None,
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
        execution: memory, devices, progress in path points.

    Returns:
        Values [B, T, F] in arbitrary units; residual NaN and converged False, for rectified maps
        do not share out the score.

    Raises:
        ValueError: `score` is no `Split`, its tap is no stack of maps [t, f, C], or an argument
            that `integrated_gradients` refuses.

    Numerics: NaN and infinities propagate to the map they arise in, and to no other.
    Cost: 2 R * steps passes through the prefix and R * steps gradients behind it per image; memory
        of one batch, and of a map at the tap for each image and baseline.
    References: Sattarzadeh et al., Integrated Grad-CAM, ICASSP 2021.
    """
    del key
    inputs = arguments.checked_images(inputs)
    execution = execution or Execution()
    score = arguments.checked_tap(score, inputs, execution.precision)
    baselines = arguments.checked_baselines(baselines, inputs)
    nodes, weights = quadrature(rule, steps)
    r, paths = baselines.shape[1], np.arange(len(inputs) * baselines.shape[1])
    images = straight_paths(inputs, baselines, paths)
    nodes = nodes.astype(images.delta.dtype)
    maps = sum_over_points(partial(_map, score), images, nodes, weights, execution)
    maps = maps.reshape(len(inputs), r, *maps.shape[1:]).mean(1)
    upsampled = jax.vmap(lambda values: upsample(values, inputs.shape[1:]))(maps)
    return without_completeness(upsampled.astype(inputs.dtype), steps=r * steps)


def _map(score, path, alpha):
    maps = score.prefix(path.at(alpha))
    weights = jax.grad(score.rest)(maps).sum((0, 1))
    return jax.nn.relu((maps - score.prefix(path.start)) @ weights)
