"""Windows by what they cover."""

import numpy as np
import pytest

from instrument_ig.audio.windows import window_starts, windows


@pytest.mark.parametrize(
    ("samples", "starts"),
    [(1, [0]), (10, [0]), (11, [0, 1]), (14, [0, 4]), (15, [0, 4, 5]), (23, [0, 4, 8, 12, 13])],
)
def test_every_hop_and_one_at_the_end(samples, starts):
    assert window_starts(samples, 10, 4).tolist() == starts


def join(found):
    starts, cut = zip(*found, strict=True)
    return np.concatenate(starts), np.concatenate(cut)


@pytest.mark.parametrize("samples", [10, 17, 40, 101])
def test_every_sample_is_heard(samples):
    waveform = np.arange(samples, dtype=np.float32)
    starts, heard = join(windows([waveform], 10, 4, together=100))
    np.testing.assert_array_equal(starts, window_starts(samples, 10, 4))
    np.testing.assert_array_equal(heard[:, 0], starts)
    np.testing.assert_array_equal(np.unique(heard), waveform)
    assert all((np.diff(window) == 1).all() for window in heard)  # none is padded


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 30])
@pytest.mark.parametrize("hop", [1, 4, 10, 13])
def test_pieces_make_no_difference(hop, size, together):
    waveform = np.arange(50, dtype=np.float32)
    found = list(windows(np.split(waveform, range(size, 50, size)), 10, hop, together))
    assert max(len(starts) for starts, _ in found) <= together
    for one, other in zip(join(found), join(windows([waveform], 10, hop, 100)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_short_sound_is_padded():
    starts, heard = join(windows([np.ones(1, np.float32), np.ones(2, np.float32)], 5, 2, 8))
    np.testing.assert_array_equal(starts, [0])
    np.testing.assert_array_equal(heard, [[1, 1, 1, 0, 0]])


@pytest.mark.parametrize(("length", "hop"), [(0, 1), (4, 0), (4, -1)])
def test_windows_of_nothing_are_refused(length, hop):
    with pytest.raises(ValueError, match=f"windows of {length} samples every {hop}"):
        window_starts(8, length, hop)
