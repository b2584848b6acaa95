"""Which notes of a soundfont make a data set: spread over programs, keys and velocities."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from instrument_ig.audio import checks, sf2, split
from instrument_ig.audio.general_midi import FAMILIES, INSTRUMENTS, KITS
from instrument_ig.types import Note

TABLES = ("families", "instruments")
SHARES = {"train": 4 / 6, "valid": 1 / 6, "test": 1 / 6}  # of the notes of a family
VELOCITIES = np.arange(64, 128)  # softer is nothing but quieter, and drowns in the 16 bits
BEND = 8191  # two semitones of pitch wheel: percussion has no pitches to vary

Presets = Mapping[tuple[int, int], list[sf2.Zone]]
Cell = tuple[int, int, int]  # bank, program, key


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
    presets: Presets,
    table: str,
    labels: Sequence[str],
    leave_out: Sequence[str],
    count: int,
    seed: int,
) -> tuple[Note, ...]:
    """Draw `count` notes of every class.

    A group is all that shares a recording: whole programs of the families, single keys of the
    instruments. Programs that share one with a test program of their soundfont, as none does in the
    bundled one, train nothing.

    Raises:
      ValueError: unknown table or class, fewer than 6 notes, a class without sound or with too few
        keys for so many notes.
    """
    checks.known([table], TABLES, "table")
    wanted = checks.chosen(labels, leave_out, FAMILIES if table == "families" else INSTRUMENTS)
    if count < 6:
        raise ValueError(f"a class needs at least 6 notes, not {count}")
    parts = [
        _audible(part, presets) for part in (_families() if table == "families" else _instruments())
    ]
    groups = _groups(parts, presets, whole_programs=table == "families")
    tested = {groups[cell] for part in parts if part.side == "test" for cell in _cells(part)}
    usable: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        heard = part.side != "test" and not tested.isdisjoint(groups[c] for c in _cells(part))
        usable.setdefault((part.label, part.side), []).extend([part] if not heard else [])
    notes = [
        note
        for (label, side), sounding in usable.items()
        if label in wanted
        for note in _notes(label, side, sounding, groups, count, seed)
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
    return part._replace(keys=tuple(key for key in part.keys if sf2.recordings(zones, key)))


def _cells(part: Part) -> list[Cell]:
    return [(part.bank, part.program, key) for key in part.keys]


def _groups(parts: Sequence[Part], presets: Presets, *, whole_programs: bool) -> dict[Cell, str]:
    """Name the connected component of every cell by its first member."""
    # Half of the start-up time of `--help` when imported with the module.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    cells = sorted({cell for part in parts for cell in _cells(part)})
    recordings = [sf2.recordings(presets[bank, program], key) for bank, program, key in cells]
    if whole_programs:
        recordings = [
            found | {f"program {program}"}
            for found, (_, program, _) in zip(recordings, cells, strict=True)
        ]
    column = {name: len(cells) + i for i, name in enumerate(sorted(set().union(*recordings)))}
    edges = [(row, column[name]) for row, found in enumerate(recordings) for name in found]
    size = len(cells) + len(column)
    graph = coo_array((np.ones(len(edges)), np.transpose(edges)), (size, size))
    _, component = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for cell, index in zip(cells, component[: len(cells)].tolist(), strict=True):
        first.setdefault(index, "{}:{}:{}".format(*cell))
    return {cell: first[component[row]] for row, cell in enumerate(cells)}


def _notes(
    label: str,
    side: str,
    parts: Sequence[Part],
    groups: Mapping[Cell, str],
    count: int,
    seed: int,
) -> Iterator[Note]:
    """Take turns among the programs; each uses every key before it repeats one."""
    parts = [part for part in parts if part.keys]
    if not parts:
        raise ValueError(f"the soundfont has no sound of {label} {side}".rstrip())
    wanted = round(count * SHARES.get(side, 1.0))
    most = len(parts) * min(len(part.keys) for part in parts) * len(VELOCITIES)
    if wanted > most:
        raise ValueError(
            f"no more than {most} notes of {label} {side}".rstrip() + f", not {wanted}"
        )
    # A seed of its own: the notes of a class do not depend on which others are drawn.
    rng = np.random.default_rng([seed, *f"{label} {side}".encode()])
    sequences = [_sequence(rng, part.keys) for part in parts]
    for index in range(wanted):
        part = parts[index % len(parts)]
        key, velocity = next(sequences[index % len(parts)])
        is_drum = part.bank == sf2.DRUMS
        bend = int(rng.integers(-BEND, BEND + 1)) if is_drum else 0
        program = f"kit{part.program:03d}" if is_drum else f"{part.program:03d}"
        yield Note(
            name=f"{label}_{program}-{key:03d}-{velocity:03d}",
            label=label,
            group=groups[part.bank, part.program, key],
            split=side,
            source=" ".join(map(str, Voice(part.bank, part.program, key, velocity, bend))),
            digest="",
        )


def _sequence(rng: np.random.Generator, keys: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Return (key, velocity) pairs: all keys in random order, again and again, none twice."""
    velocities = rng.permuted(np.tile(VELOCITIES, (len(keys), 1)), axis=1)
    order = rng.permutation(len(keys)).tolist()
    for turn in range(len(VELOCITIES)):
        for index in order:
            yield keys[index], int(velocities[index, turn])
