"""Infidelity: does a map predict what happens when a patch is replaced by the baseline?

Checked against a plain loop and closed forms in tests/attribution/test_checks.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.attribution import arguments
from instrument_ig.machine import Execution, map_rows
from instrument_ig.types import Score, Split


class Infidelity(NamedTuple):
    """How badly the sums of a map over patches predict the score's fall without the patches."""

    error: Float[Array, " B"]  # mean squared error, in squared score units
    unexplained: Float[Array, " B"]  # the same after the best scaling, as a share: 0 best, 1 worst


def infidelity(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images,
    values: arguments.Images,
    *,
    key: Array,
    draws: int = 64,
    execution: Execution | None = None,
) -> Infidelity:
    """Compare the map's sum over random rectangles with the score's fall when they are replaced.

    With D the rectangle, p = sum of the map over D and d = score(x) - score(x with b inside D):
    error = mean (p - d)^2 over draws, and unexplained = min over c of mean (c p - d)^2 / mean d^2.
    This is the infidelity of Yeh et al. for the perturbation (x - b) on D, written for maps that
    share out the score (their eq. 1 is for gradients: I . phi with I the perturbation). The
    unexplained share compares maps in different units, such as Grad-CAM's.

    Args:
        score: function of one image, or a `Split`, of which only the whole matters.
        inputs: images [B, T, F].
        baselines: one image for all, or one each.
        values: maps.
        key: of the rectangles; image b's depend on `key` and b alone.
        draws: rectangles per image; each side is uniform from 1 to half of the axis.
        execution: memory, devices, progress in scores.

    Raises:
        ValueError: images that are not [B, T, F], several baselines per input, maps of another
            shape, or `draws` < 1.

    Numerics: unexplained is NaN where no patch moves the score, 1 where the map's sums are zero.
    Cost: B (draws + 1) scores; memory of one chunk.
    References: Yeh, Hsieh, Suggala, Inouye, Ravikumar, On the (in)fidelity and sensitivity of
        explanations, 2019, eq. 1 and section 3.
    """
    inputs = arguments.checked_images(inputs)
    baselines = arguments.checked_baselines(baselines, inputs)
    score = arguments.checked_score(score, inputs)
    arguments.checked_maps(values, inputs)
    if inputs.ndim != 3 or baselines.shape[1] != 1 or draws < 1:
        raise ValueError(
            f"inputs {inputs.shape}, {baselines.shape[1]} baselines, draws={draws}: "
            "images [B, T, F], one baseline and at least 1 draw"
        )
    b = len(inputs)
    baseline = jnp.broadcast_to(baselines[:, 0], inputs.shape)
    data = inputs, baseline, jnp.asarray(values), jax.random.split(key, b)

    def without_patch(row_and_draw):
        row, draw = row_and_draw
        image, start, heatmap, own = jax.tree.map(lambda leaf: leaf[row], data)
        inside = _rectangle(jax.random.fold_in(own, draw), image.shape) & (draw >= 0)
        return score(jnp.where(inside, start, image)), jnp.where(inside, heatmap, 0).sum()

    # Draw -1 has an empty rectangle: the score of the input itself.
    items = np.repeat(np.arange(b), draws + 1), np.tile(np.arange(-1, draws), b)
    scores, sums = map_rows(without_patch, items, execution or Execution())
    scores, predicted = jnp.reshape(scores, (b, -1)), jnp.reshape(sums, (b, -1))[:, 1:]
    fall = scores[:, :1] - scores[:, 1:]
    square = lambda terms: jnp.square(terms).mean(1)
    size = square(predicted)
    explained = jnp.square((predicted * fall).mean(1)) / jnp.where(size == 0, 1, size)
    return Infidelity(square(predicted - fall), 1 - explained / square(fall))


def _rectangle(key, shape):
    """Draw a rectangle with sides from 1 to half the image, anywhere inside it."""
    inside = []
    for axis_key, size in zip(jax.random.split(key), shape, strict=True):
        length_key, start_key = jax.random.split(axis_key)
        length = jax.random.randint(length_key, (), 1, max(1, size // 2) + 1)
        start = jax.random.randint(start_key, (), 0, size - length + 1)
        inside.append((jnp.arange(size) >= start) & (jnp.arange(size) < start + length))
    return inside[0][:, None] & inside[1][None]
