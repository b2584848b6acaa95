"""Result files that are whole or absent: tables as CSV, arrays as npz, records as JSON."""

import csv
import io
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def commit(path: Path, write: Callable[[BinaryIO], Any], *, durable: bool = True) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one, never a part.

    The bytes go to a temporary file beside it, to the disk, and then under the final name. With
    `durable=False` the disk is not waited for: a power cut may then leave a torn file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV; columns in order of first appearance, absent values empty."""
    rows = list(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    commit(path, lambda file: file.write(text.getvalue().encode()))


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file; every value is text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as one npz file, not compressed: heatmaps are noise to zip."""
    commit(path, lambda file: np.savez(file, **arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file."""
    # NumPy leaves the file open when a path turns out not to be an archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write one JSON object, keys sorted; NaN is refused, since JSON has none."""
    text = json.dumps(record, indent=2, sort_keys=True, allow_nan=False)
    commit(path, lambda file: file.write(text.encode() + b"\n"))


def file_name(title: str) -> str:
    """Return a title as a name that every file system takes."""
    return re.sub(r"[^\w-]+", "_", title)
