"""The study of Chen et al. (2024) on one spectrogram: train, score, explain, compare.

Each step keeps what it made in the run folder, so that a stopped run goes on where it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from instrument_ig import attribution, metrics, models, stats, training
from instrument_ig.attribution import baselines
from instrument_ig.config import AttributionConfig, MetricConfig
from instrument_ig.figures.maps import strongest
from instrument_ig.machine import Execution
from instrument_ig.spectrograms import standardise
from instrument_ig.storage import files
from instrument_ig.training import problems
from instrument_ig.types import Attribution, Axis, Model, Note, Score, Spectrogram, Split

Arrays = dict[str, np.ndarray]
EMD_SOLVERS = {"emd": "flow", "emd_sinkhorn": "sinkhorn"}
INTERVAL = ("lower", "upper", "converged")  # what comes with an earth mover's distance
LAST_TAP = "conv2d_5"
BASELINES = ("zero", "silence", "mean", "blurred")


class Material(NamedTuple):
    """The notes of a data set as one spectrogram shows them, in the units of the models."""

    name: str
    front_end: Spectrogram
    notes: tuple[Note, ...]
    images: np.ndarray  # [B, T, F], standardised by the training notes
    standardiser: standardise.Standardiser
    silence: np.ndarray  # [T, F], likewise

    def column(self, field: str) -> np.ndarray:
        """Return one field of all notes."""
        return np.array([getattr(note, field) for note in self.notes])

    def rows(self, split: str, label: str | None = None) -> np.ndarray:
        """Return the indices of the notes of a split, and of a label where one is given."""
        chosen = self.column("split") == split
        return np.flatnonzero(chosen if label is None else chosen & (self.column("label") == label))


def standardised(
    name: str, front_end: Spectrogram, notes: Sequence[Note], images, silence
) -> Material:
    """Put images at the scale of the training notes."""
    train = [row for row, note in enumerate(notes) if note.split == "train"]
    fitted = standardise.fit(images[train])
    silence = standardise.apply(fitted, silence)
    return Material(
        name, front_end, tuple(notes), standardise.apply(fitted, images), fitted, silence
    )


def remembered(path: Path, compute: Callable[[], Arrays]) -> Arrays:
    """Return the arrays kept in a file, computed and kept first if need be."""
    if not path.exists():
        files.write_arrays(path, compute())
    return files.read_arrays(path)


def binary_examples(
    material: Material, instrument: str, seed: int, split: str
) -> training.Examples:
    """Return the notes of an instrument in one split and as many of all others.

    An instrument without validation notes is judged by those it learns from.
    """
    rows = material.rows(split if len(material.rows(split, instrument)) else "train")
    labels = material.column("label")[rows]
    chosen, positive = problems.one_against_others(labels, instrument, np.random.default_rng(seed))
    weights = np.ones(len(chosen), np.float32)
    return training.Examples(material.images[rows[chosen]], positive.astype(np.int32), weights)


def make_baselines(name: str, material: Material, images: np.ndarray) -> np.ndarray:
    """Return where the paths to some images start: one image for all, or one each."""
    choices = {
        "zero": lambda: baselines.zero(images),
        "silence": lambda: material.silence,
        "mean": lambda: baselines.mean(material.images[material.rows("train")]),
        "blurred": lambda: baselines.blurred(images),
    }
    return np.asarray(choices[name]())


def choose_explained(
    material: Material, instruments: Sequence[str], count: int, seed: int
) -> dict[str, np.ndarray]:
    """Choose test notes of each instrument that has some, spread over its physical instruments."""
    chosen = {}
    for instrument in instruments:
        rows = material.rows("test", instrument)
        chosen[instrument] = rows[spread(material, rows, count, seed)]
    return {instrument: rows for instrument, rows in chosen.items() if len(rows)}


def spread(material: Material, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose up to `count` of some notes, as equally as possible from all physical instruments."""
    groups = material.column("group")[rows]
    return problems.spread_over_groups(groups, count, np.random.default_rng(seed))


def make_method(name: str, config: AttributionConfig, key: jax.Array) -> Callable[..., Attribution]:
    """Return the method (score, images, baselines, execution=...) that the flags name."""
    sampled = {"rule": config.rule, "steps": config.steps} if config.steps else {}
    if name == "integrated_grad_cam":
        return partial(attribution.ATTRIBUTIONS[name], key=key, **sampled)
    if name != "integrated_gradients":
        return partial(attribution.ATTRIBUTIONS[name], key=key)
    if config.steps:
        return partial(attribution.integrated_gradients, **sampled)
    promise = {"tolerance": config.tolerance, "max_steps": config.max_steps}
    return partial(attribution.integrated_gradients, **promise)


def make_score(material: Material, variables: Any, output: str, method: str) -> Score | Split:
    """Return a model's score, cut at the last convolution where the method looks there."""
    if method in attribution.AT_A_TAP:
        return models.split(network(material), variables, 0, output, tap=LAST_TAP)
    return models.score(network(material), variables, 0, output)


def map_rows(material: Material, notes: np.ndarray, found: Arrays) -> list[dict[str, Any]]:
    """Return one row per heatmap: the note, and how far to trust the map."""
    fields = ("residual", "steps", "converged")
    return [
        {"instrument": material.notes[note].label, "note": material.notes[note].name}
        | {"score_difference": float(values.sum() - residual)}
        | dict(zip(fields, (float(residual), int(steps), bool(converged)), strict=True))
        for note, values, residual, steps, converged in zip(
            notes, found["values"], *(found[field] for field in fields), strict=True
        )
    ]


class LayerView(NamedTuple):
    """What a network does with one image at one of its convolutions."""

    features: np.ndarray  # [t, f, C]
    layer_map: np.ndarray  # [t, f], integrated gradients at the tap, summed over channels
    grad_cam: np.ndarray  # [T, F]


def view_layer(score: Split, image: np.ndarray, baseline: np.ndarray) -> LayerView:
    """Explain one image [T, F] at the tap where `score` is cut."""
    layer = attribution.integrated_gradients(score, image[None], baseline, at="tap")
    cam = attribution.grad_cam(score, image[None])
    features = score.prefix(image)
    return LayerView(
        np.asarray(features), np.asarray(layer.values[0].sum(-1)), np.asarray(cam.values[0])
    )


def view_rows(view: LayerView) -> list[dict[str, Any]]:
    """Return the numbers of a layer's figure, one row per place of its feature maps."""
    channels = strongest(view.features).tolist()
    return [
        {"frame": t, "bin": f, "integrated_gradients": value}
        | {f"filter {channel + 1}": float(view.features[t, f, channel]) for channel in channels}
        for t, row in enumerate(view.layer_map.tolist())
        for f, value in enumerate(row)
    ]


def compare(
    heatmaps: np.ndarray,
    axes: tuple[Axis, Axis],
    config: MetricConfig,
    solvers: Sequence[str],
    report: Callable[[int, int], None],
) -> Arrays:
    """Measure all ordered pairs of heatmaps [N, T, F] by every metric.

    Returns:
      metric -> [N, N], and for each earth mover's distance its bounds and whether it converged.
    """
    shares = metrics.to_distribution(heatmaps, config.policy, config.floor)
    found = {}
    for name, metric in metrics.METRICS.items():
        maps = shares if metric.distributions else heatmaps
        if name not in EMD_SOLVERS:
            found[name] = metric.pairwise(maps)
        elif EMD_SOLVERS[name] in solvers:
            options = {"epsilon": config.epsilon, "tolerance": config.emd_tolerance}
            transport = metric.pairwise(
                maps, axes=axes, execution=Execution(report=report), **options
            )
            found[name] = transport.cost
            found |= {f"{name}_{field}": getattr(transport, field) for field in INTERVAL}
    return {name: np.asarray(values) for name, values in found.items()}


def split_distances(p, q, axes: tuple[Axis, Axis]) -> Arrays:
    """Return where JS and EMD of two distributions come from: maps [T, F] that add up to them."""
    emd = metrics.split_emd(p, q, axes=axes)
    parts = {
        "JS": metrics.split_js(p, q).cells,
        "EMD along time": emd.time,
        "EMD along frequency": emd.frequency,
    }
    return {name: np.asarray(part) for name, part in parts.items()}


def split_rows(splits: Arrays, axes: tuple[Axis, Axis]) -> list[dict[str, Any]]:
    """Return the sums of each part over frames and over bins, as rows."""
    return [
        {"distance": name, "axis": kind, "position": position, "share": float(share)}
        for name, part in splits.items()
        for kind, axis, sums in zip(
            ("time", "frequency"), axes, (part.sum(1), part.sum(0)), strict=True
        )
        for position, share in zip(axis.positions, sums, strict=True)
    ]


def pair_rows(
    material: Material,
    notes: np.ndarray,
    pairs: Arrays,
    config: MetricConfig,
    *,
    between: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield one row per metric and ordered pair of different notes.

    `between` leaves out the pairs of one instrument: they are among all pairs of that instrument.
    """
    names, labels = material.column("name")[notes], material.column("label")[notes]
    chosen = labels[:, None] != labels if between else ~np.eye(len(notes), dtype=bool)
    for metric in metrics.METRICS:
        for i, j in np.argwhere(chosen) if metric in pairs else ():
            yield {
                "note_a": names[i],
                "note_b": names[j],
                "instrument_a": labels[i],
                "instrument_b": labels[j],
                "metric": metric,
                "value": float(pairs[metric][i, j]),
                **{
                    field: pairs[f"{metric}_{field}"][i, j].item() if metric in EMD_SOLVERS else ""
                    for field in INTERVAL
                },
                "policy": config.policy,
                "floor": config.floor,
                "epsilon": config.epsilon if metric == "emd_sinkhorn" else "",
            }


def distances(material: Material, notes: np.ndarray, pairs: Arrays) -> list[stats.Distances]:
    """Label the matrices of `compare` for the statistics."""
    who = {f"{field}s": material.column(field)[notes] for field in ("name", "label", "group")}
    return [
        stats.Distances(spectrogram=material.name, metric=metric, values=pairs[metric], **who)
        for metric in metrics.METRICS
        if metric in pairs
    ]


def score_all(
    model: Model, trained: Mapping[str, Any], images: np.ndarray, report
) -> dict[str, np.ndarray]:
    """Return the logit of every image [B] under every instrument's model."""
    logits = {}
    for done, (instrument, variables) in enumerate(trained.items(), 1):
        logits[instrument] = models.logits(model, variables, images)[:, 0]
        report(done, len(trained))
    return logits


def binary_predictions(
    material: Material, logits: Mapping[str, np.ndarray], seed: int
) -> list[stats.Predictions]:
    """Decide each instrument's balanced test set by the sign of its model's logit."""
    tested = material.rows("test")
    labels = material.column("label")[tested]
    tables = []
    for instrument, values in logits.items():
        rng = np.random.default_rng(seed)
        chosen, truth = problems.one_against_others(labels, instrument, rng)
        chosen = chosen if truth.any() else chosen[:0]  # no support
        rows = tested[chosen]
        tables.append(
            stats.Predictions(
                spectrogram=material.name,
                instrument=instrument,
                truth=truth[: len(rows)].astype(int),
                predicted=(values[chosen] > 0).astype(int),
                names=material.column("name")[rows],
                labels=material.column("label")[rows],
                groups=material.column("group")[rows],
            )
        )
    return tables


def ten_way_predictions(material: Material, logits: Mapping[str, np.ndarray]) -> stats.Predictions:
    """Decide every test note by the largest logit."""
    instruments = list(logits)
    tested = material.rows("test")
    labels = material.column("label")[tested]
    table = np.stack(list(logits.values()), axis=1)
    return stats.Predictions(
        spectrogram=material.name,
        instrument="",
        truth=np.array([instruments.index(label) for label in labels], int),
        predicted=table.argmax(1),
        names=material.column("name")[tested],
        labels=labels,
        groups=material.column("group")[tested],
    )


def wide_scores(long: Sequence[stats.Score]) -> list[dict[str, Any]]:
    """Put the scores of an instrument in one row: value, low and high of each."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for score in long:
        key = (score.spectrogram, score.label)
        row = rows.setdefault(key, {"spectrogram": key[0], "instrument": key[1]})
        row |= {
            score.score: score.value,
            f"{score.score}_low": score.low,
            f"{score.score}_high": score.high,
            "support": score.support,
            "status": score.status,
        }
    return list(rows.values())


def ten_way_row(
    predictions: stats.Predictions,
    instruments: Sequence[str],
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, Any]:
    """Return the accuracy of the largest logit as a row of the score table.

    Args:
      predictions: indices into `instruments`.
      instruments: those with a network, with or without test notes.
      rng: of the resamples.
      resamples: their number.
    """
    accuracy = stats.multiclass_scores(predictions, instruments, rng, resamples=resamples)[0]
    return wide_scores([accuracy._replace(label=f"{len(instruments)}-way")])[0]


def network(material: Material) -> Model:
    """Return the paper's network for the images of a spectrogram."""
    return models.MODELS["chen"](material.front_end.shape, 1)


def find_note(material: Material, name: str | None, first: Mapping[str, int]) -> int:
    """Return the row of a note by its name, by default the first of those explained.

    Raises:
      ValueError: there is no such note.
    """
    if name is None:
        return next(iter(first.values()))
    rows = np.flatnonzero(material.column("name") == name)
    if not len(rows):
        raise ValueError(f"--figure_note={name}: no such note")
    return int(rows[0])
