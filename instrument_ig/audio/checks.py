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
    for label, count in sorted(Counter(note.label for note in notes).items()):
        if count < 2:
            raise ValueError(
                f"{where}: class {label!r} has one note and needs two; "
                "add one, or name the classes to use without it"
            )
    trained, tested = (
        {note.group for note in notes if note.split == side} for side in ("train", "test")
    )
    for groups, side in ((trained, "train"), (tested, "test")):
        if not groups:
            raise ValueError(f"{where} has no {side} notes: no class has two groups to share out")
    if shared := sorted(trained & tested):
        raise ValueError(f"{where}: group {shared[0]!r} is in training and in test")
