"""What a SoundFont 2 file holds: which recording sounds for which key of which program.

Read from the file's tables ("hydra"), nothing is rendered. Two programs that share a recording are
one physical instrument to a classifier, however different their names; a key without a recording
is silent.

References:
  E-mu Systems, SoundFont Technical Specification 2.04, 2006, section 7.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

DRUMS = 128  # the bank of percussion kits
INSTRUMENT, KEY_RANGE, SAMPLE = 41, 43, 53  # generators
FULL_RANGE = 127 << 8  # low byte 0, high byte 127

BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
GENERATOR = np.dtype([("operator", "<u2"), ("amount", "<u2")])
PRESET = np.dtype(
    [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("unused", "<u4", 3)]
)
INST = np.dtype([("name", "S20"), ("bag", "<u2")])
HEADER = np.dtype([("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("rest", "V18")])


class Zone(NamedTuple):
    """Where one recording sounds."""

    low: int  # MIDI key, both ends included
    high: int
    recording: str  # digest of its samples


def read(path: Path) -> dict[tuple[int, int], list[Zone]]:
    """Return the zones of every preset by (bank, program).

    Raises:
      ValueError: not a SoundFont 2 file.
    """
    content = path.read_bytes()
    try:
        return _presets(dict(_chunks(content)))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is not a SoundFont 2 file") from error


def recordings(zones: list[Zone], key: int) -> set[str]:
    """Return the recordings that sound at a key, at any velocity."""
    return {zone.recording for zone in zones if zone.low <= key <= zone.high}


def _presets(chunks):
    presets = np.frombuffer(chunks[b"phdr"], PRESET)
    instruments = np.frombuffer(chunks[b"inst"], INST)
    headers = np.frombuffer(chunks[b"shdr"], HEADER)
    samples = memoryview(chunks[b"smpl"])
    digests = [
        hashlib.sha256(samples[2 * int(h["start"]) : 2 * int(h["end"])]).hexdigest()[:16]
        for h in headers
    ]
    found = {}
    for index in range(len(presets) - 1):  # the last entry of every table only ends it
        key = int(presets["bank"][index]), int(presets["program"][index])
        found[key] = [
            zone
            for outer in _zones(chunks, b"p", presets["bag"], index, INSTRUMENT)
            for inner in _zones(chunks, b"i", instruments["bag"], outer[INSTRUMENT], SAMPLE)
            if (zone := _intersect(outer, inner, digests[inner[SAMPLE]]))
        ]
    return found


def _zones(chunks, kind, bags, index, last) -> Iterator[dict[int, int]]:
    """Generators of each zone; a first zone without `last` holds defaults for the others."""
    bag = np.frombuffer(chunks[kind + b"bag"], BAG)["generator"]
    generators = np.frombuffer(chunks[kind + b"gen"], GENERATOR)
    defaults: dict[int, int] = {}
    for zone in range(bags[index], bags[index + 1]):
        own = dict(generators[bag[zone] : bag[zone + 1]].tolist())
        if last in own:
            yield defaults | own
        elif zone == bags[index]:
            defaults = own


def _intersect(outer, inner, recording) -> Zone | None:
    # A range is one number: its low end in the low byte, its high end in the high byte.
    ends = [divmod(zone.get(KEY_RANGE, FULL_RANGE), 256) for zone in (outer, inner)]
    low, high = max(low for _, low in ends), min(high for high, _ in ends)
    return Zone(low, high, recording) if low <= high else None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return the innermost chunks of a RIFF file of lists of chunks."""
    if content[:4] != b"RIFF" or content[8:12] != b"sfbk":
        raise ValueError("no RIFF sfbk header")
    for name, body in _split(content[12:]):
        if name == b"LIST":
            yield from _split(body[4:])


def _split(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while start + 8 <= len(body):
        size = int.from_bytes(body[start + 4 : start + 8], "little")
        yield body[start : start + 4], body[start + 8 : start + 8 + size]
        start += 8 + size + size % 2
