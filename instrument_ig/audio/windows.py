"""A sound of any length as windows of one length, in bounded memory."""

from collections.abc import Iterable, Iterator

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
    pieces: Iterable[Float32[np.ndarray, " _"]], length: int, hop: int, together: int
) -> Iterator[tuple[Int[np.ndarray, " W"], Float32[np.ndarray, "W {length}"]]]:
    """Cut windows out of a sound that comes in pieces; a short sound is padded with silence.

    Args:
      pieces: of any length each.
      length: samples of a window.
      hop: samples between the starts of two windows; see `window_starts`.
      together: windows that are yielded at once, at most.

    Yields:
      Where windows start in the sound, and the windows.

    Raises:
      ValueError: a length or hop below one sample.

    Cost: memory of a piece, a window, and the windows yielded together.
    """
    held, first, place = np.zeros(0, np.float32), 0, 0  # held: the sound from sample `first` on
    for piece in pieces:
        held = np.concatenate([held, piece])
        # The last of these starts may be none if the sound goes on: it is left for later.
        starts = place + window_starts(first + len(held) - place, length, hop)[:-1]
        for part in range(0, len(starts), together):
            some = starts[part : part + together]
            yield some, np.lib.stride_tricks.sliding_window_view(held, length)[some - first]
        place += hop * len(starts)
        spent = max(0, len(held) - length)
        held, first = held[spent:], first + spent
    yield np.array([first]), fit(held, length)[None]
