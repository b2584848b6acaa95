"""Saliency: how strongly the score reacts to each cell.

Checked against closed forms in tests/attribution/test_gradient_maps.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from instrument_ig.attribution import arguments
from instrument_ig.attribution.per_input import map_each, without_completeness
from instrument_ig.attribution.work_items import Report
from instrument_ig.types import Attribution, Score, Split


def saliency(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images | None = None,
    *,
    key: Array | None = None,
    memory: int | None = None,
    chunk: int | None = None,
    report: Report = None,
) -> Attribution:
    """Return abs(grad score(x)), in score units per unit of the input.

    Args:
        score: function of one image, or a `Split`, of which only the whole matters.
        inputs: images [B, T, F], or any shape [B, ...].
        baselines: not used; a gradient has none.
        key: not used; nothing is drawn.
        memory: bytes the program may hold at once. None: half the device's, 2 GiB on a CPU.
        chunk: images evaluated together. None: as many as are fast and fit in `memory`.
        report: called with (images done, images in all).

    Returns:
        Values [B, T, F]; residual NaN and converged False, for sensitivities do not share out the
        score.

    Raises:
        ValueError: a shape, dtype, NaN or number that cannot be; a score that is not one real
            number.

    Numerics: that of `jax.grad`; constant images (silence) are nothing special. NaN under
        `jit` propagates to its own map alone.
    Cost: one gradient per image.
    References: Simonyan, Vedaldi, Zisserman, Deep inside convolutional networks, 2014, section 3.
    """
    del baselines, key
    inputs = arguments.checked_images(inputs)
    arguments.checked_score(score, inputs)
    maps = map_each(_saliency, score, inputs, memory=memory, chunk=chunk, report=report)
    return without_completeness(maps, steps=1)


def _saliency(score, image, _):
    return jnp.abs(jax.grad(arguments.whole(score))(image)), ()
