"""Layers that the networks share, and the network as a row of stages.

A network is a tuple of stages applied in order. It can start after any stage and stop after any
stage, so the affine first layer, a tap and the whole network are one idea: a place to cut.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from instrument_ig.models.correlation import correlate
from instrument_ig.types import Layer, Model, Prediction

# Of batch normalisation. Keras's momentum of 0.99 is for hundreds of steps per epoch: with 25,
# validation would judge by the statistics of the untrained network for ten epochs, and early
# stopping would end there. Epsilon is Keras's.
MOMENTUM, EPSILON = 0.9, 1e-3


class Stage(NamedTuple):
    """One step of a network."""

    run: Callable[..., Any]  # x, train, mask -> x, mostly maps; may own linen layers
    name: str  # what it does; that of its linen layer, if it owns one
    tap: str | None = None  # the name of its output, where that is a feature map


class Network(nn.Module):
    """Stages `first` to `last` of a row, and the feature maps that they produce."""

    stages: tuple[Stage, ...]

    @nn.compact
    def __call__(self, x, first=0, last=None, *, train=False, mask=None):
        """Return the last stage's output and the taps on the way."""
        taps = {}
        for stage in self.stages[first:last]:
            x = stage.run(x, train, mask)
            if stage.tap:
                taps[stage.tap] = x
        return x, taps


def make_model(stages: tuple[Stage, ...], shape: tuple[int, int], n_outputs: int) -> Model:
    """Turn stages into a `Model` of images [T, F]; the first stage is its affine prefix.

    Images of another shape, such as transposed ones, are refused with a ValueError.
    """
    shape = tuple(shape)
    network = Network(stages)
    cuts = {None: 1} | {stage.tap: i + 1 for i, stage in enumerate(stages) if stage.tap}

    def init(key):
        return network.init(key, jnp.zeros((1, *shape, 1)))

    def with_channel(images):
        if images.shape[1:] != shape:
            raise ValueError(f"images {images.shape}: the model is for [B, {shape[0]}, {shape[1]}]")
        return images[..., None]

    def apply(variables, images, *, key=None, mask=None):
        x = with_channel(images)
        state = {name: values for name, values in variables.items() if name != "params"}
        if key is None:
            return Prediction(*network.apply(variables, x), state)
        (logits, taps), state = network.apply(
            variables, x, train=True, mask=mask, rngs={"dropout": key}, mutable=list(state)
        )
        return Prediction(logits, taps, state)

    def cut(tap):
        if tap not in cuts:
            raise ValueError(f"no tap {tap!r}; there are {', '.join(filter(None, cuts))}")
        return cuts[tap]

    def prefix(variables, images, tap=None):
        return network.apply(variables, with_channel(images), last=cut(tap))[0]

    def rest(variables, maps, tap=None):
        return network.apply(variables, maps, first=cut(tap))[0]

    def summary():
        variables = jax.eval_shape(init, jax.random.key(0))
        x = jax.ShapeDtypeStruct((1, *shape, 1), jnp.float32)
        rows = []
        for place, stage in enumerate(stages):
            run = partial(network.apply, first=place, last=place + 1)
            x, _ = jax.eval_shape(run, variables, x)
            own = jax.tree.leaves(variables["params"].get(stage.name, {}))
            rows.append(Layer(stage.name, x.shape[1:], sum(leaf.size for leaf in own)))
        return tuple(rows)

    return Model(init, apply, n_outputs, prefix, rest, summary)


def convolution(channels: int, name: str) -> Stage:
    """Correlate with 3x3 kernels and add a bias, keeping the size (zeros around the image)."""

    def run(x, *_):
        return nn.Conv(
            channels,
            (3, 3),
            kernel_init=nn.initializers.glorot_uniform(),
            conv_general_dilated=lambda maps, kernels, *_, **__: correlate(maps, kernels),
            name=name,
        )(x)

    return Stage(run, name)


def relu(tap: str | None = None) -> Stage:
    """Rectify, and call the result `tap`."""
    return Stage(lambda x, *_: nn.relu(x), "relu", tap)


def pooling() -> Stage:
    """Keep the largest of each 2x2 window."""
    return Stage(lambda x, *_: max_pool(x), "max_pool")


def batch_norm_pooling(name: str) -> tuple[Stage, Stage]:
    """Normalise each channel, then keep the largest of each 2x2 window.

    An increasing function commutes with the maximum, so the windows are reduced first, of negated
    maps where the function decreases: a quarter of the values is normalised, and the derivatives
    by scale and bias are sums over a quarter.
    """

    def pool(normalised, *_):
        maps, mean, gain, bias = normalised
        sign = jnp.where(gain < 0, -1.0, 1.0)
        return (sign * max_pool(sign * maps) - mean) * gain + bias

    normalise = Stage(lambda x, train, mask: BatchNorm(name=name)(x, train, mask), name)
    return normalise, Stage(pool, "max_pool")


class Normalised(NamedTuple):
    """Maps [B, T, F, C] that are still to be normalised: (maps - mean) gain + bias."""

    maps: Array
    mean: Array  # [1, 1, 1, C], like the others
    gain: Array
    bias: Array

    @property
    def shape(self):
        """That of the maps."""
        return self.maps.shape


class BatchNorm(nn.Module):
    """Batch normalisation with the parameters and statistics of linen's, and a mask of examples.

    By the batch in training, by running statistics otherwise. Linen's own mask is one of cells: it
    is counted in arrays as large as the maps, a quarter of a training step on a CPU.
    """

    @nn.compact
    def __call__(self, x, train, mask=None):
        """Return how maps [B, T, F, C] are normalised; examples outside `mask` [B] do not count."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = running_mean.value, running_var.value
        if train:
            running = mean, var
            mean, var = _moments(x, jnp.ones(len(x)) if mask is None else mask)
            running_mean.value, running_var.value = (
                MOMENTUM * old + (1 - MOMENTUM) * new
                for old, new in zip(running, (mean, var), strict=True)
            )
        gain = lax.rsqrt(var + EPSILON) * scale
        return Normalised(x, *(values[None, None, None] for values in (mean, gain, bias)))


def _moments(maps, mask):
    """Return mean and variance of each channel over the examples in `mask`."""
    there = mask.astype(maps.dtype)
    weights = there / (there.sum() * maps.shape[1] * maps.shape[2])
    # Not a matrix product: accelerators round those.
    mean, square = ((weights[:, None] * x.sum((1, 2))).sum(0) for x in (maps, maps * maps))
    return mean, jnp.maximum(square - mean * mean, 0)


def dropout(rate: float) -> Stage:
    """Zero a share `rate` of the values in training and scale up the rest."""
    return Stage(
        lambda x, train, _: nn.Dropout(rate, deterministic=not train)(x), f"dropout {rate}"
    )


def flatten() -> Stage:
    """Put all values of an example in one row."""
    return Stage(lambda x, *_: x.reshape(len(x), -1), "flatten")


def average() -> Stage:
    """Average each channel over time and frequency."""
    return Stage(lambda x, *_: x.mean((1, 2)), "average")


def dense(features: int, name: str) -> Stage:
    """Multiply by a matrix and add a bias."""
    kernel_init = nn.initializers.glorot_uniform()
    return Stage(lambda x, *_: nn.Dense(features, name=name, kernel_init=kernel_init)(x), name)


@jax.custom_jvp
def max_pool(maps: Float[Array, "B T F C"]) -> Float[Array, "B t f C"]:
    """Return the largest value of each 2x2 window; a last odd row or column is dropped.

    Along an axis of size 1 the window is 1, so that small images survive three poolings.

    The derivative goes to one value per window, the first of the largest. XLA's own derivative of
    this `reduce_window` also has one winner but is a scatter that costs more than a convolution
    on a CPU; the derivative by `jnp.maximum` of four slices is shared between equal values. Equal
    values are the rule, not the exception, at the constant baselines of integrated gradients.

    Numerics: exact. The derivative is linear in the tangent, so it transposes (reverse mode),
    repeats (second derivatives, zero where they exist) and maps (`vmap`) like any other.
    Cost: one pass over `maps`; one more pass for the derivative.
    """
    window = (1, min(2, maps.shape[1]), min(2, maps.shape[2]), 1)
    return lax.reduce_window(maps, -jnp.inf, lax.max, window, window, "VALID")


@max_pool.defjvp
def _max_pool_jvp(primals, tangents):
    (maps,), (tangent,) = primals, tangents
    largest, windows = max_pool(maps), _windows(maps)
    _, _, n_rows, _, n_columns, _ = windows.shape
    *others, last = range(n_rows * n_columns)
    winner = jnp.full(largest.shape, last, jnp.int8)
    for corner in reversed(others):
        value = windows[:, :, corner // n_columns, :, corner % n_columns]
        winner = jnp.where(value == largest, jnp.int8(corner), winner)
    # The transpose of this sum spreads a change over its window, which XLA:CPU does three times
    # as fast as the transpose of a choice among four slices.
    corners = jnp.arange(last + 1, dtype=jnp.int8).reshape(1, 1, n_rows, 1, n_columns, 1)
    chosen = winner[:, :, None, :, None] == corners
    return largest, jnp.where(chosen, _windows(tangent), 0).sum((2, 4))


def _windows(maps):
    """View maps [B, T, F, C] as windows [B, t, 2, f, 2, C]; windows of 1 where the axis has 1."""
    b, *sizes, channels = maps.shape
    (n_rows, frames), (n_columns, bins) = ((min(2, n), n // min(2, n)) for n in sizes)
    whole = maps[:, : frames * n_rows, : bins * n_columns]
    return whole.reshape(b, frames, n_rows, bins, n_columns, channels)
