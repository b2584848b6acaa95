"""Saliency: how strongly the score reacts to each cell.

Checked against closed forms in tests/attribution/test_gradient_maps.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from instrument_ig.attribution import arguments
from instrument_ig.attribution.per_input import without_completeness
from instrument_ig.machine import Execution, map_rows
from instrument_ig.types import Attribution, Score, Split


def saliency(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images | None = None,
    *,
    key: Array | None = None,
    execution: Execution | None = None,
) -> Attribution:
    """Return abs(grad score(x)), in score units per unit of the input.

    Args:
        score: function of one image, or a `Split`, of which only the whole matters.
        inputs: images [B, T, F], or any shape [B, ...].
        baselines: not used; a gradient has none.
        key: not used; nothing is drawn.
        execution: memory, devices, progress in images.

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
    execution = execution or Execution()
    score = arguments.checked_score(score, inputs, execution.precision)
    maps = map_rows(lambda image: jnp.abs(jax.grad(score)(image)), inputs, execution)
    return without_completeness(maps, steps=1)
