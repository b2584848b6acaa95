"""Instrument classification explained: the study of Senatori and Nardone (2025) on any sounds.

    python experiments/classify.py
    python experiments/classify.py --dataset=folder --data_dir=FOLDER      FOLDER/CLASS/*.wav
    python experiments/classify.py --dataset=csv --data_dir=TABLE.csv      path,label,group

trains the network on mel spectrograms and on MFCCs, and three classical models on mean MFCCs, on
two splits: at random, and by recording. It writes scores with intervals, confusion matrices,
calibration, a t-SNE map and Grad-CAM beside integrated gradients into a run folder, which
predict.py then applies to other sounds. The same command goes on where a stopped run was; a
finished run prints its table again.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from absl import app, flags
from rich.table import Table

from experiments import driver, options, sounds
from experiments.progress import console
from experiments.sounds import FEATURES
from instrument_ig.audio import checks, split
from instrument_ig.config import ClassifierTrainConfig
from instrument_ig.storage import files, runs

FLAGS = flags.FLAGS
SPLITS = ("group", "random")
SCORES = {"accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}
DEFAULTS = {"duration_s": 3.0, "notes": 40}  # where this study differs from the other one

flags.DEFINE_list("features", list(FEATURES), "what networks see: mel, mfcc or both")
flags.DEFINE_enum("split", "group", [*SPLITS, "given"], "test by recording, at random or as given")
flags.DEFINE_bool(
    "both_splits", True, "also score the other split, group or random, for comparison"
)
flags.DEFINE_list("classes", [], "the classes to tell apart; by default all of the data set")
flags.DEFINE_list("explain", ["all"], "classes whose Grad-CAM is drawn step by step; all; or none")
flags.DEFINE_integer("steps", 50, "path points of integrated gradients", lower_bound=1)
sounds.define()
options.define(ClassifierTrainConfig)
for name, value in DEFAULTS.items():
    FLAGS.set_default(name, value)


def divide(notes) -> dict:
    """Return the notes on each side of each split, the one that is explained first."""
    other = "group" if FLAGS.split == "random" else "random"
    chosen = [FLAGS.split, *([other] if FLAGS.both_splits else [])]
    return {
        by: notes if by == "given" else split.three_parts(notes, seed=FLAGS.seed, by=by)
        for by in chosen
    }


def without_repetition(parts) -> dict:
    """Leave out the second split if it is the first, as where every file is a recording."""
    (first, notes), *others = parts.items()
    repeated = [by for by, again in others if again == notes]
    if repeated:
        console.print(
            f"split {repeated[0]} is split {first} here, for no two sounds share a recording"
        )
    return {by: notes for by, notes in parts.items() if by not in repeated}


def describe(parts) -> None:
    """Say how many notes there are, and name the classes that only train."""
    for by, notes in parts.items():
        counts = [sum(note.split == side for note in notes) for side in split.SIDES]
        labels = {note.label for note in notes}
        if not all(counts):
            raise ValueError(
                f"--split={by} leaves {', '.join(map(str, counts))} notes to train, validate and "
                "test with: a class needs three recordings (or files, if split at random)"
            )
        console.print(
            f"split {by}: {len(notes)} notes of {len(labels)} classes; "
            f"{counts[0]} train, {counts[1]} validate, {counts[2]} test"
        )
        if few := sorted(labels - {note.label for note in notes if note.split == "test"}):
            console.print(f"  too few for three parts, train only: {', '.join(few)}")


def print_tables(folder: Path) -> None:
    """Print the scores of a finished run, its splits side by side."""
    rows = files.read_table(folder / "models.csv")
    splits = list(dict.fromkeys(row["split"] for row in rows))
    table = Table(title="scores on test notes [95 % interval]")
    table.add_column("model")
    for name in SCORES.values():
        for by in splits:
            table.add_column(f"{name}\nsplit: {by}", justify="right")
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = {(row["score"], row["split"]): row for row in rows if row["model"] == model}
        table.add_row(model, *(_cell(cells[name, by]) for name in SCORES for by in splits))
    console.print(table)


def _cell(row: Mapping[str, str]) -> str:
    if not row["value"]:
        return row["status"]
    interval = f" [{float(row['low']):.2f}, {float(row['high']):.2f}]" if row["low"] else ""
    return f"{float(row['value']):.3f}{interval}"


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    with sounds.refusing_bad_input():
        checks.known(FLAGS.features or [""], FEATURES, "features")
        FLAGS.features = list(dict.fromkeys(FLAGS.features))
        for name in FEATURES.values():
            sounds.make_spectrogram(name)
        dataset = sounds.open_dataset("instruments", FLAGS.classes)
        labels = {note.label for note in dataset.notes}
        if FLAGS.explain != ["all"]:
            checks.known(FLAGS.explain, labels, "class")
        if len(labels) < 2:
            raise ValueError(f"one class, {labels.pop()!r}, has nothing to differ from")
        parts = divide(dataset.notes)
        describe(parts)
        parts = without_repetition(parts)
        settings = options.settings(sys.argv[0], without=sounds.FREE)
        settings |= {"data": dataset.digest}
        folder = driver.run_folder(f"classify-{'-'.join(FLAGS.features)}", settings)
        if FLAGS.dry_run:
            runs.check(folder, settings)
            console.print(f"networks on {', '.join(FLAGS.features)}; results would lie in {folder}")
            return
        manifest = runs.open_run(folder, settings)
    if not manifest["finished"]:
        from experiments import classification  # imports the numeric rooms: others need not wait

        driver.keep_programs(FLAGS.cache_dir)
        classification.carry_out(folder, dataset, parts)
        runs.update(folder, finished=True)
    print_tables(folder)
    console.print(f"results: {folder.resolve()}", soft_wrap=True)


if __name__ == "__main__":
    driver.launch(main)
