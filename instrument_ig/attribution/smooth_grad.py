"""SmoothGrad: the gradient averaged over noisy copies of the input.

Checked against closed forms in tests/attribution/test_gradient_maps.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from instrument_ig.attribution import arguments
from instrument_ig.attribution.per_input import without_completeness
from instrument_ig.attribution.work_items import Report, WorkItems, weighted_sums
from instrument_ig.types import Attribution, Score, Split


def smooth_grad(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images | None = None,
    *,
    key: Array,
    draws: int = 50,
    noise: float = 0.15,
    memory: int | None = None,
    chunk: int | None = None,
    report: Report = None,
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
        memory: bytes the program may hold at once. None: half the device's, 2 GiB on a CPU.
        chunk: copies evaluated together. None: as many as are fast and fit in `memory`.
        report: called with (copies done, copies in all).

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
    arguments.checked_score(score, inputs)
    if draws < 1 or not 0 < noise < np.inf:
        raise ValueError(f"draws={draws}, noise={noise}: at least 1 draw of positive noise")
    b = len(inputs)
    rows = np.repeat(np.arange(b), draws)
    items = WorkItems(
        rows, np.tile(np.arange(draws), b), np.full(b * draws, 1 / draws, np.float32), rows
    )
    sigma = noise * jnp.ptp(inputs.reshape(b, -1), axis=1)
    data = inputs, sigma, jax.random.split(key, b)
    values, _ = weighted_sums(
        _noisy_gradient, score, data, items, memory=memory, chunk=chunk, report=report
    )
    return without_completeness(values.astype(inputs.dtype), steps=draws)


def _noisy_gradient(score, data, draw):
    image, sigma, key = data
    noise = jax.random.normal(jax.random.fold_in(key, draw), image.shape, image.dtype)
    return jax.grad(arguments.whole(score))(image + sigma * noise), ()
