"""Insertion and deletion: does the score move first where the map says it should?

Checked against a plain loop in tests/attribution/test_checks.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.attribution import arguments
from instrument_ig.machine import Execution, map_rows
from instrument_ig.types import Score, Split

ORDERINGS = ("map", "random", "energy")


class Curves(NamedTuple):
    """Scores while cells are exchanged in some order, and the areas under them."""

    fraction: Float[Array, " S"]  # of the cells exchanged, from 0 to 1
    insertion: Float[Array, "B S"]  # the first cells of the input on the baseline
    deletion: Float[Array, "B S"]  # the input without its first cells
    insertion_area: Float[Array, " B"]  # mean height in score units: high is good
    deletion_area: Float[Array, " B"]  # low is good


def insertion_deletion(
    score: Score | Split,
    inputs: arguments.Images,
    baselines: arguments.Images,
    values: arguments.Images,
    *,
    key: Array,
    levels: int = 20,
    execution: Execution | None = None,
) -> dict[str, Curves]:
    """Exchange cells between input and baseline in the map's order, at random, and by energy.

    Curves of a map mean nothing alone: any order reaches the same end. "random" is a uniformly
    drawn order of the cells, "energy" the order of abs(input - baseline), which needs no model.

    Args:
        score: function of one image, or a `Split`, of which only the whole matters.
        inputs: images [B, T, F], or any shape [B, ...].
        baselines: one image for all, or one each.
        values: maps; the largest value comes first.
        key: of the random order; image b's depends on `key` and b alone.
        levels: equal steps from no cell to all.
        execution: memory, devices, progress in scores.

    Returns:
        One `Curves` for each of `ORDERINGS`.

    Raises:
        ValueError: several baselines per input, maps of another shape, or `levels` < 1.

    Numerics: equal values are exchanged in the order of the cells. A map with a NaN has no order:
        its curves are NaN.
    Cost: 6 B (levels + 1) scores; memory of one chunk and 3 B orders.
    References: Petsiuk, Das, Saenko, RISE, 2018, section 4.1.
    """
    inputs = arguments.checked_images(inputs)
    baselines = arguments.checked_baselines(baselines, inputs)
    score = arguments.checked_score(score, inputs)
    arguments.checked_maps(values, inputs)
    if baselines.shape[1] != 1 or levels < 1:
        raise ValueError(f"{baselines.shape[1]} baselines and levels={levels}: one, and at least 1")
    b = len(inputs)
    baseline = jnp.broadcast_to(baselines[:, 0], inputs.shape)
    draw = jax.vmap(lambda own: jax.random.uniform(own, inputs.shape[1:]))
    importance = values, draw(jax.random.split(key, b)), jnp.abs(inputs - baseline)
    data = (
        jnp.tile(inputs, (3, *(1,) * (inputs.ndim - 1))),
        jnp.tile(baseline, (3, *(1,) * (inputs.ndim - 1))),
        jnp.concatenate([_ranks(each) for each in importance]),
    )
    fraction = np.arange(levels + 1) / levels
    count = np.round(fraction * inputs[0].size).astype(int)
    shape = 3 * b, 2, levels + 1
    row, inserting, level = (axis.reshape(-1) for axis in np.indices(shape))

    def exchanged(item):
        row, n, inserting = item
        image, start, rank = jax.tree.map(lambda leaf: leaf[row], data)
        return score(jnp.where((rank < n) == inserting, image, start))

    items = row, count[level], inserting == 0
    scores = map_rows(exchanged, items, execution or Execution())
    scores = jnp.reshape(scores, (3, b, 2, levels + 1))
    has_order = ~jnp.isnan(jnp.stack(importance)).any(tuple(range(2, inputs.ndim + 1)))
    scores = jnp.where(has_order[:, :, None, None], scores, jnp.nan)
    areas = jnp.trapezoid(scores, dx=1 / levels)
    return {
        name: Curves(jnp.asarray(fraction), own[:, 0], own[:, 1], area[:, 0], area[:, 1])
        for name, own, area in zip(ORDERINGS, scores, areas, strict=True)
    }


@jax.jit
@jax.vmap
def _ranks(importance):
    """Place of each cell when the largest comes first."""
    order = jnp.argsort(-importance.reshape(-1), stable=True)
    return jnp.argsort(order).reshape(importance.shape)
