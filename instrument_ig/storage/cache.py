"""Arrays that are computed once: one checked file each, named by the digest of what made it."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from instrument_ig.storage import files

DAMAGED = (zipfile.BadZipFile, EOFError, KeyError, ValueError, OSError)


def default_folder() -> Path:
    """Return the user's cache folder."""
    return Path(platformdirs.user_cache_dir("instrument_ig", appauthor=False))


def folder(chosen: str | Path | None) -> Path:
    """Return the folder that was chosen, or the user's cache folder."""
    return Path(chosen) if chosen else default_folder()


def digest(**what: Any) -> str:
    """Return 32 hexadecimal digits that change whenever a value does."""
    text = json.dumps(what, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_file(path: Path) -> str:
    """Return 32 hexadecimal digits that change whenever the file's content does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def read(folder: Path, name: str) -> np.ndarray | None:
    """Return the array kept under `name`; None if it is absent or its checksum is wrong."""
    try:
        return files.read_arrays(_path(folder, name))["array"]
    except DAMAGED:
        return None


def write(folder: Path, name: str, array: np.ndarray) -> None:
    """Keep an array; safe with other processes that write the same one."""
    # Not durable: a torn file fails its checksum and is computed again.
    files.commit(_path(folder, name), lambda file: np.savez(file, array=array), durable=False)


def remember(folder: Path, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array kept under `name`, computed and kept first if need be."""
    array = read(folder, name)
    if array is None:
        array = compute()
        write(folder, name, array)
    return array


def _path(folder: Path, name: str) -> Path:
    return folder / name[:2] / f"{name}.npz"
