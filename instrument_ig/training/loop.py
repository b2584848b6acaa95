"""Training as a pure function from state to state, one compiled call per epoch."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

from instrument_ig.machine import jit
from instrument_ig.training import objective
from instrument_ig.training.objective import Examples
from instrument_ig.types import Model


class History(NamedTuple):
    """Curves over epochs, NaN where none has been."""

    train_loss: Float[Array, " E"]  # nats per example, as met during the epoch
    train_accuracy: Float[Array, " E"]
    valid_loss: Float[Array, " E"]
    valid_accuracy: Float[Array, " E"]


class TrainState(NamedTuple):
    """All that a training needs to go on exactly where it was."""

    variables: Any  # parameters and running statistics
    moments: Any  # of the optimiser
    key: Key[Array, ""]  # of all epochs; each folds in its number
    epoch: Int[Array, ""]  # epochs done
    best_variables: Any
    best_loss: Float[Array, ""]  # validation loss of the best epoch
    best_epoch: Int[Array, ""]  # epochs done when it was over
    history: History


def start(model: Model, key: Key[Array, ""], epochs: int) -> TrainState:
    """Return the state before the first epoch."""
    init_key, key = jax.random.split(key)
    variables = model.init(init_key)
    none, zero = jnp.full(epochs, jnp.nan), jnp.zeros((), jnp.int32)
    return TrainState(
        variables=variables,
        moments=_adam(0.0).init(variables["params"]),
        key=key,
        epoch=zero,
        best_variables=jax.tree.map(jnp.copy, variables),
        best_loss=jnp.array(jnp.inf),
        best_epoch=zero.copy(),
        history=History(*(none.copy() for _ in History._fields)),
    )


def train(
    model: Model,
    state: TrainState,
    training: Examples,
    validation: Examples,
    *,
    batch_size: int,
    learning_rate: float,
    patience: int | None = None,
    on_epoch: Callable[[TrainState], Any] | None = None,
) -> TrainState:
    """Run the epochs that are left, and keep the variables of the lowest validation loss.

    A training stopped after any epoch and continued from that state on the same kind of device, by
    the same releases, ends in the same bits where the device's kernels are deterministic: always
    on CPUs, on GPUs with XLA's flag for it.

    Args:
        model: the architecture.
        state: from `start`, or from an earlier call; it is consumed.
        training: what to learn from, in random order anew in every epoch.
        validation: what to judge each epoch by.
        batch_size: examples in one step; the last step of an epoch may have fewer. As many are
            judged together.
        learning_rate: of Adam.
        patience: stop after so many epochs without a lower validation loss; None: never.
        on_epoch: called with the state after each epoch, to save it or to show progress. The
            state is consumed by the next epoch.

    Raises:
        ValueError: nothing to learn from, or nothing to judge by; examples of unequal number, with
            NaN or infinite values, or with labels that the model has not; a batch size, learning
            rate or patience that cannot be; no epoch had a finite validation loss.

    Numerics: float32 products at "highest" precision, whatever JAX's settings say.
    Cost: 3.6 GFLOP per example of 126 x 128 for the network `chen`. One program serves all models
        of an architecture, and all learning rates.
    """
    counts = (batch_size, 1 if patience is None else patience)
    if min(counts) < 1 or not 0 < learning_rate < float("inf"):
        raise ValueError(
            f"batch_size={batch_size}, learning_rate={learning_rate}, patience={patience}: "
            "all must be positive"
        )
    for name, examples in (("training", training), ("validation", validation)):
        _check(model, name, examples)
    training, validation = jax.device_put((training, validation))
    epochs = len(state.history.valid_loss)
    while state.epoch < epochs and not _is_stale(state, patience):
        state = compiled_epoch()(
            model, state, training, validation, batch_size=batch_size, learning_rate=learning_rate
        )
        if on_epoch is not None:
            on_epoch(state)
    if epochs and not state.best_epoch:
        raise ValueError(f"no finite validation loss: is learning_rate={learning_rate} too large?")
    return state


def _check(model, name, examples):
    count = len(examples.labels)
    if {len(values) for values in examples} != {count}:
        raise ValueError(f"{name}: {[len(values) for values in examples]} images, labels, weights")
    if not (examples.weights > 0).any():
        raise ValueError(f"no {name} examples among {count}")
    if not all(jnp.isfinite(values).all() for values in (examples.images, examples.weights)):
        raise ValueError(f"{name}: images or weights are NaN or infinite")
    classes = max(model.n_outputs, 2)
    if not ((examples.labels >= 0) & (examples.labels < classes)).all():
        raise ValueError(f"{name}: labels outside 0 to {classes - 1}")


@lru_cache
def compiled_epoch() -> Callable[..., TrainState]:
    """Return `run_epoch` compiled; it consumes the state.

    It is made at its first use, because only then the backend is known.
    """
    return jit(run_epoch, static_argnames=("model", "batch_size"), donate_argnames="state")


def run_epoch(
    model: Model,
    state: TrainState,
    training: Examples,
    validation: Examples,
    *,
    batch_size: int,
    learning_rate: float | Float[Array, ""],
) -> TrainState:
    """Pass once over the training examples and judge the result."""
    order_key, step_key = jax.random.split(jax.random.fold_in(state.key, state.epoch))
    order = _batches(jax.random.permutation(order_key, len(training.labels)), batch_size)
    step = partial(_step, model, _adam(learning_rate), training)
    keys = jax.random.split(step_key, len(order))
    with jax.default_matmul_precision("highest"):
        (variables, moments), parts = lax.scan(
            step, (state.variables, state.moments), (keys, order)
        )
        judged = _judge(model, variables, validation, batch_size)
    curves = (*objective.mean(objective.total(parts)), *objective.mean(judged))
    history = jax.tree.map(
        lambda curve, x: curve.at[state.epoch].set(x), state.history, History(*curves)
    )
    is_best = history.valid_loss[state.epoch] < state.best_loss
    keep = partial(jax.tree.map, partial(jnp.where, is_best))
    epoch = state.epoch + 1
    return TrainState(
        variables,
        moments,
        state.key,
        epoch,
        keep(variables, state.best_variables),
        keep(history.valid_loss[state.epoch], state.best_loss),
        keep(epoch, state.best_epoch),
        history,
    )


def _step(model, optimiser, training, carry, key_and_rows):
    """One step of the optimiser on a few rows of the training examples."""
    variables, moments = carry
    key, rows = key_and_rows
    batch = _take(training, rows)

    def loss(params):
        sums, state = objective.evaluate(model, {**variables, "params": params}, batch, key)
        return objective.mean(sums)[0], (sums, state)

    gradient, (sums, state) = jax.grad(loss, has_aux=True)(variables["params"])
    change, moments = optimiser.update(gradient, moments)
    params = optax.apply_updates(variables["params"], change)
    return ({**state, "params": params}, moments), sums


def _judge(model, variables, examples, batch_size):
    count = len(examples.labels)
    rows = _batches(jnp.arange(count), min(batch_size, count))
    return objective.total(
        lax.map(lambda rows: objective.evaluate(model, variables, _take(examples, rows))[0], rows)
    )


def _batches(rows, size):
    """Cut a list of rows into equal batches, the last one filled up with -1."""
    return jnp.pad(rows, (0, -len(rows) % size), constant_values=-1).reshape(-1, size)


def _take(examples, rows):
    """The examples in `rows`; a row of -1 becomes an example that is not there."""
    batch = jax.tree.map(lambda values: values[rows], examples)
    return batch._replace(weights=jnp.where(rows < 0, 0, batch.weights))


def _is_stale(state, patience):
    return patience is not None and state.epoch - state.best_epoch >= patience


def _adam(learning_rate):
    return optax.adam(learning_rate)
