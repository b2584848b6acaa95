"""The Gibbs kernel exp(-cost / epsilon) of two axes, applied to logarithms without a matrix.

The cost is a sum over the axes, so the kernel is applied along one axis, then along the other. A
line is cut into blocks: a block meets itself as a small matrix product and everything beyond its
ends through the blocks' totals. Where the kernel of a block does not fit float32, because epsilon
is small, a slower recursion takes over. Checked against the dense matrix in
tests/metrics/transport/test_kernel.py.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from instrument_ig.metrics.transport.graph import pad_axis, rotated
from instrument_ig.metrics.transport.ground import AxisCost, Ground, cost_matrix, diameter
from instrument_ig.metrics.transport.lipschitz import project_axis

BLOCK = 128  # bins: matrix products of this size run at full speed
LIFT = 38.0  # nats: exp(2 LIFT) times 128^2 is still a float32
SPAN = 104.0  # nats: from exp(2 LIFT) down to what is lost of products of float32, and 1e-7 of it
LOWEST = -1e30  # stands for log 0 where a finite reference is needed

LogWeights = Float[Array, "*batch T F"]
Epsilon = float | Float[Array, ""]
Form = Literal["product", "blocks", "recursion"]


def log_kernel(
    log_weights: LogWeights, ground: Ground, epsilon: Epsilon, *, form: Form = "recursion"
) -> LogWeights:
    """Compute log sum_y exp(log_weights(y) - cost(x, y) / epsilon) at every cell x.

    Args:
      log_weights: in nats; minus infinity where there is nothing.
      ground: the two axes' costs.
      epsilon: regularisation, in the unit of the cost; may be traced.
      form: how lines are done, see `form_for`. "recursion" is right at any epsilon, the others are
        faster.

    Returns:
      The same shape; minus infinity only where no weight is left at all.

    Numerics: never overflows. Against float64 the error is about 1e-7 / epsilon for costs up to
      one: the rounding of the arguments themselves.
    Cost: per cell and linear axis an exponential, a logarithm and at most 128 multiply-adds, or
      by "recursion" about 100 operations; n exponentials on a ring or categories of n bins. A few
      copies of the maps.
    """
    if form == "product":
        return _product_of_lines(log_weights, ground, epsilon)
    after = log_kernel_along(log_weights, ground, epsilon, 1, form=form)
    return log_kernel_along(after, ground, epsilon, 0, form=form)


def log_kernel_along(
    log_weights: LogWeights,
    ground: Ground,
    epsilon: Epsilon,
    axis: int,
    *,
    form: Form = "recursion",
) -> LogWeights:
    """Apply one axis' kernel only: time is axis 0, frequency axis 1. See `log_kernel`."""
    along = ground[axis]
    if along.kind != "linear":
        return _log_product(
            -jnp.asarray(cost_matrix(along), log_weights.dtype) / epsilon, log_weights, axis - 2
        )
    line = _recursion if form == "recursion" else _blocks
    decay = jnp.asarray(along.edge / epsilon, log_weights.dtype)  # nats from one bin to the next
    return line(log_weights, along, decay, axis - 2)


def form_for(ground: Ground, epsilon: float) -> Form:
    """Return the fastest form that float32 has room for.

    "product" needs room for the kernel of both axes together, "blocks" for that of a block of each
    line, "recursion" for nothing.
    """
    lines = [along for along in ground if along.kind == "linear"]
    short = len(lines) == 2 and all(along.bins <= BLOCK for along in lines)
    if short and diameter(ground) <= SPAN * epsilon:
        return "product"
    blocks = [(_width(along)[1] - 1) * along.edge for along in lines]
    return "blocks" if max(blocks, default=0) <= SPAN * epsilon else "recursion"


def _product_of_lines(x, ground, epsilon):
    """Apply both kernels as matrices, with one logarithm in the end."""
    top = jnp.maximum(jnp.max(x, (-2, -1), keepdims=True), LOWEST)
    weights = jnp.exp(x - top + LIFT)
    for axis, along in zip((-1, -2), ground[::-1], strict=True):
        cost = jnp.asarray(cost_matrix(along), x.dtype) / epsilon
        weights = _product(jnp.exp(LIFT / 2 - cost), weights, axis)
    return top - 2 * LIFT + jnp.log(weights)


def _width(along):
    blocks = math.ceil(along.bins / BLOCK)
    return blocks, math.ceil(along.bins / blocks)


def _blocks(x, along: AxisCost, decay, axis):
    """Cut the axis into blocks: [..., bins, ...] becomes [..., blocks, width, ...]."""
    blocks, width = _width(along)
    x = _cut(x, blocks, width, axis)
    steps = np.arange(width)
    apart = jnp.asarray(np.abs(steps[:, None] - steps), x.dtype)
    top = jnp.maximum(jnp.max(x, axis, keepdims=True), LOWEST)
    near = _product(jnp.exp(LIFT - decay * apart), jnp.exp(x - top + LIFT), axis)
    top = top - 2 * LIFT
    if blocks > 1:
        near, top = _add_other_blocks(near, top, decay, axis)
    return _join(top + jnp.log(near), along.bins, axis)


def _add_other_blocks(near, top, decay, axis):
    """Add what reaches each block over its two ends; both results in units of exp(new top)."""
    width, blocks = near.shape[axis], near.shape[axis - 1]
    first, last = (
        jnp.squeeze(top, axis) + jnp.log(lax.index_in_dim(near, end, axis, keepdims=False))
        for end in (0, width - 1)
    )
    # From the last cell of a block on the left to the first cell of a block on the right.
    gaps = np.subtract.outer(np.arange(blocks), np.arange(blocks)) - 1
    way = jnp.asarray(np.where(gaps >= 0, width * gaps + 1, np.inf), near.dtype)
    right = jnp.expand_dims(_log_product(-decay * way, last, axis), axis)
    left = jnp.expand_dims(_log_product(-decay * way.T, first, axis), axis)
    peak = jnp.maximum(top, jnp.maximum(right, left))
    inside = jnp.exp(-decay * jnp.arange(width, dtype=near.dtype))
    total = (
        near * jnp.exp(top - peak)
        + _constant(inside, near, axis) * jnp.exp(right - peak)
        + _constant(inside[::-1], near, axis) * jnp.exp(left - peak)
    )
    return total, peak


def _recursion(x, along: AxisCost, decay, axis):
    """Sum in units of the largest term of each bin, which no neighbour's exceeds by `decay`.

    In these units a step along the axis is a factor of at most one, and steps of 1, 2, 4 ... bins
    add everything up.
    """
    top = jnp.maximum(-project_axis(-x, along._replace(edge=decay), axis), LOWEST)
    own = jnp.exp(x - top)
    rise = jnp.diff(top, axis=axis)
    upwards = pad_axis(jnp.exp(jnp.minimum(-rise - decay, 0)), axis, 1, 0)  # from the bin before
    downwards = pad_axis(jnp.exp(jnp.minimum(rise - decay, 0)), axis, 0, 1)

    def add(k, carry):
        (up, by), (down, of) = carry
        step = 2**k
        back = along.bins - step
        up, by = up + by * rotated(up, axis, step), by * rotated(by, axis, step)
        down, of = down + of * rotated(down, axis, back), of * rotated(of, axis, back)
        return (up, by), (down, of)

    start = (own, upwards), (own, downwards)
    (up, _), (down, _) = lax.fori_loop(0, (along.bins - 1).bit_length(), add, start)
    return top + jnp.log(up + down - own)


def _product(matrix, x, axis):
    matmul = lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
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
    return lax.slice_in_dim(x, 0, bins, axis=axis - 1)
