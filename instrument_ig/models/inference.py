"""What a model says of any number of images, by one compiled program."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from instrument_ig.types import Model

TOGETHER = 8  # images of one forward pass: the activations of more leave a CPU's cache


def logits(
    model: Model, variables: Any, images: Float[np.ndarray, "B T F"]
) -> Float[np.ndarray, "B K"]:
    """Return the logits of images, eight at a time; the last eight are filled up with zeros.

    Args:
        model: the architecture.
        variables: its parameters and running statistics.
        images: any number of them, none included.

    Numerics: an image's logits depend on no other image.
    Cost: B forward passes, rounded up to a multiple of eight; memory of eight.
    """
    missing = -len(images) % TOGETHER
    padded = np.pad(images, ((0, missing), (0, 0), (0, 0)))
    starts = range(0, len(padded), TOGETHER)
    rows = [_logits(model, variables, padded[start : start + TOGETHER]) for start in starts]
    return np.concatenate([np.zeros((0, model.n_outputs), images.dtype), *jax.device_get(rows)])[
        : len(images)
    ]


@partial(jax.jit, static_argnums=0)
def _logits(model, variables, images):
    return model.apply(variables, images).logits
