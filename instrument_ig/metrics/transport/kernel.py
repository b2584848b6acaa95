"""The Gibbs kernel exp(-cost / epsilon) of two axes, applied to logarithms without a matrix.

The cost is a sum over the axes, so the kernel is applied along one axis, then along the other. A
line is cut into blocks short enough for float32: a block meets itself as a small matrix product and
everything beyond its ends through the blocks' totals. Checked against the dense matrix in
tests/metrics/transport/test_kernel.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from instrument_ig.metrics.transport.ground import AxisCost, Ground, cost_matrix

BLOCK = 128  # bins: matrix products of this size run at full speed
SPAN = 80.0  # nats: exp(-SPAN) is still a normal float32
LOWEST = -1e30  # stands for log 0 where a finite reference is needed


def log_kernel(
    log_weights: Float[Array, "*batch T F"], ground: Ground, epsilon: float
) -> Float[Array, "*batch T F"]:
    """Compute log sum_y exp(log_weights(y) - cost(x, y) / epsilon) at every cell x.

    Args:
      log_weights: in nats; minus infinity where there is nothing.
      ground: the two axes' costs.
      epsilon: regularisation, in the unit of the cost.

    Returns:
      The same shape; minus infinity only where no weight is left at all.

    Numerics: never overflows, and stable at any epsilon. Against float64 the error is about
      1e-7 / epsilon for costs up to one: the rounding of the arguments themselves.
    Cost: an exponential, a logarithm and at most 128 multiply-adds per cell and linear axis; n
      exponentials per cell on a ring or categories of n bins. Costs of more than 80 epsilon along a
      line make the blocks shorter and their pairs more. A few copies of the maps.
    """
    return log_kernel_along(log_kernel_along(log_weights, ground, epsilon, 1), ground, epsilon, 0)


def log_kernel_along(
    log_weights: Float[Array, "*batch T F"], ground: Ground, epsilon: float, axis: int
) -> Float[Array, "*batch T F"]:
    """Apply one axis' kernel only: time is axis 0, frequency axis 1. See `log_kernel`."""
    along = _line if ground[axis].kind == "linear" else _dense
    return along(log_weights, ground[axis], epsilon, axis - 2)


def _dense(x, along: AxisCost, epsilon, axis):
    return _log_product(-cost_matrix(along) / epsilon, x, axis)


def _line(x, along: AxisCost, epsilon, axis):
    """Cut the axis into blocks: [..., bins, ...] becomes [..., blocks, width, ...]."""
    decay = along.edge / epsilon  # nats from one bin to the next
    longest = min(BLOCK, SPAN / decay) if decay else BLOCK
    blocks = math.ceil(along.bins / max(1, int(longest)))
    width = math.ceil(along.bins / blocks)
    x = _cut(x, blocks, width, axis)
    steps = np.arange(width)
    kernel = jnp.asarray(np.exp(-decay * np.abs(steps[:, None] - steps)), x.dtype)
    top = jnp.maximum(jnp.max(x, axis, keepdims=True), LOWEST)
    near = _product(kernel, jnp.exp(x - top), axis)
    if blocks > 1:
        near, top = _add_other_blocks(near, top, decay, axis)
    return _join(top + jnp.log(near), along.bins, axis)


def _add_other_blocks(near, top, decay, axis):
    """Add what reaches each block over its two ends; both results in units of exp(new top)."""
    width, blocks = near.shape[axis], near.shape[axis - 1]
    first, last = (
        jnp.squeeze(top, axis) + jnp.log(jax.lax.index_in_dim(near, end, axis, keepdims=False))
        for end in (0, width - 1)
    )
    # From the last cell of a block on the left to the first cell of a block on the right.
    gaps = np.subtract.outer(np.arange(blocks), np.arange(blocks)) - 1
    entering = np.where(gaps >= 0, -decay * (width * gaps + 1), -np.inf)
    right = jnp.expand_dims(_log_product(entering, last, axis), axis)
    left = jnp.expand_dims(_log_product(entering.T, first, axis), axis)
    peak = jnp.maximum(top, jnp.maximum(right, left))
    inside = np.exp(-decay * np.arange(width))
    total = (
        near * jnp.exp(top - peak)
        + _constant(inside, near, axis) * jnp.exp(right - peak)
        + _constant(inside[::-1], near, axis) * jnp.exp(left - peak)
    )
    return total, peak


def _product(matrix, x, axis):
    matmul = lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
    return matmul(matrix, x) if axis == -2 else matmul(x, matrix)  # the matrix is symmetric


def _log_product(log_matrix, x, axis):
    """Compute log(exp(log_matrix) @ exp(x)) along an axis."""
    x = jnp.expand_dims(x, axis - 1)
    return jax.nn.logsumexp(x + _constant(log_matrix, x, axis), axis)


def _constant(values, x, axis):
    """Give values the rank and type of x, their last axis along `axis`."""
    values = values[..., None] if axis == -2 else values
    return jnp.asarray(values, x.dtype).reshape((1,) * (x.ndim - values.ndim) + values.shape)


def _cut(x, blocks, width, axis):
    axis += x.ndim
    padding = [(0, blocks * width - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
    x = jnp.pad(x, padding, constant_values=-jnp.inf)
    return x.reshape(*x.shape[:axis], blocks, width, *x.shape[axis + 1 :])


def _join(x, bins, axis):
    axis += x.ndim
    x = x.reshape(*x.shape[: axis - 1], -1, *x.shape[axis + 1 :])
    return jax.lax.slice_in_dim(x, 0, bins, axis=axis - 1)
