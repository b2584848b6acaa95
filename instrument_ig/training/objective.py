"""What training minimises: weighted cross-entropy, for one logit or several."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from instrument_ig.types import Model


class Examples(NamedTuple):
    """What a model learns from or is judged by; an example of weight 0 is not there."""

    images: Float[Array, "N T F"]
    labels: Int[Array, " N"]  # 0 or 1 for a model of one logit, else the class
    weights: Float[Array, " N"]


class Losses(NamedTuple):
    """Sums over examples."""

    loss: Float[Array, ""]  # weighted cross-entropy in nats
    hits: Float[Array, ""]  # examples whose class is named correctly
    count: Float[Array, ""]  # examples that are there


def cross_entropy(
    logits: Float[Array, "B K"], labels: Int[Array, " B"]
) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
    """Return -log p(label) of each example in nats, and whether the label has the largest p.

    A single logit is that of label 1 against label 0.
    """
    if logits.shape[1] == 1:
        logits = jnp.pad(logits, ((0, 0), (1, 0)))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses, logits.argmax(1) == labels


def evaluate(model: Model, variables: Any, examples: Examples, key=None) -> tuple[Losses, Any]:
    """Sum losses over one batch; with a key as in training. Also returns the running statistics."""
    there = examples.weights > 0
    prediction = model.apply(variables, examples.images, key=key, mask=there)
    losses, hits = cross_entropy(prediction.logits, examples.labels)
    there = there.astype(losses.dtype)
    sums = (examples.weights * losses).sum(), (there * hits.astype(losses.dtype)).sum(), there.sum()
    return Losses(*sums), prediction.state


def class_weights(labels: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Return the weight of each example that gives every class of `labels` the same total.

    w = N / (K count(label)), so that the weights average 1.
    """
    _, rows, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(counts) * counts[rows])).astype(np.float32)


def mean(sums: Losses) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return loss and accuracy per example; 0 where there is none."""
    count = jnp.maximum(sums.count, 1)
    return sums.loss / count, sums.hits / count


def total(parts: Losses) -> Losses:
    """Add up the sums of several batches."""
    return jax.tree.map(lambda values: values.sum(0), parts)
