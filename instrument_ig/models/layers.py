"""The network as a row of stages, and the stages that the networks here are made of.

A network can start after any stage and stop after any stage, so the affine first layer, a tap and
the whole network are one idea: a place to cut. Stages and networks are values: two that are made of
the same are equal, and share compiled programs.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from instrument_ig.models.correlation import correlate
from instrument_ig.types import Layer, Prediction

# Of batch normalisation. Keras's momentum of 0.99 is for hundreds of steps per epoch: with 25,
# validation would judge by the statistics of the untrained network for ten epochs, and early
# stopping would end there. Epsilon is Keras's.
MOMENTUM, EPSILON = 0.9, 1e-3

Correlate = Callable[[Array, Array], Array]  # maps [B, T, F, C], kernels [h, w, C, D] -> [B,T,F,D]
Shape = tuple[int, ...]


class Stage:
    """One step of a network, called with (x, train, mask); may own a linen layer of its name.

    Each is a frozen dataclass, so that those of one kind with equal fields are equal.

    `x` are mostly maps [B, T, F, C], `train` says whether this is training, `mask` [B] which
    examples count in statistics of the batch (None: all).
    """

    name: str
    tap: str | None = None  # the name of its output, where that is a feature map

    def __call__(self, x: Array, train: bool, mask: Array | None) -> Array:
        """Return what the next stage gets."""
        raise NotImplementedError

    def layers(self, before: Shape, after: Shape) -> tuple[tuple[str, Shape], ...]:
        """Return the layers of a summary with the shapes of their outputs; the first owns all."""
        del before
        return ((self.name, after),)


class Row(nn.Module):
    """Stages as linen runs them: it names, makes and finds their parameters."""

    stages: tuple[Stage, ...]

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        """Return the last stage's output and the taps on the way."""
        taps = OrderedDict()  # which keeps its order through JAX, unlike a dict
        for stage in self.stages:
            x = stage(x, train, mask)
            if stage.tap:
                taps[stage.tap] = x
        return x, taps


@dataclass(frozen=True)
class Network:
    """A row of stages as a `Model`.

    Attributes:
      stages: from maps [B, T, F, 1] to logits; the first is affine, for `prefix` ends there.
      shape: frames and bins of the images; others, such as transposed ones, are refused with a
        ValueError.
      n_outputs: logits per image.
    """

    stages: tuple[Stage, ...]
    shape: tuple[int, int]
    n_outputs: int

    @property
    def taps(self) -> tuple[str, ...]:
        """The names of the feature maps, in order of depth."""
        return tuple(stage.tap for stage in self.stages if stage.tap)

    def init(self, key):
        """Draw variables."""
        return Row(self.stages).init(key, jnp.zeros((1, *self.shape, 1)))

    def apply(self, variables, images, *, key=None, mask=None):
        """Predict; by the statistics of the batch and with dropout where there is a key."""
        row, x = Row(self.stages), self._with_channel(images)
        state = {name: values for name, values in variables.items() if name != "params"}
        if key is None:
            return Prediction(*row.apply(variables, x), state)
        (logits, taps), state = row.apply(
            variables, x, True, mask, rngs={"dropout": key}, mutable=list(state)
        )
        return Prediction(logits, taps, state)

    def prefix(self, variables, images, tap):
        """Return the maps at a tap."""
        return Row(self.stages[: self._cut(tap)]).apply(variables, self._with_channel(images))[0]

    def rest(self, variables, maps, tap):
        """Return the logits of such maps."""
        return Row(self.stages[self._cut(tap) :]).apply(variables, maps)[0]

    def summary(self):
        """List the layers from the image down."""
        return _summary(self)

    def _with_channel(self, images):
        if images.shape[1:] != self.shape:
            frames, bins = self.shape
            raise ValueError(f"images {images.shape}: the model is for [B, {frames}, {bins}]")
        return images[..., None]

    def _cut(self, tap):
        places = {stage.tap: i for i, stage in enumerate(self.stages, 1) if stage.tap}
        if tap not in places:
            raise ValueError(f"no tap {tap!r}; there are {', '.join(self.taps)}")
        return places[tap]


@lru_cache
def _summary(network):
    variables = jax.eval_shape(network.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, *network.shape, 1), jnp.float32)
    rows = []
    for stage in network.stages:
        before = x.shape[1:]
        x, _ = jax.eval_shape(Row((stage,)).apply, variables, x)
        own = sum(leaf.size for leaf in jax.tree.leaves(variables["params"].get(stage.name, {})))
        for name, shape in stage.layers(before, x.shape[1:]):
            rows.append(Layer(name, shape, own))
            own = 0
    return tuple(rows)


@dataclass(frozen=True)
class Convolution(Stage):
    """Correlate with 3x3 kernels and add a bias, keeping the size (zeros around the image)."""

    channels: int
    name: str
    correlate: Correlate = correlate  # any function of its type that keeps the size

    def __call__(self, x, *_):
        """Return maps of `channels` channels."""
        return nn.Conv(
            self.channels,
            (3, 3),
            kernel_init=nn.initializers.glorot_uniform(),
            conv_general_dilated=lambda maps, kernels, *_, **__: self.correlate(maps, kernels),
            name=self.name,
        )(x)


@dataclass(frozen=True)
class Relu(Stage):
    """Rectify, and call the result `tap`."""

    name = "relu"
    tap: str | None = None

    def __call__(self, x, *_):
        """Return max(x, 0)."""
        return nn.relu(x)


@dataclass(frozen=True)
class MaxPool(Stage):
    """Keep the largest of each 2x2 window."""

    name = "max_pool"

    def __call__(self, x, *_):
        """Return maps of half the size."""
        return max_pool(x)


@dataclass(frozen=True)
class BatchNormPool(Stage):
    """Normalise each channel, then keep the largest of each 2x2 window."""

    name: str

    def __call__(self, x, train, mask):
        """Return normalised maps of half the size."""
        return BatchNormAndPool(name=self.name)(x, train, mask)

    def layers(self, before, after):
        """Two, as they are commonly listed."""
        return (self.name, before), (MaxPool.name, after)


class BatchNormAndPool(nn.Module):
    """Batch normalisation with the parameters and statistics of linen's, then `max_pool`.

    By the batch in training, by running statistics otherwise. Linen's own mask is one of cells: it
    is counted in arrays as large as the maps, a quarter of a training step on a CPU.

    An increasing function commutes with the maximum, so the windows are reduced first, of negated
    maps where the function decreases: a quarter of the values is normalised, and the derivatives
    by scale and bias are sums over a quarter.
    """

    @nn.compact
    def __call__(self, maps, train, mask=None):
        """Return pooled maps [B, t, f, C]; examples outside `mask` [B] do not count."""
        channels = maps.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = running_mean.value, running_var.value
        if train:
            running = mean, var
            mean, var = _moments(maps, jnp.ones(len(maps)) if mask is None else mask)
            running_mean.value, running_var.value = (
                MOMENTUM * old + (1 - MOMENTUM) * new
                for old, new in zip(running, (mean, var), strict=True)
            )
        gain = lax.rsqrt(var + EPSILON) * scale
        mean, gain, bias = (values[None, None, None] for values in (mean, gain, bias))
        sign = jnp.where(gain < 0, -1.0, 1.0)
        return (sign * max_pool(sign * maps) - mean) * gain + bias


def _moments(maps, mask):
    """Return mean and variance of each channel over the examples in `mask`."""
    there = mask.astype(maps.dtype)
    weights = there / (there.sum() * maps.shape[1] * maps.shape[2])
    # Not a matrix product: accelerators round those.
    mean, square = ((weights[:, None] * x.sum((1, 2))).sum(0) for x in (maps, maps * maps))
    return mean, jnp.maximum(square - mean * mean, 0)


@dataclass(frozen=True)
class Dropout(Stage):
    """Zero a share `rate` of the values in training and scale up the rest."""

    rate: float

    @property
    def name(self):
        """What a summary calls it."""
        return f"dropout {self.rate}"

    def __call__(self, x, train, _):
        """Return the values that are left."""
        return nn.Dropout(self.rate, deterministic=not train)(x)


@dataclass(frozen=True)
class Flatten(Stage):
    """Put all values of an example in one row."""

    name = "flatten"

    def __call__(self, x, *_):
        """Return [B, values]."""
        return x.reshape(len(x), -1)


@dataclass(frozen=True)
class Average(Stage):
    """Average each channel over time and frequency."""

    name = "average"

    def __call__(self, x, *_):
        """Return [B, C]."""
        return x.mean((1, 2))


@dataclass(frozen=True)
class Dense(Stage):
    """Multiply by a matrix and add a bias."""

    features: int
    name: str

    def __call__(self, x, *_):
        """Return [B, features]."""
        return nn.Dense(
            self.features, kernel_init=nn.initializers.glorot_uniform(), name=self.name
        )(x)


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
