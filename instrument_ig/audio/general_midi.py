"""Which General MIDI programs and percussion keys sound like which class.

`FAMILIES` are the ten of NSynth, split so that the test programs are never heard in training.
`INSTRUMENTS` are the classes of Senatori and Nardone (2025) as far as General MIDI has them: no
dobro, mandolin or ukulele. Programs count from 0.
"""

from typing import NamedTuple


class Family(NamedTuple):
    """Programs of one class for each side of the split."""

    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]
    low: int  # MIDI keys that suit all its programs
    high: int


class Instrument(NamedTuple):
    """Programs of one class, or keys of the percussion kits."""

    programs: tuple[int, ...] = ()
    low: int = 0  # MIDI keys that suit all its programs
    high: int = 0
    keys: tuple[int, ...] = ()


# In TimGM6mb, the bundled bank, no test program shares a recording with a training or validation
# program of any family: the file's own tables say so. (By its tables violin, viola and fiddle are
# one recording, and so are oohs and synth vox, overdriven and distorted guitar, fingered and
# second synth bass.) Equal notes agree: normalised cross-correlation over the first half second is
# at most 0.93 between test and training, reached by near-sinusoids such as electric pianos, and
# up to 1.00 between programs of one recording. Vocal has but three recordings, so its validation
# program shares one with training. Accordions are organs by the General MIDI standard.
FAMILIES = {
    "bass": Family((33, 35, 36, 38, 39), (34,), (32, 37), 28, 55),
    "brass": Family((56, 57, 60, 62, 63), (59,), (58, 61), 40, 79),
    "flute": Family((72, 74, 75, 76, 78), (79,), (73, 77), 60, 84),
    "guitar": Family((24, 27, 28, 29, 30, 105), (104, 106), (25, 26, 107), 40, 76),
    "keyboard": Family((0, 1, 2, 3, 4), (7,), (5, 6), 28, 96),
    "mallet": Family((8, 9, 10, 12, 13, 114), (14,), (11, 108), 53, 89),
    "organ": Family((16, 20, 21, 23), (19,), (17, 18), 36, 84),
    "reed": Family((64, 66, 68, 71), (69,), (65, 67, 70), 46, 79),
    "string": Family((40, 41, 44, 48, 49, 110), (50,), (42, 43, 51), 40, 84),
    "vocal": Family((52, 85), (91,), (53, 54), 48, 76),
}

KITS = (
    0,
    8,
    16,
    24,
    25,
    32,
    40,
    48,
)  # standard, room, power, electronic, 808, jazz, brush, concert

INSTRUMENTS = {
    "Accordion": Instrument((21, 23), 48, 84),
    "Acoustic Guitar": Instrument((24, 25), 40, 76),
    "Banjo": Instrument((105,), 48, 80),
    "Bass Guitar": Instrument((33, 34, 35, 36, 37), 28, 55),
    "Clarinet": Instrument((71,), 50, 86),
    "Cowbell": Instrument(keys=(56,)),
    "Cymbals": Instrument(keys=(49, 51, 52, 53, 55, 57, 59)),
    "Drum Set": Instrument(keys=(35, 36, 38, 40)),  # bass and snare drums
    "Electric Guitar": Instrument((26, 27, 28, 29, 30), 40, 76),
    "Floor Tom": Instrument(keys=(41, 43)),
    "Flute": Instrument((73,), 60, 96),
    "Harmonica": Instrument((22,), 48, 84),
    "Harmonium": Instrument((20,), 36, 84),
    "Hi-Hats": Instrument(keys=(42, 44, 46)),
    "Horn": Instrument((60,), 36, 77),
    "Keyboard": Instrument((4, 5), 28, 96),
    "Organ": Instrument((16, 17, 18, 19), 36, 84),
    "Piano": Instrument((0, 1, 2, 3), 28, 96),
    "Saxophone": Instrument((64, 65, 66, 67), 46, 79),
    "Shakers": Instrument(keys=(69, 70, 82)),  # cabasa, maracas, shaker
    "Tambourine": Instrument(keys=(54,)),
    "Trombone": Instrument((57,), 40, 72),
    "Trumpet": Instrument((56, 59), 52, 84),
    "Vibraphone": Instrument((11,), 53, 89),
    "Violin": Instrument((40, 110), 55, 96),
}
