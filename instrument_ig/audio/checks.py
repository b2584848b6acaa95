"""What is wrong with a data set, said in one line before any long work."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from instrument_ig.types import Note


def folder_exists(path: Path) -> None:
    """Raise FileNotFoundError unless `path` is a folder."""
    if not path.is_dir():
        raise FileNotFoundError(f"no such folder: {path}")


def known(names: Iterable[str], choices: Iterable[str], what: str) -> None:
    """Raise ValueError, which shows the choices, at the first name that is not one of them."""
    choices = sorted(choices)
    for name in names:
        if name not in choices:
            raise ValueError(f"no such {what}: {name!r}; choose from {', '.join(choices)}")


def chosen(labels: Iterable[str], leave_out: Iterable[str], choices: Iterable[str]) -> set[str]:
    """Return the classes to use: `labels`, by default all, without those to leave out.

    Raises:
      ValueError: an unknown class, or one that is both wanted and left out.
    """
    labels, leave_out, choices = set(labels), set(leave_out), set(choices)
    known(sorted(labels | leave_out), choices, "class")
    if labels & leave_out:
        raise ValueError(f"class {min(labels & leave_out)!r} is both wanted and left out")
    return (labels or choices) - leave_out


def usable(notes: Sequence[Note], where: str) -> None:
    """Refuse notes that cannot be trained and tested with; classes may be in training only.

    Raises:
      ValueError: no notes, a name used twice, a class of one note, a group in training and test,
        nothing to train or test with; names `where` and the culprit.
    """
    if not notes:
        raise ValueError(f"{where} holds no notes")
    name, count = Counter(note.name for note in notes).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{where}: {count} notes are called {name!r}")
    counts = Counter(note.label for note in notes)
    if alone := sorted(label for label, count in counts.items() if count < 2):
        classes = " and ".join(f"class {label!r}" for label in alone)
        raise ValueError(
            f"{where}: {classes} {'has' if len(alone) == 1 else 'have'} one note and needs two; "
            f"add sounds, or leave out what cannot be tested: --leave_out={','.join(alone)}"
        )
    trained, tested = (
        {note.group for note in notes if note.split == side} for side in ("train", "test")
    )
    for groups, side in ((trained, "train"), (tested, "test")):
        if not groups:
            raise ValueError(f"{where} has no {side} notes: no class has two groups to share out")
    if shared := sorted(trained & tested):
        raise ValueError(f"{where}: group {shared[0]!r} is in training and in test")
