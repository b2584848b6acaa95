"""Trainings that can be stopped and continued: their checkpoints and their curves."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from experiments.progress import progress
from instrument_ig import training
from instrument_ig.config import TrainConfig
from instrument_ig.storage import checkpoints
from instrument_ig.types import Model

Task = TypeVar("Task", bound=Hashable)
SAVE_EVERY_S = 20.0  # a state takes up to seconds to save, and at most this much work is lost


class Fitted(NamedTuple):
    """A trained model."""

    variables: Any  # of the best epoch
    history: list[dict[str, Any]]  # one row per epoch


def fit_all(
    label: str, tasks: Sequence[Task], epochs: int, fit_one: Callable[[Task, Callable], Any]
) -> dict[Task, Any]:
    """Train a network for each task, one after the other.

    Args:
      label: names the bar of progress.
      tasks: what distinguishes the networks.
      epochs: of one training.
      fit_one: called with a task and the `report` of its `fit`.
    """
    fitted: dict[Task, Any] = {}
    total = len(tasks) * epochs
    with progress(label) as report:
        for index, task in enumerate(tasks):
            count = lambda epoch, _, before=index * epochs: report(before + epoch, total)
            fitted[task] = fit_one(task, count)
    return fitted


def fit(
    model: Model,
    key: jax.Array,
    examples: Callable[[str], training.Examples],
    config: TrainConfig,
    folder: Path,
    resume: Path,
    *,
    patience: int | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    report: Callable[[int, int], None],
) -> Fitted:
    """Train a model, or go on where a stopped training was, or read it where it is done.

    Args:
      model: the architecture.
      key: of its parameters, order of examples and dropout.
      examples: "train" or "valid" -> what to learn from and to judge by; not called when done.
      config: the numbers of the training.
      folder: where the best variables are kept, with `constants` beside them.
      resume: where the state of the training is kept until it is done.
      patience: epochs without a lower validation loss after which to stop; None: never.
      constants: arrays that belong to the model, such as the statistics of its images.
      metadata: what else a reader of `folder` must know, as JSON can hold it.
      report: called with epochs done and wanted.
    """
    if done := checkpoints.restore(folder):
        return Fitted(done.tree["variables"], done.metadata["history"])
    state = training.start(model, key, config.epochs)
    if stopped := checkpoints.restore(resume, state):
        state = stopped.tree
    saved = time.monotonic()

    def on_epoch(state):
        nonlocal saved
        report(int(state.epoch), config.epochs)
        if time.monotonic() - saved > SAVE_EVERY_S:
            checkpoints.save(resume, state, step=int(state.epoch))
            saved = time.monotonic()

    state = training.train(
        model,
        state,
        examples("train"),
        examples("valid"),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        patience=patience,
        on_epoch=on_epoch,
    )
    fitted = Fitted(state.best_variables, _rows(state))
    tree = {"variables": fitted.variables} | dict(constants or {})
    checkpoints.save(folder, tree, metadata={**(metadata or {}), "history": fitted.history})
    checkpoints.discard(resume)
    return fitted


def _rows(state: training.TrainState) -> list[dict[str, Any]]:
    """Return one row per epoch that was done."""
    curves = {name: np.asarray(curve) for name, curve in state.history._asdict().items()}
    return [
        {"epoch": epoch + 1}
        | {name: float(curve[epoch]) for name, curve in curves.items()}
        | {"kept": epoch + 1 == int(state.best_epoch)}
        for epoch in range(int(state.epoch))
    ]
