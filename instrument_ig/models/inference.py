"""What a model says of any number of images."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from instrument_ig.machine import Execution, fitting, n_devices, over_processes, replicated, rowwise
from instrument_ig.types import Model


def logits(
    model: Model,
    variables: Any,
    images: Float[np.ndarray, "B T F"],
    *,
    execution: Execution | None = None,
) -> Float[np.ndarray, "B K"]:
    """Return the logits of images, as many at a time as the computer takes.

    Args:
        model: the architecture.
        variables: its parameters and running statistics.
        images: any number of them, none included.
        execution: how to use the computer; None: the default device.

    Raises:
        ValueError: not even one image fits into memory, or images of another shape.

    Numerics: float32 products at "highest" precision, whatever `execution` and JAX's settings say.
        An image's logits depend on no other image but by rounding, for batches of different size
        add up in different orders.
    Cost: B forward passes; a last batch that is not full is filled up to a power of two, so that
        any number of images meets few programs. Variables are put on the devices once per call.
    """
    compute = lambda images, execution: _by_batches(model, variables, images, execution)
    return over_processes(compute, images, execution or Execution())


def _by_batches(model, variables, images, execution):
    variables, forward = replicated(variables, execution), rowwise(_Forward(model), execution)
    count, devices, report = len(images), n_devices(execution), execution.report
    item_bytes, hot_bytes = _needs(model, images.itemsize)
    most = fitting(_power_of_two(count), item_bytes, execution, hot_bytes=hot_bytes) * devices
    found = [np.zeros((0, model.n_outputs), images.dtype)]
    with jax.default_matmul_precision("highest"):
        for start in range(0, count, most):
            batch = images[start : start + most]
            size = min(most, devices * _power_of_two(-(-len(batch) // devices)))
            absent = np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)
            found.append(forward(variables, np.concatenate([batch, absent])))
            jax.block_until_ready(found[-2])  # two batches are on the device at most
            if report:
                report(min(start + most, count), count)
    return np.concatenate(jax.device_get(found))[:count]


@dataclass(frozen=True)
class _Forward:
    """The logits of a batch, as a function that compares by its model."""

    model: Model

    def __call__(self, variables, images):
        return self.model.apply(variables, images).logits


def _needs(model, value_bytes):
    """Return the bytes of all maps of an image, and of those around one frame of the widest.

    A correlation reads three frames over and over to write one. What a whole layer reads and writes
    leaves a cache with the first image, and weights are read once per batch, however large.
    """
    shapes = [layer.shape for layer in model.summary()]
    frames = max(math.prod(shape[1:]) for shape in shapes)
    return value_bytes * sum(map(math.prod, shapes)), 4 * value_bytes * frames


def _power_of_two(count):
    return 1 << max(count - 1, 0).bit_length()
