"""The study of Senatori and Nardone (2025): five models, two splits, and where networks listen.

Trained networks lie in checkpoints/; a run that goes on computes the rest anew.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import joblib
import numpy as np
from absl import flags

from experiments import classifier, explanations, options, sounds
from experiments.classifier import Classifier
from experiments.fitting import fit, fit_all
from experiments.progress import console, progress
from experiments.sounds import FEATURES
from instrument_ig import classical, stats
from instrument_ig.config import AudioConfig, ClassifierTrainConfig
from instrument_ig.figures import classification as figures
from instrument_ig.figures import sounds as sound_figures
from instrument_ig.figures.sheet import save
from instrument_ig.figures.study import training_curves
from instrument_ig.spectrograms import standardise
from instrument_ig.storage import files, runs
from instrument_ig.training import Examples, class_weights
from instrument_ig.types import Dataset, Note, Spectrogram

FLAGS = flags.FLAGS
SIDES = ("train", "valid", "test")


class Material(NamedTuple):
    """The sounds as all models see them."""

    classes: tuple[str, ...]
    notes: tuple[Note, ...]
    labels: np.ndarray  # [B], indices into `classes`
    sides: dict[str, np.ndarray]  # split -> [B] of train, valid, test
    front_ends: dict[str, Spectrogram]  # by features
    images: dict[str, np.ndarray]  # [B, T, F], not standardised
    vectors: np.ndarray  # [B, 40]: mean MFCCs

    def rows(self, split: str, side: str) -> np.ndarray:
        """Return the indices of the notes on one side of a split."""
        return np.flatnonzero(self.sides[split] == side)

    def column(self, field: str, rows: np.ndarray) -> np.ndarray:
        """Return one field of some notes."""
        return np.array([getattr(self.notes[row], field) for row in rows], str)


class Judged(NamedTuple):
    """The test notes of a split as one model decided them."""

    model: str
    split: str
    predicted: np.ndarray  # [M]
    probabilities: np.ndarray | None = None  # [M, K], of networks


class Trained(NamedTuple):
    """A network and how it came about."""

    network: Classifier
    history: list[dict[str, Any]]  # one row per epoch


def carry_out(folder: Path, dataset: Dataset, parts: Mapping[str, Sequence[Note]]) -> None:
    """Run the study and write everything into the run folder.

    Args:
      folder: The run's.
      dataset: Reads the notes.
      parts: Split -> the notes with their sides; networks of the first split are explained.
    """
    material = load_material(folder, dataset, parts)
    runs.update(folder, classes=material.classes)
    first = next(iter(parts))
    draw_sounds(folder / "figures", dataset, material, first)
    tasks = [(split, features) for split in parts for features in FLAGS.features]
    trained = train_networks(folder, material, tasks)
    judged = [judge(material, *task, trained[task].network) for task in tasks]
    judged += classical_models(material)
    write_tables(folder, material, judged, trained)
    draw_models(folder, material, judged)
    draw_tsne(folder / "figures", material)
    for features in FLAGS.features:
        explain(folder, material, first, features, trained[first, features].network)
    shutil.rmtree(folder / "resume", ignore_errors=True)


def load_material(folder: Path, dataset: Dataset, parts: Mapping[str, Sequence[Note]]) -> Material:
    """Read all sounds and compute their images, in parallel; say how long it took."""
    front_ends = {name: sounds.make_spectrogram(FEATURES[name]) for name in FEATURES}
    started = time.perf_counter()
    with sounds.refusing_bad_input():
        found = sounds.extract_images(dataset, dataset.notes, front_ends)
    seconds = time.perf_counter() - started
    cores = FLAGS.workers or joblib.cpu_count()
    console.print(
        f"loading and extraction: {len(found.notes)} sounds in {seconds:.1f} s on {cores} cores "
        f"({len(found.notes) / seconds:.0f}/s); processor time {found.loading_s:.1f} s for "
        f"loading, {found.computing_s:.1f} s for extraction"
    )
    spent = {"sounds": len(found.notes), "cores": cores, "seconds": seconds}
    spent |= {"loading_cpu_s": found.loading_s, "extraction_cpu_s": found.computing_s}
    files.write_table(folder / "extraction.csv", [spent])
    if found.bad:
        skipped = [{"path": error.path, "reason": error.reason} for error in found.bad]
        files.write_table(folder / "skipped.csv", skipped)
    classes = tuple(sorted({note.label for note in found.notes}))
    sides = {split: {note.name: note.split for note in notes} for split, notes in parts.items()}
    return Material(
        classes=classes,
        notes=found.notes,
        labels=np.array([classes.index(note.label) for note in found.notes]),
        sides={
            split: np.array([side[note.name] for note in found.notes])
            for split, side in sides.items()
        },
        front_ends=front_ends,
        images=found.images,
        vectors=classical.time_mean(found.images["mfcc"]),
    )


def draw_sounds(folder: Path, dataset: Dataset, material: Material, split: str) -> None:
    """Draw Figures 1 to 3: classes, waveforms, mel spectrograms."""
    counts = [
        {"label": label}
        | {side: int((material.labels[material.rows(split, side)] == k).sum()) for side in SIDES}
        for k, label in enumerate(material.classes)
    ]
    save(figures.class_distribution(counts, split), folder / "classes", counts)
    first = [int(np.argmax(material.labels == k)) for k in range(len(material.classes))]
    waveforms = np.stack([dataset.load(material.notes[row]) for row in first])
    figure = sound_figures.waveforms(material.classes, waveforms, dataset.sample_rate)
    save(figure, folder / "waveforms")
    images, axes = material.images["mel"][first], material.front_ends["mel"].axes
    figure = sound_figures.spectrograms(material.classes, images, axes, "dB")
    save(figure, folder / "spectrograms")


def train_networks(
    folder: Path, material: Material, tasks: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Trained]:
    """Train a network for each (split, features)."""
    epochs = options.read(ClassifierTrainConfig).epochs
    train = lambda task, report: train_network(folder, material, *task, report)
    return fit_all(f"epochs of {len(tasks)} networks", tasks, epochs, train)


def train_network(folder: Path, material: Material, split: str, features: str, report) -> Trained:
    """Train the network, or read it where it is trained."""
    front_end = material.front_ends[features]
    model = classifier.make_model(front_end, len(material.classes))
    config = options.read(ClassifierTrainConfig)
    fitted = fit(
        model,
        jax.random.key(FLAGS.seed),
        partial(examples, material, split, features),
        config,
        classifier.checkpoint(folder, split, features),
        folder / "resume" / f"{split}-{features}",
        patience=config.patience,
        report=report,
    )
    audio = options.read(AudioConfig)
    network = Classifier(material.classes, audio, front_end, model, fitted.variables)
    head = {"model": f"CNN on {features}", "split": split}
    return Trained(network, [head | row for row in fitted.history])


def examples(material: Material, split: str, features: str, side: str) -> Examples:
    """Return the images of one side; training classes weigh the same in all."""
    rows = material.rows(split, side)
    labels = material.labels[rows].astype(np.int32)
    weights = class_weights(labels) if side == "train" else np.ones(len(rows), np.float32)
    return Examples(standardise.per_clip(material.images[features][rows]), labels, weights)


def judge(material: Material, split: str, features: str, network: Classifier) -> Judged:
    """Let a network decide the test notes."""
    images = standardise.per_clip(material.images[features][material.rows(split, "test")])
    probabilities = network.probabilities(images)
    return Judged(f"CNN on {features}", split, probabilities.argmax(1), probabilities)


def classical_models(material: Material) -> Iterator[Judged]:
    """Train the classical models and let them decide the test notes."""
    for split in material.sides:
        train, test = material.rows(split, "train"), material.rows(split, "test")
        learned = material.vectors[train], material.labels[train]
        for name in classical.CLASSIFIERS:
            unseen = material.vectors[test]
            predicted = classical.fit_predict(name, *learned, unseen, seed=FLAGS.seed)
            yield Judged(name.replace("_", " "), split, predicted)


def write_tables(folder: Path, material: Material, judged: Sequence[Judged], trained) -> None:
    """Write scores.csv, models.csv (the overall ones), predictions.csv and training.csv."""
    scores = []
    with progress("scores") as report:
        for done, one in enumerate(judged, 1):
            scores += score(material, one)
            report(done, len(judged))
    models = [row for row in scores if row["label"] == "overall"]
    history = [row for found in trained.values() for row in found.history]
    files.write_table(folder / "scores.csv", scores)
    files.write_table(
        folder / "predictions.csv",
        (row for one in judged for row in prediction_rows(material, one)),
    )
    save(figures.model_scores(models), folder / "figures" / "models", models)
    curves = [
        {"spectrogram": row["model"], "instrument": f"split: {row['split']}"} | row
        for row in history
    ]
    save(training_curves(curves), folder / "figures" / "training", history)
    files.write_table(folder / "models.csv", models)
    files.write_table(folder / "training.csv", history)


def score(material: Material, one: Judged) -> Iterator[dict[str, Any]]:
    """Yield all scores of a model, with intervals."""
    test = material.rows(one.split, "test")
    table = stats.Predictions(
        spectrogram=one.model,
        instrument="",
        truth=material.labels[test],
        predicted=one.predicted,
        names=material.column("name", test),
        labels=material.column("label", test),
        groups=material.column("group", test),
    )
    rng = np.random.default_rng(FLAGS.seed)
    for row in stats.multiclass_scores(table, material.classes, rng):
        values = row._asdict()
        yield {"model": values.pop("spectrogram"), "split": one.split, **values}


def prediction_rows(material: Material, one: Judged) -> Iterator[dict[str, Any]]:
    """Yield what a model said of each test note."""
    for place, row in enumerate(material.rows(one.split, "test")):
        note, index = material.notes[row], one.predicted[place]
        yield {
            "model": one.model,
            "split": one.split,
            "note": note.name,
            "group": note.group,
            "true": note.label,
            "predicted": material.classes[index],
            "probability": one.probabilities[place, index]
            if one.probabilities is not None
            else None,
        }


def draw_models(folder: Path, material: Material, judged: Sequence[Judged]) -> None:
    """Draw the confusion matrix of each model and split, and the networks' calibration."""
    curves, rows, bins = {}, [], []
    for one in judged:
        truth = material.labels[material.rows(one.split, "test")]
        draw_confusion(folder / "figures", material.classes, one, truth)
        if one.probabilities is None:
            continue
        curve = stats.reliability(one.probabilities, truth, bins=10)
        brier = stats.brier(one.probabilities, truth)
        head = {"model": one.model, "split": one.split}
        curves[f"{one.model}, split: {one.split}"] = curve, brier
        rows.append(head | {"calibration_error": curve.error, "brier": brier, "notes": len(truth)})
        bins += [
            head | {"confidence": confidence, "accuracy": accuracy, "notes": count}
            for confidence, accuracy, count in zip(*curve[:3], strict=True)
            if count
        ]
    files.write_table(folder / "calibration.csv", rows)
    save(figures.calibration(curves), folder / "figures" / "calibration", bins)


def draw_confusion(folder: Path, classes: Sequence[str], one: Judged, truth: np.ndarray) -> None:
    """Draw which class is taken for which."""
    counts = stats.confusion_matrix(truth, one.predicted, len(classes))
    accuracy = (truth == one.predicted).mean()
    title = f"{one.model}, split: {one.split}, accuracy {accuracy:.3f}"
    rows = [
        {"true": name} | dict(zip(classes, row, strict=True))
        for name, row in zip(classes, counts.astype(int), strict=True)
    ]
    figure = figures.confusion_matrix(counts, classes, title)
    save(figure, folder / f"confusion-{one.split}-{files.file_name(one.model)}", rows)


def draw_tsne(folder: Path, material: Material) -> None:
    """Draw the map of all notes by their mean MFCC vectors."""
    places = classical.tsne(material.vectors)
    rows = [
        {"note": note.name, "label": note.label, "x": x, "y": y}
        for note, (x, y) in zip(material.notes, places, strict=True)
    ]
    save(figures.tsne_map(places, material.labels, material.classes), folder / "tsne", rows)


def explain(
    folder: Path, material: Material, split: str, features: str, network: Classifier
) -> None:
    """Draw a network, and where it listens in one note of each class."""
    rows = example_notes(material, split)
    images = standardise.per_clip(material.images[features][rows])
    notes, sides = [material.notes[row] for row in rows], material.sides[split][rows]
    with progress(f"heatmaps on {features}") as report:
        explained = explanations.explain_notes(network, notes, sides, images, FLAGS.steps, report)
    step_by_step = material.classes if FLAGS.explain == ["all"] else FLAGS.explain
    explanations.draw_layers(folder / "figures", features, network)
    explanations.draw_heatmaps(folder / "figures", features, network, explained, step_by_step)
    explanations.write_heatmaps(folder, features, explained)


def example_notes(material: Material, split: str) -> list[int]:
    """Return one note per class: the first to test with, or of another side where there is none."""
    rows = np.concatenate([material.rows(split, side) for side in ("test", "train", "valid")])
    labels = material.labels[rows].tolist()
    return [int(rows[labels.index(k)]) for k in range(len(material.classes))]
