"""Small soundfonts for tests: looped sines of 440 Hz, each of its own level."""

import struct

import numpy as np

RATE = 16_000
KEYS = (20, 110)  # that every preset is limited to
SIZE = 4_000  # samples; 400 hold eleven periods of 440 Hz, so the loop closes


def write(path, presets):
    """Write presets {(bank, program): [(low key, high key, sample), ...]}."""
    count = 1 + max((zone[2] for zones in presets.values() for zone in zones), default=0)
    sine = np.sin(2 * np.pi * 440 * np.arange(SIZE) / RATE)
    waves = [np.round((20_000 - 100 * i) * sine).astype("<i2").tobytes() for i in range(count)]
    gap = bytes(92)  # 46 zero samples after each, as the specification asks
    headers = b"".join(
        struct.pack(
            "<20s5IBbHH", f"sine {i}".encode(),
            *(i * (SIZE + 46) + offset for offset in (0, SIZE, 400, 3_600)), RATE, 69, 0, 0, 1,
        )
        for i in range(count)
    )  # fmt: skip
    tables = _Tables()
    for index, ((bank, program), zones) in enumerate(presets.items()):
        tables.preset(index, bank, program, zones)
    pdta = tables.finish() + chunk(b"shdr", headers + bytes(46))
    info = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0")
    info += chunk(b"INAM", b"sine\0\0")
    sdta = chunk(b"smpl", b"".join(wave + gap for wave in waves))
    lists = [b"INFO" + info, b"sdta" + sdta, b"pdta" + pdta]
    path.write_bytes(chunk(b"RIFF", b"sfbk" + b"".join(chunk(b"LIST", body) for body in lists)))
    return path


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


class _Tables:
    def __init__(self):
        self.phdr = self.pbag = self.pgen = self.inst = self.ibag = self.igen = b""

    def preset(self, index, bank, program, zones):
        self.phdr += struct.pack(
            "<20sHHHIII", b"preset", program, bank, len(self.pbag) // 4, 0, 0, 0
        )
        self.pbag += struct.pack("<HH", len(self.pgen) // 4, 0)
        self.pgen += struct.pack("<HBB", 43, *KEYS)  # a zone of defaults
        self.pbag += struct.pack("<HH", len(self.pgen) // 4, 0)
        self.pgen += struct.pack("<HH", 41, index)
        self.inst += struct.pack("<20sH", b"instrument", len(self.ibag) // 4)
        self.ibag += struct.pack("<HH", len(self.igen) // 4, 0)
        self.igen += struct.pack("<HBBHH", 43, 0, 127, 54, 1)  # defaults: all keys, loop on
        for low, high, sample in zones:
            self.ibag += struct.pack("<HH", len(self.igen) // 4, 0)
            self.igen += struct.pack("<HBBHH", 43, low, high, 53, sample)

    def finish(self):
        self.phdr += struct.pack("<20sHHHIII", b"EOP", 0, 0, len(self.pbag) // 4, 0, 0, 0)
        self.inst += struct.pack("<20sH", b"EOI", len(self.ibag) // 4)
        self.pbag += struct.pack("<HH", len(self.pgen) // 4, 0)
        self.ibag += struct.pack("<HH", len(self.igen) // 4, 0)
        modulators, end = bytes(10), bytes(4)
        return b"".join(
            chunk(name, body)
            for name, body in (
                (b"phdr", self.phdr), (b"pbag", self.pbag), (b"pmod", modulators),
                (b"pgen", self.pgen + end), (b"inst", self.inst), (b"ibag", self.ibag),
                (b"imod", modulators), (b"igen", self.igen + end),
            )
        )  # fmt: skip
