"""Max-sensitivity: how much a map changes when its input hardly does.

Checked against closed forms in tests/attribution/test_checks.py.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from instrument_ig.attribution import arguments
from instrument_ig.machine import Report


def max_sensitivity(
    explain: Callable[[Float[Array, "B ..."]], Float[Array, "B ..."]],
    inputs: arguments.Images,
    values: arguments.Images,
    *,
    key: Array,
    radius: float = 0.02,
    draws: int = 10,
    report: Report | None = None,
) -> Float[Array, " B"]:
    """Return the largest norm(explain(x + e) - values) / norm(values) over draws of e.

    Every cell of e is uniform in [-radius, radius] * (max(x) - min(x)).

    Args:
        explain: images to maps, such as a method with everything else fixed.
        inputs: images [B, T, F], or any shape [B, ...].
        values: explain(inputs).
        key: of the draws.
        radius: largest change of a cell, as a share of the image's range.
        draws: neighbours of each image.
        report: called with (draws done, draws in all).

    Raises:
        ValueError: maps of another shape, `draws` < 1 or `radius` not positive.

    Numerics: a lower bound of the maximum over the whole neighbourhood. NaN where a map is zero or
        holds a NaN.
    Cost: `draws` calls of `explain`.
    References: Yeh, Hsieh, Suggala, Inouye, Ravikumar, On the (in)fidelity and sensitivity of
        explanations, 2019, definition 4.1.
    """
    inputs = arguments.checked_images(inputs)
    arguments.checked_maps(values, inputs)
    if draws < 1 or not 0 < radius < jnp.inf:
        raise ValueError(f"draws={draws}, radius={radius}: at least 1 draw of positive radius")
    flat = inputs.reshape(len(inputs), -1)
    reach = (radius * jnp.ptp(flat, axis=1)).reshape(-1, *(1,) * (inputs.ndim - 1))
    norm = lambda maps: jnp.linalg.norm(maps.reshape(len(maps), -1), axis=1)
    largest = jnp.zeros(len(inputs), values.dtype)
    for draw, own in enumerate(jax.random.split(key, draws)):
        change = reach * jax.random.uniform(own, inputs.shape, inputs.dtype, -1, 1)
        moved = explain(inputs + change)
        arguments.checked_maps(moved, inputs)
        largest = jnp.maximum(largest, norm(moved - values))
        if report:
            report(draw + 1, draws)
    return largest / norm(values)
