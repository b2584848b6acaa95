"""Trees of arrays that survive a kill: every one carries its digest, the previous one stays.

Orbax writes whole checkpoints or none but reads damaged ones without a word; the digest notices.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

KEPT = 2  # the newest, and one to fall back to


class Checkpoint(NamedTuple):
    """A tree as it was saved."""

    step: int
    tree: Any
    metadata: dict[str, Any]


def save(
    folder: Path, tree: Any, *, step: int = 0, metadata: Mapping[str, Any] | None = None
) -> None:
    """Save a tree of arrays; a kill at any moment leaves the ones saved before.

    Args:
      folder: of this tree alone; made if need be.
      tree: of JAX or numpy arrays, typed keys included.
      step: its number; the highest is the newest. One of this number is replaced.
      metadata: what JSON can hold.
    """
    record = {"sha256": digest(tree), "metadata": dict(metadata or {})}
    with _open(folder) as checkpointer:
        checkpointer.save(step, tree, custom_metadata=record, force=True, overwrite=True)


def restore(folder: Path, like: Any = None) -> Checkpoint | None:
    """Return the newest undamaged tree of a folder, or None if there is none.

    Args:
      folder: where it was saved.
      like: a tree of arrays with its structure, shapes and dtypes, on the devices where its arrays
        shall be. Without it nested dicts of numpy arrays come back, which is enough for trees
        saved as such.
    """
    if not folder.is_dir():
        return None
    with _open(folder) as checkpointer:
        for found in reversed(checkpointer.checkpoints):
            try:
                record = checkpointer.metadata(found).custom_metadata
                tree = checkpointer.load(
                    found, like if like is not None else _shape(checkpointer, found)
                )
                if record["sha256"] == digest(tree):
                    return Checkpoint(found.step, tree, record["metadata"])
                reason = "its digest differs"
            except Exception as error:  # Orbax raises many kinds for damaged files
                reason = repr(error)
            logging.warning("checkpoint %s of %s is skipped: %s", found.step, folder, reason)
    return None


def discard(folder: Path) -> None:
    """Delete all trees of a folder, if there are any."""
    shutil.rmtree(folder, ignore_errors=True)


def digest(tree: Any) -> str:
    """Return the SHA-256 of all leaves with their paths, dtypes and shapes."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        values = np.asarray(leaf)
        name = jax.tree_util.keystr(path)
        total.update(f"{name}|{values.dtype}|{values.shape}|".encode())
        total.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
    return total.hexdigest()


def _open(folder):
    return ocp.training.Checkpointer(
        folder.absolute(),
        preservation_policy=ocp.training.preservation_policies.LatestN(KEPT),
        cleanup_tmp_directories=True,
    )


def _shape(checkpointer, found):
    """The tree of a checkpoint, its arrays not yet read."""
    described = checkpointer.metadata(found).metadata
    return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), described)
