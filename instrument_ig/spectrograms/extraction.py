"""Images of many notes: in parallel, cached on disk, broken sounds set aside."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
from jaxtyping import Float32
from threadpoolctl import threadpool_limits

from instrument_ig.audio.decode import BadAudio
from instrument_ig.storage import cache
from instrument_ig.types import Dataset, Note, Spectrogram

PROCESSES_PAY_S = 5.0  # of work left for each: a process spends two to four on its imports
IDLE_S = 30  # seconds after which idle processes give their memory back
BATCH = 16  # notes of one task: librosa builds its filters once for each
LISTED = 10  # bad sounds named in an error

# Rows, what came of each, and the seconds spent on reading and on computing.
Done = tuple[list[int], list[dict[str, np.ndarray] | BadAudio], tuple[float, float]]


class Extraction(NamedTuple):
    """Images, one row per note that could be read."""

    images: dict[str, Float32[np.ndarray, "B T F"]]  # by the spectrogram's name
    notes: tuple[Note, ...]
    bad: tuple[BadAudio, ...]
    loading_s: float  # processor time of all workers; nothing for what was in the cache
    computing_s: float


def extract(
    dataset: Dataset,
    notes: Sequence[Note],
    spectrograms: Mapping[str, Spectrogram],
    *,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    report: Callable[[int, int], None] | None = None,
    skip_bad_files: bool = False,
) -> Extraction:
    """Compute the images of notes; those computed before are read from the cache.

    Args:
      dataset: reads the notes.
      notes: in any order; rows of the result follow it.
      spectrograms: by name.
      cache_dir: where images are kept; the user's cache folder if None.
      workers: threads or, for long work, processes; as many as there are cores if None.
      report: called with the notes done so far and their number, first with those of the cache.
      skip_bad_files: leave sounds that cannot be read out of the result.

    Raises:
      ValueError: sounds cannot be read (the first ten are named), unless they are skipped.

    Cost: the images in memory twice at most; 0.5 MB of disk for an STFT, 65 kB for a log-mel image.
    """
    folder = cache.folder(cache_dir) / "images"
    images = {
        name: np.empty((len(notes), *spectrogram.shape), np.float32)
        for name, spectrogram in spectrograms.items()
    }
    missing, bad, spent_s = [], {}, np.zeros(2)
    for row, note in enumerate(notes):
        if (found := _recall(folder, note, spectrograms)) is None:
            missing.append(row)
        else:
            _store(images, row, found)
    done = len(notes) - len(missing)
    if report:
        report(done, len(notes))
    for rows, results, seconds in _compute(dataset, notes, missing, spectrograms, folder, workers):
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, BadAudio):
                bad[row] = result
            else:
                _store(images, row, result)
        done += len(rows)
        spent_s += seconds
        if report:
            report(done, len(notes))
    if bad and not skip_bad_files:
        raise ValueError(_listing([bad[row] for row in sorted(bad)], len(notes)))
    good = [row for row in range(len(notes)) if row not in bad]
    return Extraction(
        {name: array[good] for name, array in images.items()} if bad else images,
        tuple(notes[row] for row in good),
        tuple(bad[row] for row in sorted(bad)),
        *spent_s.tolist(),
    )


def _store(images: dict[str, np.ndarray], row: int, result: Mapping[str, np.ndarray]) -> None:
    for name, image in result.items():
        images[name][row] = image


def _compute(
    dataset: Dataset,
    notes: Sequence[Note],
    rows: Sequence[int],
    spectrograms: Mapping[str, Spectrogram],
    folder: Path,
    workers: int | None,
) -> Iterator[Done]:
    """Return batches of rows with their results, in the order in which they get ready."""
    tasks = [
        (dataset.load, spectrograms, folder, batch, [notes[row] for row in batch])
        for batch in (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    ]
    workers = workers or joblib.cpu_count()

    def run(tasks, prefer):
        parallel = joblib.Parallel(
            workers, prefer=prefer, return_as="generator_unordered", idle_worker_timeout=IDLE_S
        )
        return parallel(joblib.delayed(_task)(*task) for task in tasks)

    first, left = tasks[: 2 * workers], tasks[2 * workers :]
    spent_s = []
    # Every thread has a batch of its own: those of a matrix product would only be in their way.
    with threadpool_limits(1, "blas"):
        for done in run(first, "threads"):
            spent_s.append(sum(done[-1]))
            yield done
        # Threads start at once but take turns where Python or a renderer holds its lock. The least
        # of the times, for one holds the imports.
        is_long = left and min(spent_s) * len(left) / workers > PROCESSES_PAY_S
        yield from run(left, "processes" if is_long else "threads")


def _task(
    load: Callable[[Note], np.ndarray],
    spectrograms: Mapping[str, Spectrogram],
    folder: Path,
    rows: Sequence[int],
    notes: Sequence[Note],
) -> Done:
    """Read a batch of notes, compute their images and keep them."""
    started_s = time.thread_time()
    sounds = [_attempt(load, note) for note in notes]
    loaded_s = time.thread_time()
    good = [index for index, sound in enumerate(sounds) if not isinstance(sound, BadAudio)]
    results = [sound if isinstance(sound, BadAudio) else {} for sound in sounds]
    if good:
        waveforms = np.stack([sounds[index] for index in good])
        for name, images in _apply(spectrograms, waveforms):
            for index, image in zip(good, images, strict=True):
                cache.write(folder, _key(notes[index], spectrograms[name]), image)
                results[index][name] = image
    return rows, results, (loaded_s - started_s, time.thread_time() - loaded_s)


def _apply(
    spectrograms: Mapping[str, Spectrogram], waveforms: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Apply each front end; what several begin with is computed once."""
    made = {(): waveforms}
    for name, spectrogram in spectrograms.items():
        steps = spectrogram.steps
        for end, step in enumerate(steps):
            if steps[: end + 1] not in made:
                made[steps[: end + 1]] = step(made[steps[:end]])
        yield name, made[steps]


def _attempt(load, note) -> np.ndarray | BadAudio:
    try:
        return load(note)
    except BadAudio as error:
        return error


def _recall(
    folder: Path, note: Note, spectrograms: Mapping[str, Spectrogram]
) -> dict[str, np.ndarray] | None:
    """Return the images of a note from the cache; None unless all are there."""
    found = {}
    for name, spectrogram in spectrograms.items():
        found[name] = cache.read(folder, _key(note, spectrogram))
        if found[name] is None:
            return None
    return found


def _key(note: Note, spectrogram: Spectrogram) -> str:
    return cache.digest(note=note.digest, spectrogram=spectrogram.digest)


def _listing(bad: Sequence[BadAudio], total: int) -> str:
    shown = "; ".join(str(error) for error in bad[:LISTED])
    more = f"; and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
    return f"{len(bad)} of {total} sounds cannot be read (see skip_bad_files): {shown}{more}"
