"""Which notes of a soundfont make a data set: spread over programs, keys and velocities."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csgraph

from instrument_ig.audio import checks, sf2, split
from instrument_ig.audio.general_midi import FAMILIES, INSTRUMENTS, KITS
from instrument_ig.types import Note

TABLES = ("families", "instruments")
SHARES = {"train": 4 / 6, "valid": 1 / 6, "test": 1 / 6}  # of the notes of a family
VELOCITIES = np.arange(64, 128)  # softer is nothing but quieter, and drowns in the 16 bits
BEND = 8191  # two semitones of pitch wheel: percussion has no pitches to vary

Presets = Mapping[tuple[int, int], list[sf2.Zone]]


class Voice(NamedTuple):
    """What is rendered for one note; its numbers are the note's source."""

    bank: int  # 0, or sf2.DRUMS
    program: int
    key: int
    velocity: int
    bend: int = 0  # pitch wheel, 4096 to the semitone


class Part(NamedTuple):
    """The keys of one program that give notes to a class."""

    label: str
    side: str  # train, valid or test; empty where recordings are split
    bank: int
    program: int
    keys: tuple[int, ...]


def draw(
    presets: Presets, table: str, labels: Sequence[str], count: int, seed: int
) -> tuple[Note, ...]:
    """Draw `count` notes of every class.

    A group is all that shares a recording: whole programs of the families, single keys of the
    instruments. Training programs that share one with a test program, as they may in another
    soundfont than the bundled one, are left out.

    Raises:
      ValueError: unknown table or class, fewer than 6 notes, or a class without sound.
    """
    checks.known([table], TABLES, "table")
    checks.known(labels, FAMILIES if table == "families" else INSTRUMENTS, "class")
    if count < 6:
        raise ValueError(f"a class needs at least 6 notes, not {count}")
    rng = np.random.default_rng(seed)
    parts = list(_families() if table == "families" else _instruments())
    parts = [_audible(part, presets) for part in parts if not labels or part.label in labels]
    groups = _groups(parts, presets, whole_programs=table == "families")
    tested = {groups[cell] for part in parts if part.side == "test" for cell in _cells(part)}
    by_class: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        usable = by_class.setdefault((part.label, part.side), [])
        if part.keys and not (part.side == "train" and groups[_cells(part)[0]] in tested):
            usable.append(part)
    notes = [
        note
        for (label, side), usable in by_class.items()
        for note in _notes(rng, label, side, usable, round(count * SHARES.get(side, 1)), groups)
    ]
    if table == "families":
        return tuple(notes)
    return split.assign(notes, test=0.1, valid=0.1, seed=seed)


def _families() -> Iterator[Part]:
    for label, family in FAMILIES.items():
        for side in SHARES:
            for program in getattr(family, side):
                yield Part(label, side, 0, program, tuple(range(family.low, family.high + 1)))


def _instruments() -> Iterator[Part]:
    for label, instrument in INSTRUMENTS.items():
        for program in instrument.programs:
            yield Part(label, "", 0, program, tuple(range(instrument.low, instrument.high + 1)))
        for kit in KITS if instrument.keys else ():
            yield Part(label, "", sf2.DRUMS, kit, instrument.keys)


def _audible(part: Part, presets: Presets) -> Part:
    zones = presets.get((part.bank, part.program), [])
    return part._replace(keys=tuple(k for k in part.keys if sf2.recordings(zones, k)))


def _cells(part: Part) -> list[tuple[int, int, int]]:
    return [(part.bank, part.program, key) for key in part.keys]


def _groups(
    parts: Sequence[Part], presets: Presets, *, whole_programs: bool
) -> dict[tuple[int, int, int], str]:
    """Name the connected component of every (bank, program, key) by its first member."""
    cells = sorted({cell for part in parts for cell in _cells(part)})
    links = [
        (row, link)
        for row, cell in enumerate(cells)
        for link in (
            *sf2.recordings(presets[cell[:2]], cell[2]),
            *((f"program {cell[:2]}",) if whole_programs else ()),
        )
    ]
    columns = {link: len(cells) + i for i, link in enumerate(sorted({link for _, link in links}))}
    size = len(cells) + len(columns)
    rows = [row for row, _ in links]
    graph = coo_array(
        (np.ones(len(links)), (rows, [columns[link] for _, link in links])), (size, size)
    )
    _, component = csgraph.connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for cell, index in zip(cells, component.tolist()[: len(cells)], strict=True):
        first.setdefault(index, "{}:{}:{}".format(*cell))
    return {cell: first[index] for cell, index in zip(cells, component.tolist(), strict=False)}


def _notes(
    rng: np.random.Generator,
    label: str,
    side: str,
    parts: Sequence[Part],
    count: int,
    groups: Mapping[tuple[int, int, int], str],
) -> Iterator[Note]:
    """Take turns among the programs; each uses every key before it repeats one."""
    if not parts:
        raise ValueError(f"the soundfont has no {side} sound of {label}".replace("  ", " "))
    sequences = [_sequence(rng, part.keys) for part in parts]
    for index in range(count):
        part = parts[index % len(parts)]
        key, velocity = next(sequences[index % len(parts)])
        bend = int(rng.integers(-BEND, BEND + 1)) if part.bank == sf2.DRUMS else 0
        voice = Voice(part.bank, part.program, key, velocity, bend)
        kind = "kit" if part.bank == sf2.DRUMS else ""
        yield Note(
            name=f"{label}_{kind}{part.program:03d}-{key:03d}-{velocity:03d}",
            label=label,
            group=groups[part.bank, part.program, key],
            split=side,
            source=" ".join(map(str, voice)),
            digest="",
        )


def _sequence(rng: np.random.Generator, keys: Sequence[int]) -> Iterator[tuple[int, int]]:
    velocities = rng.permuted(np.tile(VELOCITIES, (len(keys), 1)), axis=1)
    order = rng.permutation(len(keys)).tolist()
    for turn in range(len(VELOCITIES)):
        for index in order:
            yield keys[index], int(velocities[index, turn])
