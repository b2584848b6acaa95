"""Grad-CAM: which positions of a feature map speak for the score.

Checked by hand on one convolution and against Captum in tests/attribution/test_grad_cams.py.
"""

import jax
from jaxtyping import Array, Float

from instrument_ig.attribution import arguments
from instrument_ig.attribution.per_input import without_completeness
from instrument_ig.machine import Execution, map_rows
from instrument_ig.types import Attribution, Score, Split


def grad_cam(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images | None = None,
    *,
    key: Array | None = None,
    relu: bool = True,
    execution: Execution | None = None,
) -> Attribution:
    """Weight a tap's feature maps by their mean gradients, add, rectify, and upsample.

    With A the tap [t, f, C] and w_c = mean over positions of d score / d A_c, the map is
    relu(sum_c w_c A_c), interpolated bilinearly to the axes of the input.

    Args:
        score: a `Split` at the tap; `prefix` maps an image [T, F] to [t, f, C].
        inputs: images [B, T, F].
        baselines: not used; Grad-CAM has none.
        key: not used; Grad-CAM draws nothing.
        relu: keep only what speaks for the score, as the paper does (Captum's default does not).
        execution: memory, devices, progress in images.

    Returns:
        Values [B, T, F] in arbitrary units; residual NaN and converged False, for a Grad-CAM map
        does not share out the score.

    Raises:
        ValueError: `score` is no `Split`, or its tap is no stack of maps [t, f, C].

    Numerics: with `relu` all zero where nothing speaks for the score; interpolation repeats the
        outermost cells.
    Cost: one forward and one backward pass behind the tap per image.
    References: Selvaraju et al., Grad-CAM: visual explanations from deep networks via
        gradient-based localization, 2017, eq. 1 and 2.
    """
    del baselines, key
    inputs = arguments.checked_images(inputs)
    execution = execution or Execution()
    score = arguments.checked_tap(score, inputs, execution.precision)
    sign = jax.nn.relu if relu else lambda values: values
    one = lambda image: upsample(sign(weighted(score, image)), image.shape)
    return without_completeness(map_rows(one, inputs, execution), steps=1)


def upsample(values: Float[Array, "t f"], shape: tuple[int, int]) -> Float[Array, "T F"]:
    """Interpolate bilinearly between cell centres; a constant map stays constant."""
    return jax.image.resize(values, shape, "bilinear", antialias=False)


def weighted(score: Split, image: Float[Array, "T F"]) -> Float[Array, "t f"]:
    """Grad-CAM at the tap's own resolution, with its sign."""
    maps = score.prefix(image)
    weights = jax.grad(score.rest)(maps).mean((0, 1))
    return maps @ weights
