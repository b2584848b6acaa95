"""Layers that the networks share, and the network as a row of stages.

A network is a tuple of stages applied in order. It can start after any stage and stop after any
stage, so the affine first layer, a tap and the whole network are one idea: a place to cut.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from instrument_ig.types import Model, Prediction


class Stage(NamedTuple):
    """One step of a network."""

    run: Callable[..., Array]  # x, train, mask -> x; may own linen layers
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
    """Turn stages into a `Model` of images [T, F]; the first stage is its affine prefix."""
    network = Network(stages)
    cuts = {None: 1} | {stage.tap: i + 1 for i, stage in enumerate(stages) if stage.tap}

    def init(key):
        return network.init(key, jnp.zeros((1, *shape, 1)))

    def apply(variables, images, *, key=None, mask=None):
        x = images[..., None]
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
        return network.apply(variables, images[..., None], last=cut(tap))[0]

    def rest(variables, maps, tap=None):
        return network.apply(variables, maps, first=cut(tap))[0]

    return Model(init, apply, n_outputs, prefix, rest)


def convolution(channels: int, name: str) -> Stage:
    """Correlate with 3x3 kernels and add a bias, keeping the size (zeros around the image)."""
    kernel_init = nn.initializers.glorot_uniform()
    return Stage(lambda x, *_: nn.Conv(channels, (3, 3), name=name, kernel_init=kernel_init)(x))


def relu(tap: str | None = None) -> Stage:
    """Rectify, and call the result `tap`."""
    return Stage(lambda x, *_: nn.relu(x), tap)


def pooling() -> Stage:
    """Keep the largest of each 2x2 window."""
    return Stage(lambda x, *_: max_pool(x))


def batch_norm(name: str) -> Stage:
    """Normalise each channel: by the batch in training, by running statistics otherwise.

    Momentum and epsilon are Keras's. Examples outside `mask` do not count.
    """

    def run(x, train, mask):
        mask = None if mask is None else mask[:, None, None, None]
        return nn.BatchNorm(use_running_average=not train, momentum=0.99, epsilon=1e-3, name=name)(
            x, mask=mask
        )

    return Stage(run)


def dropout(rate: float) -> Stage:
    """Zero a share `rate` of the values in training and scale up the rest."""
    return Stage(lambda x, train, _: nn.Dropout(rate, deterministic=not train)(x))


def flatten() -> Stage:
    """Put all values of an example in one row."""
    return Stage(lambda x, *_: x.reshape(len(x), -1))


def average() -> Stage:
    """Average each channel over time and frequency."""
    return Stage(lambda x, *_: x.mean((1, 2)))


def dense(features: int, name: str) -> Stage:
    """Multiply by a matrix and add a bias."""
    kernel_init = nn.initializers.glorot_uniform()
    return Stage(lambda x, *_: nn.Dense(features, name=name, kernel_init=kernel_init)(x))


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
    largest = max_pool(maps)
    corners = list(zip(_corners(maps), _corners(tangent), strict=True))
    chosen = corners.pop()[1]
    for value, change in reversed(corners):
        chosen = jnp.where(value == largest, change, chosen)
    return largest, chosen


def _corners(maps):
    """The first, second, ... value of every window, row by row."""
    n_rows, n_columns = (min(2, size) for size in maps.shape[1:3])
    rows, columns = (
        size // step * step for size, step in zip(maps.shape[1:3], (n_rows, n_columns), strict=True)
    )
    return [
        maps[:, i:rows:n_rows, j:columns:n_columns] for i in range(n_rows) for j in range(n_columns)
    ]
