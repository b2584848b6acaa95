"""The flags of the sounds, shared by the drivers: which data set, its images, where caches lie."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from absl import flags

from experiments import options
from experiments.progress import progress
from instrument_ig.audio import DATASETS, checks
from instrument_ig.config import AudioConfig, SpectrogramConfig
from instrument_ig.spectrograms import SPECTROGRAMS
from instrument_ig.storage import cache, runs
from instrument_ig.types import Dataset, Note, Spectrogram

FLAGS = flags.FLAGS

FEATURES = {"mel": "logmel", "mfcc": "mfcc"}  # what the second paper calls them -> spectrograms
# What results do not depend on: a run may be continued with other values.
FREE = ("cache_dir", "output_dir", "workers", "dry_run")


def define() -> None:
    """Define the flags."""
    flags.DEFINE_enum("dataset", "soundfont", list(DATASETS), "where the notes come from")
    flags.DEFINE_string("data_dir", None, "folder (nsynth, folder) or table (csv) of the notes")
    flags.DEFINE_string("soundfont", None, "an .sf2 file instead of the bundled General MIDI one")
    flags.DEFINE_list("leave_out", [], "classes not to use, such as those with too few sounds")
    flags.DEFINE_integer("notes", 96, "rendered notes per class (soundfont)", lower_bound=6)
    flags.DEFINE_bool("skip_bad_files", False, "leave broken sounds out; skipped.csv lists them")
    flags.DEFINE_string("output_dir", None, "run folder; by default one under runs/")
    flags.DEFINE_string("cache_dir", None, "rendered notes and images; by default the user's cache")
    flags.DEFINE_integer("workers", None, "of them read sounds at once; by default one per core")
    flags.DEFINE_integer("seed", 0, "of every random choice", lower_bound=0)
    flags.DEFINE_bool("dry_run", False, "check everything, say what would be done, do nothing long")
    options.define(AudioConfig)
    options.define(SpectrogramConfig)


@contextlib.contextmanager
def refusing_bad_input() -> Iterator[None]:
    """Turn what a room says of bad input into one line and exit code 1."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def open_dataset(table: str, labels: Sequence[str] = ()) -> Dataset:
    """Open the data set that the flags name.

    Args:
      table: which classes the soundfont offers.
      labels: the classes to keep; all if empty.

    Raises:
      ValueError, OSError: what is wrong with it, in one line.
    """
    audio = options.read(AudioConfig)
    runs.check_writable(cache.folder(FLAGS.cache_dir))
    shared = {"labels": labels, "leave_out": FLAGS.leave_out, "seed": FLAGS.seed}
    if FLAGS.dataset == "soundfont":
        if FLAGS.data_dir:
            raise ValueError(f"--data_dir={FLAGS.data_dir} needs --dataset=folder, csv or nsynth")
        own = {"soundfont": FLAGS.soundfont, "notes": FLAGS.notes, "cache_dir": FLAGS.cache_dir}
        return DATASETS["soundfont"](audio, table=table, **own, **shared)
    if not FLAGS.data_dir:
        raise ValueError(f"--dataset={FLAGS.dataset} needs --data_dir")
    return DATASETS[FLAGS.dataset](audio, data_dir=FLAGS.data_dir, **shared)


def make_spectrogram(name: str) -> Spectrogram:
    """Build a front end from the flags.

    Raises:
      ValueError: what about the flags does not suit it.
    """
    return SPECTROGRAMS[name](options.read(SpectrogramConfig), options.read(AudioConfig))


def extract_images(dataset: Dataset, notes: Sequence[Note], front_ends: Mapping[str, Spectrogram]):
    """Return the `Extraction` of notes: images, notes that could be read, and the broken ones.

    Raises:
      ValueError: broken sounds, unless they are skipped; or too little is left.
    """
    from instrument_ig.spectrograms.extraction import extract

    with progress(f"{', '.join(front_ends)} images") as report:
        found = extract(
            dataset,
            notes,
            front_ends,
            cache_dir=FLAGS.cache_dir,
            workers=FLAGS.workers,
            report=report,
            skip_bad_files=FLAGS.skip_bad_files,
        )
    if found.bad:
        checks.usable(found.notes, "what could be read")
    return found


def silence(front_end: Spectrogram):
    """Return the image [T, F] of silence."""
    import numpy as np

    audio = options.read(AudioConfig)
    return front_end.apply(np.zeros(round(audio.sample_rate * audio.duration_s), np.float32))
