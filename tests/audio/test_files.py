"""The readers of NSynth, folders and tables on layouts written here."""

import collections
import json
import os

import numpy as np
import pytest
import soundfile

from instrument_ig.audio import DATASETS
from instrument_ig.config import AudioConfig
from tests.audio import layouts

CONFIG = AudioConfig(duration_s=0.3)
TEN = [f"{family}_acoustic_{i:03d}" for family in ("flute", "organ") for i in range(10)]


def sides(notes):
    found = collections.defaultdict(collections.Counter)
    for note in notes:
        found[note.label][note.split] += 1
    return {label: dict(counts) for label, counts in found.items()}


def official(
    tmp_path, train=TEN[2:18], test=("flute_acoustic_000", "organ_acoustic_009"), valid=()
):
    for side, instruments in (("train", train), ("valid", valid), ("test", test)):
        if instruments:
            layouts.nsynth(tmp_path / f"nsynth-{side}", instruments)
    return tmp_path


def test_official_nsynth(tmp_path):
    valid = ("flute_acoustic_001", "organ_acoustic_008")
    dataset = DATASETS["nsynth"](CONFIG, data_dir=official(tmp_path, valid=valid))
    expected = {"train": 16, "valid": 2, "test": 2}
    assert sides(dataset.notes) == {"flute": expected, "organ": expected}
    note = dataset.notes[0]
    assert (note.name, note.label, note.group) == (
        "flute_acoustic_002-000-100",
        "flute",
        "flute_acoustic_002",
    )
    assert dataset.load(note).shape == (4_800,)


def test_nsynth_without_validation_takes_some_of_the_training_instruments(tmp_path):
    notes = DATASETS["nsynth"](CONFIG, data_dir=official(tmp_path)).notes
    valid = {note.group for note in notes if note.split == "valid"}
    assert len(valid) == 4  # 20 % of eight instruments, rounded, of each family
    assert valid.isdisjoint(note.group for note in notes if note.split != "valid")


def test_one_nsynth_folder_is_split_by_instrument(tmp_path):
    notes = DATASETS["nsynth"](CONFIG, data_dir=layouts.nsynth(tmp_path, TEN)).notes
    assert sides(notes) == dict.fromkeys(("flute", "organ"), {"train": 12, "valid": 4, "test": 4})


def test_synth_lead_is_left_out(tmp_path):
    folder = layouts.nsynth(tmp_path, [*TEN, "synth_lead_synthetic_000"])
    notes = DATASETS["nsynth"](CONFIG, data_dir=folder).notes
    assert {note.label for note in notes} == {"flute", "organ"}


def test_folder(tmp_path):
    layouts.classes(tmp_path, {"drum": 10, "harp": 5})
    layouts.classes(tmp_path / "harp", {"loud": 5}, suffix=".FLAC")
    (tmp_path / "harp" / "readme.txt").write_text("not a sound")
    (tmp_path / "loose.wav").write_text("in no class")
    dataset = DATASETS["folder"](CONFIG, data_dir=tmp_path)
    assert sides(dataset.notes) == dict.fromkeys(
        ("drum", "harp"), {"train": 6, "valid": 2, "test": 2}
    )
    assert {note.name for note in dataset.notes} >= {"drum/3.wav", "harp/loud/2.FLAC"}
    assert all(note.group == note.name for note in dataset.notes)


def rows(groups=True):
    return [
        {"path": f"{label}/{i}.wav", "licence": "CC0", "label": label}
        | ({"group": f"{label} {i // 3}"} if groups else {})
        for label in ("harp", "drum")
        for i in range(15)
    ]


@pytest.mark.parametrize("groups", [True, False])
def test_table(tmp_path, groups):
    path = layouts.table(tmp_path / "sounds.csv", rows(groups))
    dataset = DATASETS["csv"](CONFIG, data_dir=path)
    assert sides(dataset.notes) == dict.fromkeys(
        ("drum", "harp"), {"train": 9, "valid": 3, "test": 3}
    )
    assert len({note.group for note in dataset.notes}) == (10 if groups else 30)
    np.testing.assert_array_equal(
        dataset.load(dataset.notes[4])[:3200],
        soundfile.read(tmp_path / "harp" / "4.wav", dtype="float32")[0],
    )


def test_table_with_its_own_split(tmp_path):
    written = [row | {"split": "test" if row["group"].endswith("0") else "train"} for row in rows()]
    notes = DATASETS["csv"](CONFIG, data_dir=layouts.table(tmp_path / "a.csv", written)).notes
    assert {note.group for note in notes if note.split == "test"} == {"harp 0", "drum 0"}
    assert sides(notes)["harp"] == {"train": 9, "valid": 3, "test": 3}


def test_table_as_a_spreadsheet_saves_it(tmp_path):
    path = layouts.table(tmp_path / "a.csv", rows())
    plain = DATASETS["csv"](CONFIG, data_dir=path).notes
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a byte order mark
    assert DATASETS["csv"](CONFIG, data_dir=path).notes == plain


def test_classes_can_be_chosen(tmp_path):
    layouts.classes(tmp_path, {"drum": 5, "harp": 5, "gong": 1})
    notes = DATASETS["folder"](CONFIG, data_dir=tmp_path, labels=["harp", "drum"]).notes
    assert {note.label for note in notes} == {"drum", "harp"}


def test_a_changed_file_changes_its_digest_alone(tmp_path):
    layouts.classes(tmp_path, {"drum": 5, "harp": 5})
    before = DATASETS["folder"](CONFIG, data_dir=tmp_path)
    state = (tmp_path / "drum" / "3.wav").stat()
    os.utime(tmp_path / "drum" / "3.wav", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    after = DATASETS["folder"](CONFIG, data_dir=tmp_path)
    changed = [a.name for a, b in zip(after.notes, before.notes, strict=True) if a != b]
    assert changed == ["drum/3.wav"]
    assert after.digest != before.digest


def test_missing_places(tmp_path):
    for name in ("nsynth", "folder"):
        with pytest.raises(FileNotFoundError, match="no such folder: nowhere"):
            DATASETS[name](CONFIG, data_dir="nowhere")
    with pytest.raises(FileNotFoundError, match="no such table: nowhere"):
        DATASETS["csv"](CONFIG, data_dir="nowhere")
    with pytest.raises(FileNotFoundError, match="neither examples.json nor nsynth-train"):
        DATASETS["nsynth"](CONFIG, data_dir=tmp_path)
    (tmp_path / "nsynth-train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"nsynth-train/examples\.json"):
        DATASETS["nsynth"](CONFIG, data_dir=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        '{"a": 3}',
        '{"a": {"instrument_str": "x"}}',
        '{"a": {"instrument_family_str": "x"}}',
        b"\xff\xfe\xfa",
    ],
)
def test_broken_examples(tmp_path, content):
    path = tmp_path / "examples.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"examples\.json is broken") as caught:
        DATASETS["nsynth"](CONFIG, data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "a/../../b"])
def test_names_that_lead_out(tmp_path, name):
    example = {"instrument_family_str": "flute", "instrument_str": "x"}
    (tmp_path / "examples.json").write_text(json.dumps({name: example}))
    with pytest.raises(ValueError, match="leads out of the folder"):
        DATASETS["nsynth"](CONFIG, data_dir=tmp_path)


def test_a_note_without_its_sound(tmp_path):
    folder = layouts.nsynth(tmp_path, TEN)
    (folder / "audio" / "organ_acoustic_003-001-100.wav").unlink()
    with pytest.raises(FileNotFoundError, match="note organ_acoustic_003-001-100 has no sound"):
        DATASETS["nsynth"](CONFIG, data_dir=folder)


def test_an_instrument_on_both_sides(tmp_path):
    folder = official(tmp_path, train=TEN, test=TEN[:1])
    # Equal names would be refused first.
    index = folder / "nsynth-test" / "examples.json"
    text = index.read_text().replace("_000-0", "_000-9")
    index.write_text(text)
    for wav in (folder / "nsynth-test" / "audio").iterdir():
        wav.rename(wav.with_name(wav.name.replace("_000-0", "_000-9")))
    with pytest.raises(ValueError, match="group 'flute_acoustic_000' is in training and in test"):
        DATASETS["nsynth"](CONFIG, data_dir=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: {"path": row["path"]}, "no column 'label'"),
        (lambda row: {"label": row["label"], "path": row["path"], "split": "dev"}, "line 2: split"),
        (lambda row: row | {"label": ""}, "line 2: no label"),
        (lambda row: row | {"split": "train"}, "has no test notes"),
        (lambda row: row | {"group": "one"}, "has no test notes"),
    ],
)
def test_broken_tables(tmp_path, change, message):
    path = layouts.table(tmp_path / "a.csv", [change(row) for row in rows()])
    with pytest.raises(ValueError, match=message):
        DATASETS["csv"](CONFIG, data_dir=path)


def test_tables_with_missing_sounds_and_repeated_ones(tmp_path):
    path = layouts.table(tmp_path / "a.csv", rows())
    text = path.read_text()
    path.write_text(text + text.splitlines()[1])
    with pytest.raises(ValueError, match=r"2 notes are called 'harp/0\.wav'"):
        DATASETS["csv"](CONFIG, data_dir=path)
    (tmp_path / "harp" / "0.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"note harp/0\.wav has no sound"):
        DATASETS["csv"](CONFIG, data_dir=path)


def test_classes_that_cannot_be_used(tmp_path):
    with pytest.raises(ValueError, match="holds no notes"):
        DATASETS["folder"](CONFIG, data_dir=tmp_path)
    layouts.classes(tmp_path, {"drum": 5, "gong": 1})
    with pytest.raises(ValueError, match="class 'gong' has one note and needs two"):
        DATASETS["folder"](CONFIG, data_dir=tmp_path)
    with pytest.raises(ValueError, match="no such class: 'lute'; choose from drum, gong"):
        DATASETS["folder"](CONFIG, data_dir=tmp_path, labels=["lute"])
    with pytest.raises(ValueError, match="no such class: 'lute'"):
        DATASETS["folder"](CONFIG, data_dir=tmp_path, leave_out=["lute"])
    with pytest.raises(ValueError, match="class 'drum' is both wanted and left out"):
        DATASETS["folder"](CONFIG, data_dir=tmp_path, labels=["drum"], leave_out=["drum"])


def test_every_class_of_one_note_is_named_and_may_be_left_out(tmp_path):
    layouts.classes(tmp_path, {"drum": 5, "gong": 1, "harp": 5, "lute": 1})
    with pytest.raises(ValueError, match="class 'gong' and class 'lute' have one note") as caught:
        DATASETS["folder"](CONFIG, data_dir=tmp_path)
    assert str(caught.value).endswith("--leave_out=gong,lute")
    notes = DATASETS["folder"](CONFIG, data_dir=tmp_path, leave_out=["gong", "lute"]).notes
    assert {note.label for note in notes} == {"drum", "harp"}
