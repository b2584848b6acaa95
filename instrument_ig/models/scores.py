"""From a model to the scalar function of one image that attribution methods explain."""

from functools import lru_cache
from typing import Any, Literal

import jax
import numpy as np

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

    Cost: nothing before it is called; then one forward pass of one image.
    """
    index = _checked_index(model, class_index)
    return jax.tree_util.Partial(_whole(model, output), variables, index)


def split(
    model: Model,
    variables: Any,
    class_index: int = 0,
    output: Output = "logit",
    tap: str | None = None,
) -> Split:
    """Cut `score` in two: after the affine first layer, or after a tap.

    `prefix` maps an image [T, F] to feature maps and `rest` maps those to the score, so that
    attributions of `rest` at `prefix(image)` explain the score by the tap's feature maps.

    Args:
        model: the architecture.
        variables: its parameters and running statistics.
        class_index: which logit.
        output: as for `score`.
        tap: where to cut; None is after the first convolution and its bias, an affine map.

    Raises:
        ValueError: there is no such class, output or (once called) tap; the message lists the taps.

    Numerics: wherever the model is cut, the score changes only by rounding.
    Cost: that of `score`, in two parts.
    """
    index = _checked_index(model, class_index)
    prefix, rest = _halves(model, output, tap)
    partial = jax.tree_util.Partial
    return Split(partial(prefix, variables), partial(rest, variables, index))


# Cached, because equal functions must be one object to share a compiled program.
@lru_cache
def _whole(model, output):
    read = _reader(model, output)
    return lambda variables, index, image: read(
        model.apply(variables, image[None]).logits[0], index
    )


@lru_cache
def _halves(model, output, tap):
    read = _reader(model, output)
    return (
        lambda variables, image: model.prefix(variables, image[None], tap)[0],
        lambda variables, index, maps: read(model.rest(variables, maps[None], tap)[0], index),
    )


def _checked_index(model, class_index):
    """The index as an array; JAX itself would clamp one that is out of range."""
    if not 0 <= class_index < model.n_outputs:
        raise ValueError(f"class_index={class_index}: the model has {model.n_outputs} outputs")
    return np.asarray(class_index)


def _reader(model, output):
    """The map from a row of logits and an index to the scalar that is asked for."""
    if output not in ("logit", "probability"):
        raise ValueError(f"output={output!r}: neither logit nor probability")

    def read(logits, index):
        if output == "logit":
            return logits[index]
        return (jax.nn.sigmoid if model.n_outputs == 1 else jax.nn.softmax)(logits)[index]

    return read
