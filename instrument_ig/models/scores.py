"""From a model to the scalar function of one image that attribution methods explain."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from instrument_ig.types import Model, Score, Split

Output = Literal["logit", "probability"]


def score(model: Model, variables: Any, class_index: int = 0, output: Output = "logit") -> Score:
    """Make the function image [T, F] -> the model's logit or probability of one class.

    It is a pytree that holds the variables and the index, so that the scores of all classes and of
    several models of one architecture share one compiled program.

    Args:
        model: the architecture.
        variables: its parameters and running statistics.
        class_index: which logit.
        output: the logit itself, or the softmax of all logits (the sigmoid where there is one).

    Raises:
        ValueError: there is no such class or output.

    Cost: the variables are put on the device, unless they are there; each call is one forward pass
        of one image. The model is traced once for all its scores.
    """
    variables, index = _checked(model, variables, class_index, output)
    return Partial(Fixed(_whole, (model, output)), variables, index)


def all_logits(model: Model, variables: Any) -> Callable[..., Float[Array, " K"]]:
    """Make the function image [T, F] -> the model's logits, like `score`."""
    return Partial(Fixed(_logits, (model,)), jax.device_put(variables))


def split(
    model: Model,
    variables: Any,
    class_index: int = 0,
    output: Output = "logit",
    *,
    tap: str,
) -> Split:
    """Cut `score` in two at a tap.

    `prefix` maps an image [T, F] to feature maps and `rest` maps those to the score, so that
    attributions of `rest` at `prefix(image)` explain the score by the tap's feature maps.

    Args:
        model: the architecture.
        variables: its parameters and running statistics.
        class_index: which logit.
        output: as for `score`.
        tap: where to cut: one of `model.taps`.

    Raises:
        ValueError: there is no such class, output or (once called) tap; the message lists the taps.

    Numerics: wherever the model is cut, the score changes only by rounding.
    Cost: that of `score`, in two parts.
    """
    variables, index = _checked(model, variables, class_index, output)
    return Split(
        Partial(Fixed(_prefix, (model, tap)), variables),
        Partial(Fixed(_rest, (model, output, tap)), variables, index),
    )


@dataclass(frozen=True)
class Fixed:
    """A function whose first arguments are fixed; equal to another of equal parts."""

    function: Callable[..., Any]
    first: tuple  # hashable

    def __call__(self, *others: Any) -> Any:
        """Return function(*first, *others)."""
        return self.function(*self.first, *others)


# Compiled functions remember their traces. Every attribution traces its score anew, and to trace
# linen's layers takes twenty times as long and more.
@partial(jax.jit, static_argnums=0)
def _logits(model, variables, image):
    return model.apply(variables, image[None]).logits[0]


@partial(jax.jit, static_argnums=(0, 1))
def _whole(model, output, variables, index, image):
    return _read(model, output, model.apply(variables, image[None]).logits[0], index)


@partial(jax.jit, static_argnums=(0, 1))
def _prefix(model, tap, variables, image):
    return model.prefix(variables, image[None], tap)[0]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _rest(model, output, tap, variables, index, maps):
    return _read(model, output, model.rest(variables, maps[None], tap)[0], index)


def _read(model, output, logits, index):
    if output == "logit":
        return logits[index]
    return (jax.nn.sigmoid if model.n_outputs == 1 else jax.nn.softmax)(logits)[index]


def _checked(model, variables, class_index, output):
    """The variables and the index as JAX arrays; JAX would clamp an index out of range."""
    if not 0 <= class_index < model.n_outputs:
        raise ValueError(f"class_index={class_index}: the model has {model.n_outputs} outputs")
    if output not in get_args(Output):
        raise ValueError(f"output={output!r}: neither logit nor probability")
    return jax.device_put((variables, class_index))
