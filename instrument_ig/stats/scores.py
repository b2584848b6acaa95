"""How well classifiers do: scores of confusion matrices, with intervals over resampled notes.

Checked against scikit-learn in tests/stats/test_scores.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real, Shaped

from instrument_ig.stats.resampling import NO_INTERVAL, Resamples, interval, resample

NO_SUPPORT = "no support"
SCORES = ("accuracy", "precision", "recall", "f1")  # of a binary classifier's positive class


class Predictions(NamedTuple):
    """A test set as one classifier decided it."""

    spectrogram: str
    instrument: str  # the positive class of a binary classifier; empty with several classes
    truth: Int[np.ndarray, " M"]  # class index; binary: 0 other, 1 the instrument
    predicted: Int[np.ndarray, " M"]
    names: Shaped[np.ndarray, " M"]  # of the notes; one note has one name in every table
    labels: Shaped[np.ndarray, " M"]  # the notes' own classes (a negative's own instrument)
    groups: Shaped[np.ndarray, " M"]  # physical instrument or recording


class ClassScores(NamedTuple):
    """Scores of confusion matrices; NaN for a class without support."""

    accuracy: Float[np.ndarray, "*R"]
    macro_f1: Float[np.ndarray, "*R"]  # mean over classes with support
    weighted_f1: Float[np.ndarray, "*R"]  # weighted by support
    precision: Float[np.ndarray, "*R K"]
    recall: Float[np.ndarray, "*R K"]
    f1: Float[np.ndarray, "*R K"]
    support: Float[np.ndarray, "*R K"]  # notes of the class


class Score(NamedTuple):
    """One number of a score table, as a row."""

    spectrogram: str
    label: str  # a class, or "overall"
    score: str
    value: float | None
    low: float | None  # bootstrap interval
    high: float | None
    support: int
    status: str  # why there is no number or no interval, or what the interval leaves out


def confusion_matrix(
    truth: Int[np.ndarray, " M"],
    predicted: Int[np.ndarray, " M"],
    classes: int,
    weights: Real[np.ndarray, "*R M"] | None = None,
) -> Float[np.ndarray, "*R K K"]:
    """Count notes of each true class (row) by predicted class (column).

    Args:
      truth: class indices.
      predicted: class indices.
      classes: K.
      weights: copies of each note, for every resample; one of each by default.

    Raises:
      ValueError: if an index is not in [0, K).

    Cost: O(R M K^2) as one matrix product.
    """
    for index in (truth, predicted):
        if index.size and not 0 <= index.min() <= index.max() < classes:
            raise ValueError(
                f"class indices span {index.min()} to {index.max()}, with {classes} classes"
            )
    weights = np.ones(len(truth)) if weights is None else weights
    cells = np.eye(classes**2)[truth * classes + predicted]
    counts = weights.astype(np.float64) @ cells
    return counts.reshape(*counts.shape[:-1], classes, classes)


def class_scores(confusion: Float[np.ndarray, "*R K K"]) -> ClassScores:
    """Return accuracy, precision, recall and F1 of confusion matrices.

    precision = hits / predictions of the class, recall = hits / support, F1 = 2 hits / (support +
    predictions).

    Numerics: a class with support that is never predicted has precision 0 (scikit-learn's
      `zero_division=0`). A class without support is NaN and counts in no mean.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, called = confusion.sum(-1), confusion.sum(-2)
    known = np.where(support > 0, 1.0, np.nan)
    precision = known * hits / np.maximum(called, 1)
    recall = known * hits / np.maximum(support, 1)
    f1 = known * 2 * hits / np.maximum(support + called, 1)
    total = np.where(support.sum(-1) > 0, support.sum(-1), np.nan)
    return ClassScores(
        accuracy=hits.sum(-1) / total,
        macro_f1=np.nansum(f1, -1) / np.where(np.isnan(total), np.nan, (support > 0).sum(-1)),
        weighted_f1=np.nansum(support * f1, -1) / total,
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
    )


def multiclass_scores(
    predictions: Predictions,
    classes: Sequence[str],
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> list[Score]:
    """Score a classifier of several classes, overall and class by class.

    Groups of each class are resampled, then their notes (see `resample`, `for_sums`).

    Args:
      predictions: truth and predictions as indices into `classes`; labels are the true classes.
      classes: names of the K classes.
      rng: source of randomness of the resamples.
      resamples: number of resamples.
      confidence: of the intervals.

    Returns:
      Rows for overall accuracy, macro and weighted F1, then precision, recall and F1 of each class.
      No value for a class without support, no interval for one of a single group.
    """
    drawn = resample([predictions], rng, resamples=resamples, for_sums=True)
    confusion = confusion_matrix(
        predictions.truth, predictions.predicted, len(classes), drawn.of(predictions.names)
    )
    scores, groups = class_scores(confusion), drawn.group_counts()
    support = scores.support[0].astype(int).tolist()
    head = (predictions.spectrogram, "overall")
    rows = [
        _row((*head, name), getattr(scores, name), sum(support), groups, confidence)
        for name in ("accuracy", "macro_f1", "weighted_f1")
    ]
    for k, label in enumerate(classes):
        own = {label: groups.get(label, 0)}
        for name in ("precision", "recall", "f1"):
            head = (predictions.spectrogram, label, name)
            rows.append(_row(head, getattr(scores, name)[:, k], support[k], own, confidence))
    return rows


def binary_scores(
    predictions: Sequence[Predictions],
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> list[Score]:
    """Score one binary classifier per instrument and spectrogram, and their mean.

    Precision, recall and F1 are those of the instrument; they depend on how many negatives the
    test set holds. Groups of each label, negatives included, are resampled, then their notes.

    Args:
      predictions: one test set per instrument and spectrogram.
      rng: source of randomness of the resamples.
      resamples: number of resamples.
      confidence: of the intervals.

    Returns:
      Rows for accuracy, precision, recall and F1 of each instrument, and after the last instrument
      of each spectrogram their means over instruments with support ("overall").
    """
    drawn = resample(predictions, rng, resamples=resamples, for_sums=True)
    groups = drawn.group_counts()
    rows = []
    for spectrogram in dict.fromkeys(table.spectrogram for table in predictions):
        tables = [table for table in predictions if table.spectrogram == spectrogram]
        draws = [binary_draws(table, drawn) for table in tables]
        own = [{table.instrument: groups.get(table.instrument, 0)} for table in tables]
        support = [int(table.truth.sum()) for table in tables]
        for table, scores, lone, notes in zip(tables, draws, own, support, strict=True):
            head = (spectrogram, table.instrument)
            rows += [_row((*head, s), scores[s], notes, lone, confidence) for s in SCORES]
        known = [k for k, notes in enumerate(support) if notes]
        together = {label: count for k in known for label, count in own[k].items()}
        for name in SCORES if known else ():
            mean = np.nanmean([draws[k][name] for k in known], axis=0)
            head = (spectrogram, "overall", name)
            rows.append(_row(head, mean, sum(support), together, confidence))
    return rows


def binary_draws(predictions: Predictions, drawn: Resamples) -> dict[str, Float[np.ndarray, " R"]]:
    """Return each of `SCORES` for every resample of a binary test set; NaN without positives."""
    confusion = confusion_matrix(
        predictions.truth, predictions.predicted, 2, drawn.of(predictions.names)
    )
    scores = class_scores(confusion)
    positive = {name: getattr(scores, name)[:, 1] for name in SCORES[1:]}
    known = np.where(scores.support[:, 1] > 0, 1.0, np.nan)
    return {"accuracy": known * scores.accuracy, **positive}


def _row(head, draws, support, groups, confidence):
    """Return a row from the draws of a score; `groups` counts those of the labels it depends on."""
    if np.isnan(draws[0]):
        return Score(*head, None, None, None, support, NO_SUPPORT)
    lone = [label for label, count in groups.items() if count < 2]
    if len(lone) == len(groups):
        return Score(*head, float(draws[0]), None, None, support, NO_INTERVAL)
    status = f"one group each, resampled as if of one class: {', '.join(lone)}" if lone else ""
    return Score(*head, float(draws[0]), *interval(draws[1:], confidence), support, status)
