"""Grad-CAM++: Grad-CAM with weights that do not fade when an object appears more than once.

Checked by hand in tests/attribution/test_grad_cams.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from instrument_ig.attribution import arguments
from instrument_ig.attribution.grad_cam import upsample
from instrument_ig.attribution.per_input import without_completeness
from instrument_ig.machine import Execution, map_rows
from instrument_ig.types import Attribution, Score, Split


def grad_cam_plus_plus(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images | None = None,
    *,
    key: Array | None = None,
    execution: Execution | None = None,
) -> Attribution:
    """Weight a tap's feature maps by their rectified gradients, each position by its own share.

    For the score exp(S) the paper's derivatives are powers of g = dS / dA, and its share
    g^2 / (2 g^2 + g^3 sum over positions of A_c) is a = 1 / (2 + g sum of A_c). With w_c the sum of
    a relu(g) over positions, the map is relu(sum_c w_c A_c), interpolated bilinearly to the axes of
    the input. The paper's factor exp(S), one number per image, is left out.

    Args:
        score: a `Split` at the tap; `prefix` maps an image [T, F] to [t, f, C].
        inputs: images [B, T, F].
        baselines: not used; Grad-CAM++ has none.
        key: not used; nothing is drawn.
        execution: memory, devices, progress in images.

    Returns:
        Values [B, T, F] in arbitrary units; residual NaN and converged False, for they do not
        share out the score.

    Raises:
        ValueError: `score` is no `Split`, or its tap is no stack of maps [t, f, C].

    Numerics: a zero denominator gives share 0.
    Cost: one forward and one backward pass behind the tap per image.
    References: Chattopadhay, Sarkar, Howlader, Balasubramanian, Grad-CAM++, 2018, eq. 5, 6, 19.
    """
    del baselines, key
    inputs = arguments.checked_images(inputs)
    execution = execution or Execution()
    score = arguments.checked_tap(score, inputs, execution.precision)
    return without_completeness(map_rows(partial(_map, score), inputs, execution), steps=1)


def _map(score, image):
    maps = score.prefix(image)
    slope = jax.grad(score.rest)(maps)
    denominator = 2 + slope * maps.sum((0, 1), keepdims=True)
    share = jnp.where(denominator == 0, 0, 1 / jnp.where(denominator == 0, 1, denominator))
    weights = (share * jax.nn.relu(slope)).sum((0, 1))
    return upsample(jax.nn.relu(maps @ weights), image.shape)
