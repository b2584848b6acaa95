"""Who trains and who tests: parts that share no group, and that no class leaves untrained."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from instrument_ig.types import Note

SIDES = ("train", "valid", "test")


def hold_out(notes: Sequence[Note], share: float, seed: int) -> set[str]:
    """Draw groups to set aside: of every class about `share` of its notes, at least one group.

    A class with one group gives none, and every class keeps one, so that it can be trained. A
    group of several classes counts for each of them.
    """
    sizes: dict[str, Counter[str]] = {}  # label -> group -> notes
    for note in notes:
        sizes.setdefault(note.label, Counter())[note.group] += 1
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    # Classes with few groups first: they have the least choice.
    for own in sorted((sizes[label] for label in sorted(sizes)), key=len):
        drawn = rng.permutation(sorted(own)).tolist()
        smallest = min(drawn, key=own.__getitem__)
        for group in [*drawn, smallest]:
            missing = share * own.total() - sum(own[other] for other in held)
            last_resort = group == smallest and not held & own.keys()
            spared = all(
                other.keys() - held > {group} for other in sizes.values() if group in other
            )
            if spared and (own[group] <= 2 * missing or last_resort):
                held.add(group)
    return held


def assign(
    notes: Iterable[Note],
    *,
    test: float = 0.2,
    valid: float = 0.2,
    seed: int = 0,
    by: str = "group",
) -> tuple[Note, ...]:
    """Give every note a part: train, valid or test.

    Args:
      notes: in any order; the parts they have are forgotten.
      test: share of the notes of every class.
      valid: share of the notes of every class.
      seed: of the draw.
      by: "group" keeps the notes of a group together; "random" splits them, which flatters the
        scores when several notes come from one recording.
    """
    if by not in ("group", "random"):
        raise ValueError(f"a split is by group or random, not {by!r}")
    notes = tuple(notes)
    units = notes if by == "group" else tuple(note._replace(group=note.name) for note in notes)
    tested = hold_out(units, test, seed)
    rest = [unit for unit in units if unit.group not in tested]
    validated = hold_out(rest, valid / (1.0 - test), seed + 1)
    parts = dict.fromkeys(tested, "test") | dict.fromkeys(validated, "valid")
    return tuple(
        note._replace(split=parts.get(unit.group, "train"))
        for note, unit in zip(notes, units, strict=True)
    )


def complete(notes: Iterable[Note], *, valid: float = 0.2, seed: int = 0) -> tuple[Note, ...]:
    """Take validation notes from the training groups, unless there are some."""
    notes = tuple(notes)
    if any(note.split == "valid" for note in notes):
        return notes
    held = hold_out([note for note in notes if note.split == "train"], valid, seed)
    return tuple(
        note._replace(split="valid") if note.split == "train" and note.group in held else note
        for note in notes
    )


def three_parts(
    notes: Iterable[Note],
    *,
    test: float = 0.1,
    valid: float = 0.1,
    seed: int = 0,
    by: str = "group",
) -> tuple[Note, ...]:
    """As `assign`, but a class that does not reach all three parts trains only.

    Its groups go to training whole, so that no other class is tested on them; that may leave
    another class short, which then trains only as well.
    """
    notes = assign(notes, test=test, valid=valid, seed=seed, by=by)
    unit = lambda note: note.group if by == "group" else note.name
    while True:
        reached = {(note.label, note.split) for note in notes}
        short = {
            note.label for note in notes for side in SIDES if (note.label, side) not in reached
        }
        kept = {unit(note) for note in notes if note.label in short}
        if all(note.split == "train" for note in notes if unit(note) in kept):
            return notes
        notes = tuple(
            note._replace(split="train") if unit(note) in kept else note for note in notes
        )
