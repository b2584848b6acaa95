"""The study of Chen et al. (2024): ten instruments, six spectrograms, heatmaps, their differences.

    python experiments/run.py --spectrogram=logmel

trains one small network per instrument, explains it by integrated gradients on notes of
instruments that it never heard, compares every heatmap with every other, and writes tables and
figures into a run folder. The same command goes on where a stopped run was; a finished run prints
its table again.

    --spectrogram=all --flagfile=experiments/paper.flags      the paper's numbers
    --flagfile=experiments/quick.flags                        every step in 90 seconds
"""

import sys
from collections.abc import Sequence

from absl import app, flags

from experiments import driver, options, sounds
from experiments.progress import console
from instrument_ig.attribution import ATTRIBUTIONS, RULES
from instrument_ig.config import AttributionConfig, MetricConfig, TrainConfig
from instrument_ig.metrics import POLICIES
from instrument_ig.spectrograms import SPECTROGRAMS
from instrument_ig.storage import runs
from instrument_ig.types import Dataset

FLAGS = flags.FLAGS
flags.DEFINE_list("spectrogram", ["logmel"], f"{', '.join(SPECTROGRAMS)}; several, or all")
flags.DEFINE_list("instruments", [], "the families to study; by default all of the data set")
flags.DEFINE_integer("pair_notes", 16, "heatmaps per instrument that are compared", lower_bound=2)
flags.DEFINE_integer("between_notes", 6, "of those, compared with other instruments", lower_bound=2)
flags.DEFINE_enum("score", "logit", ["logit", "probability"], "output that is explained")
flags.DEFINE_enum("attribution", "integrated_gradients", list(ATTRIBUTIONS), "heatmaps by")
flags.DEFINE_enum("baseline", "zero", ["zero", "silence", "mean", "blurred"], "path start")
flags.DEFINE_enum(
    "emd_solver", "both", ["both", "flow", "sinkhorn"], "which earth mover's distances"
)
flags.DEFINE_string("figure_note", None, "the note of Figures 1 and 2; by default the first one")
flags.DEFINE_bool("checks", False, "also measure how far the maps can be trusted: checks.csv")
sounds.define()
options.define(TrainConfig)
options.define(AttributionConfig, {"rule": RULES})
options.define(MetricConfig, {"policy": POLICIES})


def spectrogram_names() -> list[str]:
    """Return the spectrograms asked for."""
    if FLAGS.spectrogram == ["all"]:
        return list(SPECTROGRAMS)
    for name in FLAGS.spectrogram or [""]:
        if name not in SPECTROGRAMS:
            raise ValueError(f"--spectrogram={name}: choose from {', '.join(SPECTROGRAMS)}, all")
    return list(dict.fromkeys(FLAGS.spectrogram))


def describe_parts(dataset: Dataset, instruments: Sequence[str]) -> None:
    """List the classes that cannot be tested; refuse what cannot be trained or compared."""
    parts = {(note.label, note.split) for note in dataset.notes}
    for split, consequence in (("test", "train only: no support"), ("valid", "not validated")):
        missing = [name for name in instruments if (name, split) not in parts]
        if missing:
            console.print(f"{consequence}, too few groups: {', '.join(missing)}")
    if sum((name, "test") in parts for name in instruments) < 2:
        raise ValueError("fewer than two classes have test notes: there is nothing to compare")
    untrained = [name for name in instruments if (name, "train") not in parts]
    if untrained:
        names = ",".join(untrained)
        raise ValueError(f"no training notes of {names}: go on with --leave_out={names}")


def check_figure_note(dataset: Dataset) -> None:
    """Refuse a note that is not there, or of a class that has no heatmaps."""
    if not FLAGS.figure_note:
        return
    labels = {note.name: note.label for note in dataset.notes}
    if FLAGS.figure_note not in labels:
        raise ValueError(f"--figure_note={FLAGS.figure_note}: the data set has no such note")
    label = labels[FLAGS.figure_note]
    if (label, "test") not in {(note.label, note.split) for note in dataset.notes}:
        raise ValueError(f"--figure_note={FLAGS.figure_note}: {label} has no test notes")


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    with sounds.refusing_bad_input():
        names = spectrogram_names()
        dataset = sounds.open_dataset("families", FLAGS.instruments)
        labels = sorted({note.label for note in dataset.notes})
        instruments = list(dict.fromkeys(FLAGS.instruments)) or labels
        if len(instruments) < 2:
            raise ValueError(
                f"--instruments={instruments[0]}: one class has nothing to differ from"
            )
        describe_parts(dataset, instruments)
        check_figure_note(dataset)
        if FLAGS["rule"].present and not FLAGS.steps:
            raise ValueError(f"--rule={FLAGS.rule} needs --steps: a tolerance chooses its points")
        for name in names:
            sounds.make_spectrogram(name)
        settings = options.settings(sys.argv[0], without=sounds.FREE)
        settings |= {"data": dataset.digest}
        folder = driver.run_folder("-".join(FLAGS.spectrogram), settings)
        if FLAGS.dry_run:
            runs.check(folder, settings)
            console.print(f"{len(dataset.notes)} notes of {', '.join(instruments)}")
            console.print(f"spectrograms {', '.join(names)}; results would lie in {folder}")
            return
        manifest = runs.open_run(folder, settings)
    from experiments import pipeline, results  # --help need not wait for the numeric rooms

    if not manifest["finished"]:
        driver.keep_programs(FLAGS.cache_dir)
        pipeline.carry_out(folder, dataset, names, instruments)
        runs.update(folder, finished=True)
    results.print_table(folder)
    console.print(f"results: {folder.resolve()}", soft_wrap=True)


if __name__ == "__main__":
    driver.launch(main)
