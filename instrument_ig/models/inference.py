"""What a model says of any number of images."""

from typing import Any

import numpy as np
from jaxtyping import Float

from instrument_ig.machine import Execution, map_rows
from instrument_ig.models.scores import all_logits
from instrument_ig.types import Model


def logits(
    model: Model,
    variables: Any,
    images: Float[np.ndarray, "B T F"],
    *,
    execution: Execution | None = None,
) -> Float[np.ndarray, "B K"]:
    """Return the logits of images, as many at a time as the computer likes.

    Args:
        model: the architecture.
        variables: its parameters and running statistics.
        images: any number of them, none included.
        execution: memory, devices, progress in images.

    Raises:
        ValueError: not even one image fits into memory, or images of another shape.

    Numerics: float32 products at "highest" precision, whatever `execution` and JAX's settings say.
        An image's logits depend on no other image but by rounding, for batches of different size
        add up in different orders.
    Cost: B forward passes. Variables are put on the devices once.
    """
    if not len(images):
        return np.zeros((0, model.n_outputs), images.dtype)
    return np.asarray(map_rows(all_logits(model, variables), images, execution or Execution()))
