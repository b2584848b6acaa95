"""Name the instrument of sounds with a network trained by classify.py, and show where it listens.

    python experiments/predict.py --run=RUN_FOLDER sound.wav [more sounds]

For each sound: its most probable classes, averaged over windows of the trained length; which class
leads when; and Grad-CAM over the spectrogram of the window that speaks most clearly for the first
class. A PNG with integrated gradients beside it and a CSV of all windows go to
RUN_FOLDER/predictions.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags
from rich.text import Text

from experiments import classifier, driver, sounds
from experiments.classifier import Classifier
from experiments.progress import console, progress
from experiments.sounds import FEATURES
from instrument_ig.audio.decode import BadAudio, duration, stream
from instrument_ig.audio.windows import windows
from instrument_ig.figures import sheet
from instrument_ig.figures.sounds import prediction
from instrument_ig.figures.terminal import terminal_heatmap
from instrument_ig.storage import runs
from instrument_ig.types import Axis

FLAGS = flags.FLAGS

SILENT = 1e-4  # peak of a window that says nothing: the -80 dB of the spectrogram's floor
LONG_S = 120.0  # sounds beyond this show progress
TOGETHER = 64  # windows whose spectrograms are in memory at once
BAR = 30  # characters of a probability of 1
STRETCHES = 12  # of one leading class each, that are listed


class Answer(NamedTuple):
    """What a network says of a sound."""

    starts_s: np.ndarray  # [W], of the windows
    probabilities: np.ndarray  # [W, K]; NaN where the window is silent
    mean: np.ndarray  # [K], over the windows that are not
    clearest: int  # the window with the largest probability of the first class


def define_flags() -> None:
    flags.DEFINE_string("run", None, "run folder of classify.py")
    flags.DEFINE_enum("features", None, list(FEATURES), "whose network; by default the run's first")
    flags.DEFINE_float("hop_s", None, "seconds between windows; by default half of one", 0.01)
    flags.DEFINE_integer("top", 5, "classes to name", lower_bound=1)
    flags.DEFINE_integer("steps", 50, "path points of integrated gradients", lower_bound=1)
    flags.DEFINE_string("output_dir", None, "for PNG and CSV; by default RUN_FOLDER/predictions")
    flags.mark_flag_as_required("run")


def ask(
    trained: Classifier,
    pieces: Iterable[np.ndarray],
    hop_s: float,
    report: Callable[[float], None] = lambda _: None,
) -> Answer:
    """Classify a sound window by window, in the memory of a few windows.

    Args:
      trained: The network.
      pieces: Of the sound, one after the other.
      hop_s: Seconds between windows.
      report: Called with the second that is reached.

    Raises:
      ValueError: it is silent.
    """
    starts, rows = [], []
    for some, cut in _windows(trained, pieces, hop_s):
        found = trained.probabilities(trained.images(cut))
        starts.append(some)
        rows.append(np.where(np.abs(cut).max(axis=1, keepdims=True) < SILENT, np.nan, found))
        report(float(some[-1]))
    probabilities = np.concatenate(rows)
    if np.isnan(probabilities).all():
        raise ValueError(f"silent: no sample reaches {SILENT:g} of full scale")
    mean = np.nanmean(probabilities, axis=0)
    clearest = int(np.nanargmax(probabilities[:, mean.argmax()]))
    return Answer(np.concatenate(starts), probabilities, mean, clearest)


def hear(
    trained: Classifier, pieces: Iterable[np.ndarray], hop_s: float, start_s: float
) -> np.ndarray:
    """Return the image [T, F] of the window that starts at `start_s`."""
    for some, cut in _windows(trained, pieces, hop_s):
        if start_s in some:
            return trained.images(cut[some == start_s])[0]
    raise ValueError(f"no window starts at {start_s} s")


def _windows(trained, pieces, hop_s):
    """Yield (starts in seconds, windows), some at a time."""
    rate = trained.audio.sample_rate
    length, hop = round(trained.audio.duration_s * rate), max(1, round(hop_s * rate))
    for starts, cut in windows(pieces, length, hop, TOGETHER):
        yield starts / rate, cut


def stretches(answer: Answer) -> Iterator[tuple[float, float, int]]:
    """Yield (start, end, class) while one class leads; -1 where it is silent.

    A window speaks for the time until the next one starts.
    """
    leading = np.where(
        np.isnan(answer.probabilities[:, 0]), -1, np.nan_to_num(answer.probabilities).argmax(1)
    )
    changes = np.flatnonzero(np.diff(leading, prepend=leading[0] - 2))
    ends = np.append(answer.starts_s[changes[1:]], np.inf)
    for place, end in zip(changes, ends, strict=True):
        yield answer.starts_s[place], end, int(leading[place])


def predict(trained: Classifier, path: Path, target: Path) -> None:
    """Answer for one sound, in the terminal and in files named `target`.

    Raises:
      ValueError: it cannot be read, or is silent.
    """
    started = time.perf_counter()
    pieces = partial(stream, path, trained.audio.sample_rate)
    hop_s = FLAGS.hop_s or trained.audio.duration_s / 2
    seconds = duration(path)
    with progress(f"{path.name}, seconds") if seconds > LONG_S else _no_progress() as report:
        answer = ask(
            trained, pieces(), hop_s, lambda reached: report(round(reached), round(seconds))
        )
    start_s = answer.starts_s[answer.clearest]
    image = hear(trained, pieces(), hop_s, start_s)
    explanation = trained.explain(image, int(answer.mean.argmax()), FLAGS.steps)
    axes = _shifted(trained.front_end.axes, start_s)
    _print(trained, path, answer, seconds, image, explanation, axes)
    _save(trained, path, answer, target, image, explanation, axes)
    console.print(f"{target}.png, {time.perf_counter() - started:.1f} s\n")


def _no_progress():
    return contextlib.nullcontext(lambda *_: None)


def _shifted(axes: tuple[Axis, Axis], start_s: float) -> tuple[Axis, Axis]:
    """Return the axes of a window with time counted from the beginning of the sound."""
    positions = tuple(start_s + position for position in axes[0].positions)
    return axes[0]._replace(positions=positions), axes[1]


def _print(trained, path, answer, seconds, image, explanation, axes):
    count = len(answer.starts_s)
    padded = ", padded with silence" if seconds < trained.audio.duration_s else ""
    windows_in_words = f"{count} window{'s' * (count > 1)}{padded}"
    console.print(f"{path}: {seconds:.2f} s, {windows_in_words}", style="bold")
    width = max(map(len, trained.classes))
    for index in np.argsort(-answer.mean)[: FLAGS.top]:
        share = answer.mean[index]
        console.print(f"  {trained.classes[index]:{width}} {share:6.1%} {'█' * round(BAR * share)}")
    if count > 1:
        parts = list(stretches(answer))
        for start, end, index in parts[:STRETCHES]:
            name = trained.classes[index] if index >= 0 else "(silent)"
            console.print(f"  {start:7.1f} to {min(end, seconds):7.1f} s: {name}")
        if len(parts) > STRETCHES:
            console.print(f"  and {len(parts) - STRETCHES} more changes: see the CSV")
    console.print(f"  where it hears {trained.classes[answer.mean.argmax()]} (Grad-CAM):")
    for line in terminal_heatmap(image, explanation.grad_cam, axes):
        console.print("  ", Text.from_ansi(line), sep="")


def _save(trained, path, answer, target, image, explanation, axes):
    top = np.argsort(-answer.mean)[: FLAGS.top]
    best = trained.classes[top[0]]
    figure = prediction(
        f"{path.name}: {best}, {answer.mean[top[0]]:.1%}",
        image,
        {
            f"Grad-CAM of {best}": explanation.grad_cam,
            f"integrated gradients of {best}": explanation.integrated_gradients,
        },
        axes,
        answer.starts_s + trained.audio.duration_s / 2,
        {trained.classes[index]: answer.probabilities[:, index] for index in top},
    )
    sheet.save(figure, target, _rows(trained, answer), kinds=("png",))


def _rows(trained, answer):
    """Yield one row per window: where it is, and the probability of every class."""
    for start_s, row in zip(answer.starts_s, answer.probabilities, strict=True):
        silent = np.isnan(row[0])
        yield {
            "start_s": f"{start_s:.3f}",
            "end_s": f"{start_s + trained.audio.duration_s:.3f}",
            "silent": bool(silent),
            **{
                name: "" if silent else f"{value:.5f}"
                for name, value in zip(trained.classes, row, strict=True)
            },
        }


def targets(paths: list[Path], folder: Path) -> list[Path]:
    """Name the results of each sound: by its stem, numbered where that is taken."""
    names: list[str] = []
    for path in paths:
        name, number = path.stem, 1
        while name in names:
            number += 1
            name = f"{path.stem}-{number}"
        names.append(name)
    return [folder / name for name in names]


def main(argv):
    paths = [Path(name) for name in argv[1:]]
    if not paths:
        raise app.UsageError("name at least one sound")
    folder = Path(FLAGS.run)
    driver.keep_programs()
    output = Path(FLAGS.output_dir) if FLAGS.output_dir else folder / "predictions"
    with sounds.refusing_bad_input():
        trained = classifier.load(folder, FLAGS.features)
        runs.check_writable(output)
    # Most of librosa is imported with the first image: that is part of the start-up.
    trained.images(np.zeros((1, round(trained.audio.duration_s * trained.audio.sample_rate)), "f4"))
    refused = []
    for path, target in zip(paths, targets(paths, output), strict=True):
        try:
            predict(trained, path, target)
        except (ValueError, OSError) as error:
            refused.append(str(error) if isinstance(error, BadAudio) else f"{path}: {error}")
    if refused:
        sys.exit("\n".join(f"predict.py: {reason}" for reason in refused))


if __name__ == "__main__":
    define_flags()
    driver.launch(main)
