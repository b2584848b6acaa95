"""Notes that are sound files: folders of classes, and tables of paths."""

import csv
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from instrument_ig.audio import checks, decode, split
from instrument_ig.config import AudioConfig
from instrument_ig.storage import cache
from instrument_ig.types import Dataset, Note

VERSION = 1  # counts changes of the decoding: part of every digest
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
REQUIRED = ("path", "label")  # columns of a table


def open_folder(
    config: AudioConfig,
    *,
    data_dir: str | Path,
    labels: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    seed: int = 0,
) -> Dataset:
    """Find sounds as LABEL/*.wav, flac, ogg or mp3, at any depth; split 60-20-20.

    Each file is a group of its own: pieces of one recording cannot be told, for them use a table.

    Args:
      config: sample rate and duration.
      data_dir: holds one folder per class.
      labels: the classes to keep; all if empty.
      leave_out: the classes not to keep.
      seed: of the split.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: no sounds, unknown classes, or a class of one note.
    """
    root = Path(data_dir)
    checks.folder_exists(root)
    paths = sorted(path for path in root.glob("*/**/*") if path.suffix.lower() in SUFFIXES)
    names = [path.relative_to(root) for path in paths]
    notes = [
        file_note(path, name=str(name), label=name.parts[0], group=str(name))
        for path, name in zip(paths, names, strict=True)
    ]
    return dataset_of_files(
        "folder", config, split.assign(notes, seed=seed), labels, leave_out, root
    )


def open_csv(
    config: AudioConfig,
    *,
    data_dir: str | Path,
    labels: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    seed: int = 0,
) -> Dataset:
    """Read a table of sounds: path, label and, if known, group and split; other columns are free.

    Without the column split, 60-20-20 by group; without valid notes, 20 % of the training notes by
    group. Without the column group, or where it is empty, each file is a group of its own.

    Args:
      config: sample rate and duration.
      data_dir: the table; its paths are relative to the folder it is in.
      labels: the classes to keep; all if empty.
      leave_out: the classes not to keep.
      seed: of the split.

    Raises:
      FileNotFoundError: no such table, or a sound of it.
      ValueError: a missing column or value, a split that is not train, valid or test, a group in
        training and test, unknown classes, or a class of one note.
    """
    table = Path(data_dir)
    if not table.is_file():
        raise FileNotFoundError(f"no such table: {table}")
    try:
        notes = list(_rows(table))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is not a table of text: {error}") from error
    if any(note.split for note in notes):
        notes = split.complete(notes, seed=seed)
    else:
        notes = split.assign(notes, seed=seed)
    return dataset_of_files("csv", config, notes, labels, leave_out, table)


def file_note(path: Path, *, name: str, label: str, group: str, side: str = "") -> Note:
    """Make the note of a sound file.

    Raises:
      FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"note {name} has no sound: no such file {path}")
    path = path.absolute()
    state = path.stat()
    digest = cache.digest(
        path=str(path), size=state.st_size, time=state.st_mtime_ns, version=VERSION
    )
    return Note(name, label, group, side, str(path), digest)


def dataset_of_files(
    name: str,
    config: AudioConfig,
    notes: Iterable[Note],
    labels: Sequence[str],
    leave_out: Sequence[str],
    where: Path,
) -> Dataset:
    """Keep the wanted classes and check what is left; `where` is named in errors.

    Raises:
      ValueError: as the builders say.
    """
    notes = tuple(notes)
    wanted = checks.chosen(labels, leave_out, {note.label for note in notes})
    notes = tuple(note for note in notes if note.label in wanted)
    checks.usable(notes, str(where))
    return Dataset(
        name=name,
        notes=notes,
        load=functools.partial(decode.load, config),
        sample_rate=config.sample_rate,
        digest=cache.digest(notes=notes),
    )


def _rows(table: Path) -> Iterator[Note]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        missing = [column for column in REQUIRED if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{table} has no column {missing[0]!r}: {reader.fieldnames}")
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            for column in REQUIRED:
                if not row[column]:
                    raise ValueError(f"{where}: no {column}")
            side = row.get("split", "")
            if "split" in row and side not in split.SIDES:
                raise ValueError(f"{where}: split {side!r} is not one of {', '.join(split.SIDES)}")
            yield file_note(
                table.parent / row["path"],
                name=row["path"],
                label=row["label"],
                group=row.get("group") or row["path"],
                side=side,
            )
