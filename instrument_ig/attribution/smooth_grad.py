"""SmoothGrad: the gradient averaged over noisy copies of the input.

Checked against closed forms in tests/attribution/test_gradient_maps.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from instrument_ig.attribution import arguments
from instrument_ig.attribution.per_input import without_completeness
from instrument_ig.machine import Execution, sum_over_points
from instrument_ig.types import Attribution, Score, Split


def smooth_grad(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images | None = None,
    *,
    key: Array,
    draws: int = 50,
    noise: float = 0.15,
    execution: Execution | None = None,
) -> Attribution:
    """Return the mean over draws of grad score(x + sigma e), e normal, signed.

    sigma = noise * (max(x) - min(x)), image by image.

    Args:
        score: function of one image, or a `Split`, of which only the whole matters.
        inputs: images [B, T, F], or any shape [B, ...].
        baselines: not used; a gradient has none.
        key: of the noise; image b's depends on `key` and b alone.
        draws: noisy copies of each image.
        noise: standard deviation as a share of the image's range; the paper has 0.1 to 0.2.
        execution: memory, devices, progress in copies.

    Returns:
        Values [B, T, F] in score units per unit of the input; residual NaN and converged False,
        for sensitivities do not share out the score.

    Raises:
        ValueError: `draws` < 1 or `noise` not positive; a shape, dtype or NaN that cannot be; a
            score that is not one real number.

    Numerics: a constant image (silence) has no range and gets its plain gradient. The standard
        error of a cell falls as 1 / sqrt(draws).
    Cost: `draws` gradients per image; memory of one chunk.
    References: Smilkov, Thorat, Kim, Viegas, Wattenberg, SmoothGrad, 2017.
    """
    del baselines
    inputs = arguments.checked_images(inputs)
    execution = execution or Execution()
    score = arguments.checked_score(score, inputs, execution.precision)
    if draws < 1 or not 0 < noise < np.inf:
        raise ValueError(f"draws={draws}, noise={noise}: at least 1 draw of positive noise")

    def noisy_gradient(row, draw):
        image, sigma, key = row
        noise = jax.random.normal(jax.random.fold_in(key, draw), image.shape, image.dtype)
        return jax.grad(score)(image + sigma * noise)

    sigma = noise * jnp.ptp(inputs.reshape(len(inputs), -1), axis=1)
    rows = inputs, sigma, jax.random.split(key, len(inputs))
    weights = np.full(draws, 1 / draws)
    values = sum_over_points(noisy_gradient, rows, np.arange(draws), weights, execution)
    return without_completeness(values.astype(inputs.dtype), steps=draws)
