"""Grad-CAM: which positions of a feature map speak for the score.

Checked by hand on one convolution and against Captum in tests/attribution/test_grad_cams.py.
"""

import jax
from jaxtyping import Array, Float

from instrument_ig.attribution import arguments
from instrument_ig.attribution.per_input import map_each, without_completeness
from instrument_ig.attribution.work_items import Report
from instrument_ig.types import Attribution, Score, Split


def grad_cam(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images | None = None,
    *,
    key: Array | None = None,
    relu: bool = True,
    memory: int | None = None,
    chunk: int | None = None,
    report: Report = None,
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
        memory: bytes the program may hold at once. None: half the device's, 2 GiB on a CPU.
        chunk: images evaluated together. None: as many as are fast and fit in `memory`.
        report: called with (images done, images in all).

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
    arguments.checked_tap(score, inputs)
    function = _rectified if relu else _signed
    maps = map_each(function, score, inputs, memory=memory, chunk=chunk, report=report)
    return without_completeness(maps, steps=1)


def upsample(values: Float[Array, "t f"], shape: tuple[int, int]) -> Float[Array, "T F"]:
    """Interpolate bilinearly between cell centres; a constant map stays constant."""
    return jax.image.resize(values, shape, "bilinear", antialias=False)


def weighted(score: Split, image: Float[Array, "T F"]) -> Float[Array, "t f"]:
    """Grad-CAM at the tap's own resolution, with its sign."""
    maps = score.prefix(image)
    weights = jax.grad(score.rest)(maps).mean((0, 1))
    return maps @ weights


def _rectified(score, image, _):
    return upsample(jax.nn.relu(weighted(score, image)), image.shape), ()


def _signed(score, image, _):
    return upsample(weighted(score, image), image.shape), ()
