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


@pytest.mark.parametrize("samples", [10, 17, 40, 101])
def test_every_sample_is_heard(samples):
    waveform = np.arange(samples, dtype=np.float32)
    heard = windows(waveform, window_starts(samples, 10, 4), 10)
    np.testing.assert_array_equal(np.unique(heard), waveform)
    assert all((np.diff(window) == 1).all() for window in heard)  # none is padded


def test_a_short_sound_is_padded():
    waveform = np.ones(3, np.float32)
    np.testing.assert_array_equal(windows(waveform, np.array([0]), 5), [[1, 1, 1, 0, 0]])


@pytest.mark.parametrize(("length", "hop"), [(0, 1), (4, 0), (4, -1)])
def test_windows_of_nothing_are_refused(length, hop):
    with pytest.raises(ValueError, match=f"windows of {length} samples every {hop}"):
        window_starts(8, length, hop)
