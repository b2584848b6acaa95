"""Writes data sets of short noises in the layouts that the readers know."""

import csv
import json

import numpy as np
import soundfile

RATE = 16_000


def write_sound(path, seed, seconds=0.2):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    soundfile.write(path, noise, RATE)


def nsynth(folder, instruments, per_instrument=2):
    """Write one NSynth folder; instruments are named FAMILY_SOURCE_NUMBER."""
    examples = {}
    for instrument in instruments:
        for pitch in range(per_instrument):
            name = f"{instrument}-{pitch:03d}-100"
            write_sound(folder / "audio" / f"{name}.wav", len(examples))
            family = instrument.rsplit("_", 2)[0]
            examples[name] = {"instrument_family_str": family, "instrument_str": instrument}
    (folder / "examples.json").write_text(json.dumps(examples))
    return folder


def classes(folder, counts, suffix=".wav"):
    """Write a folder of classes, counts: label -> number of sounds."""
    for label, count in counts.items():
        for index in range(count):
            write_sound(folder / label / f"{index}{suffix}", index)
    return folder


def table(path, rows):
    """Write a CSV table of dictionaries, and a sound for every path in it."""
    for index, row in enumerate(rows):
        write_sound(path.parent / row["path"], index)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
