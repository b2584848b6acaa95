"""What a machine can do at best, measured; and what a gradient takes."""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.stopwatch import time_call

ROOFS = ("highest", "default", "bfloat16")


@lru_cache
def matrix_rate(roof: str, size: int) -> float:
    """Return the floating point operations per second of a large matrix product.

    Args:
      roof: the precision of a product of float32 numbers, or "bfloat16": of such numbers.
      size: rows and columns.
    """
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    if roof == "bfloat16":
        matrix, roof = matrix.astype(jnp.bfloat16), "default"
    product = jax.jit(partial(jnp.matmul, precision=roof))
    return 2 * size**3 / time_call(lambda: product(matrix, matrix)).median_s


@lru_cache
def bandwidth(size: int) -> float:
    """Return the bytes per second of a + 2 b with `size` float32 numbers each: two reads, a write.

    On a CPU the memory moves a third more: what is written is read first.
    """
    a, b = jax.random.normal(jax.random.key(0), (2, size))
    triad = jax.jit(lambda a, b: a + 2 * b)
    return 3 * a.nbytes / time_call(lambda: triad(a, b)).median_s


def gradient_flop(variables: Any, shape: tuple[int, int]) -> int:
    """Return the floating point operations of an input gradient of `chen`, as it is written."""
    params = variables["params"]
    frames, bins = shape
    forward = 0
    for place in range(6):
        kernel = params[f"conv2d_{place}"]["kernel"]
        forward += 2 * kernel.size * (frames >> place // 2) * (bins >> place // 2)
    forward += 2 * sum(params[f"dense_{place}"]["kernel"].size for place in range(2))
    return 2 * forward
