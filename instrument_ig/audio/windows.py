"""A sound of any length as windows of one length."""

import numpy as np
from jaxtyping import Float32, Int

from instrument_ig.audio.decode import fit


def window_starts(samples: int, length: int, hop: int) -> Int[np.ndarray, " W"]:
    """Return where windows begin: every `hop`, and the last one where it ends with the sound.

    A sound shorter than a window has one window.

    Raises:
      ValueError: a length or hop below one sample.
    """
    if min(length, hop) < 1:
        raise ValueError(f"windows of {length} samples every {hop}: at least one sample each")
    last = max(0, samples - length)
    return np.append(np.arange(0, last, hop), last)


def windows(
    waveform: Float32[np.ndarray, " N"], starts: Int[np.ndarray, " W"], length: int
) -> Float32[np.ndarray, "W {length}"]:
    """Cut windows out of a waveform, padded with silence where it is shorter than one."""
    padded = fit(waveform, max(length, len(waveform)))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[starts]
