"""What is wrong with a data set, said in one line before any long work."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from instrument_ig.types import Note


def check_classes(notes: Sequence[Note], where: str) -> None:
    """Refuse an empty data set, a class of one note, and a name used twice.

    Raises:
      ValueError: names `where` and the class or note.
    """
    if not notes:
        raise ValueError(f"{where} holds no notes")
    counts = Counter(note.label for note in notes)
    lonely = sorted(label for label, count in counts.items() if count < 2)
    if lonely:
        raise ValueError(
            f"{where}: a class needs at least two notes, and there is one of {', '.join(lonely)}; "
            "add notes, or name the classes to use"
        )
    name, count = Counter(note.name for note in notes).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{where}: {count} notes are called {name!r}")


def check_choices(names: Iterable[str], choices: Iterable[str], what: str) -> None:
    """Refuse a name that is not one of the choices, and show them.

    Raises:
      ValueError: names it.
    """
    choices = sorted(choices)
    for name in names:
        if name not in choices:
            raise ValueError(f"no such {what}: {name!r}; choose from {', '.join(choices)}")


def check_folder(path: Path) -> None:
    """Refuse a folder that is not there.

    Raises:
      FileNotFoundError: names it.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"no such folder: {path}")
