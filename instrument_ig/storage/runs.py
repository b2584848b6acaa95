"""The run folder: where the results of one set of flags lie, and what they were made with."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instrument_ig.storage import cache, files

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "librosa", "numpy", "scipy", "ott-jax")


def open_run(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make or reopen a run folder; return its manifest.

    Raises:
      ValueError: the folder holds a run with other settings (the first that differ are named),
        or other files.
      OSError: it cannot be written.
    """
    if (manifest := check(folder, settings)) is not None:
        return manifest
    manifest = {"settings": dict(settings), "digest": cache.digest(**settings), "finished": False}
    manifest |= _surroundings()
    files.write_record(folder / "manifest.json", manifest)
    return manifest


def check(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of the run that would be reopened, or None where one would be made.

    Raises:
      ValueError, OSError: as `open_run`; nothing is written.
    """
    if (folder / "manifest.json").exists():
        return _reopen(folder, settings)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run: choose another --output_dir")
    if set("[]*?") & set(str(folder.absolute())):  # Orbax takes it for a pattern
        raise ValueError(f"{folder.absolute()}: trained networks cannot be kept below brackets")
    check_writable(folder)
    return None


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written.

    Raises:
      OSError: what stands in the way.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"{folder} cannot be a folder: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written: no permission in {there}")


def read(folder: Path) -> dict[str, Any]:
    """Return the manifest of a run folder.

    Raises:
      ValueError: it is not one.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder: there is no {path}")
    try:
        manifest = json.loads(path.read_text())
        manifest["settings"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not the manifest of a run: {error}") from error
    return manifest


def update(folder: Path, **entries: Any) -> None:
    """Add entries to the manifest."""
    path = folder / "manifest.json"
    files.write_record(path, json.loads(path.read_text()) | entries)


def _reopen(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    manifest = read(folder)
    old = manifest["settings"]
    new = json.loads(json.dumps(settings))
    changed = [name for name in new | old if old.get(name) != new.get(name)]
    if changed:
        name = changed[0]
        raise ValueError(
            f"{folder} holds a run with --{name}={old.get(name)}, not {new.get(name)}: "
            "choose another --output_dir"
        )
    return manifest


def _surroundings() -> dict[str, Any]:
    import jax

    device = jax.devices()[0]
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "git": _git_state(),
    }


def _git_state() -> str:
    """Return the commit of the code, marked when the tree has changes; empty outside git."""
    here = Path(__file__).parent
    try:
        describe = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
