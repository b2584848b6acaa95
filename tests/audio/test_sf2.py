"""The tables of a soundfont against files written here and against what a renderer plays."""

import pytest

from instrument_ig.audio import sf2, soundfont
from instrument_ig.audio.decode import BadAudio
from instrument_ig.audio.draw import Voice
from instrument_ig.config import AudioConfig
from tests.audio import soundfonts


def test_zones_of_a_written_file(tmp_path):
    written = {(0, 5): [(10, 60, 0), (61, 80, 1)], (0, 9): [(0, 127, 1)], (128, 0): []}
    presets = sf2.read(soundfonts.write(tmp_path / "a.sf2", written))
    assert presets.keys() == written.keys()
    assert [(zone.low, zone.high) for zone in presets[0, 5]] == [(20, 60), (61, 80)]
    assert [(zone.low, zone.high) for zone in presets[0, 9]] == [soundfonts.KEYS]
    assert presets[128, 0] == []
    low, high = (zone.recording for zone in presets[0, 5])
    assert sf2.recordings(presets[0, 5], 60) == {low}
    assert sf2.recordings(presets[0, 5], 81) == set()
    assert sf2.recordings(presets[0, 9], 30) == {high} != {low}


@pytest.mark.parametrize(
    ("program", "key"), [(65, 63), (65, 64), (67, 79), (67, 80), (78, 78), (78, 79), (68, 35)]
)
def test_a_key_without_a_recording_is_silent(program, key):
    path = soundfont.bundled()
    config = AudioConfig(duration_s=0.5)
    if sf2.recordings(sf2.read(path)[0, program], key):
        assert soundfont.render(str(path), Voice(0, program, key, 100), config).any()
    else:
        with pytest.raises(BadAudio, match="silent"):
            soundfont.render(str(path), Voice(0, program, key, 100), config)


def test_violin_and_viola_of_the_bundled_bank_are_one_recording():
    presets = sf2.read(soundfont.bundled())
    assert sf2.recordings(presets[0, 40], 64) & sf2.recordings(presets[0, 41], 64)
    assert not sf2.recordings(presets[0, 40], 64) & sf2.recordings(presets[0, 42], 64)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\4\0\0\0WAVE", b"RIFF\4\0\0\0sfbk"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.sf2"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.sf2 is not a SoundFont 2 file"):
        sf2.read(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_truncated_soundfonts_are_refused(tmp_path, share):
    path = soundfonts.write(tmp_path / "cut.sf2", {(0, 0): [(0, 127, 0)]})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is not a SoundFont 2 file"):
        sf2.read(path)
