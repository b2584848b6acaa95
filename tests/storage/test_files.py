import multiprocessing
import os
import signal

import numpy as np
import pytest

from instrument_ig.storage import files, runs


def test_table_keeps_every_column_and_value(tmp_path):
    path = tmp_path / "new" / "table.csv"
    files.write_table(path, [{"a": 1, "b": "x,y"}, {"a": 0.1, "c": None}])
    assert files.read_table(path) == [
        {"a": "1", "b": "x,y", "c": ""},
        {"a": "0.1", "b": "", "c": ""},
    ]


def test_arrays_return_as_they_were(tmp_path, rng):
    arrays = {"logmel/bass": rng.normal(size=(2, 3)).astype(np.float32), "n": np.arange(4)}
    files.write_arrays(tmp_path / "a.npz", arrays)
    restored = files.read_arrays(tmp_path / "a.npz")
    assert restored.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(restored[name], array)
        assert restored[name].dtype == array.dtype


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    files.write_record(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_record(path, {"a": float("nan")})
    with pytest.raises(ZeroDivisionError):
        files.commit(path, lambda file: (file.write(b"half"), 1 / 0))
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "record.json"
    files.write_record(path, {"a": 1})
    child = multiprocessing.get_context("spawn").Process(target=_die_while_writing, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert path.read_text() == '{\n  "a": 1\n}\n'


def _die_while_writing(path):
    def write(file):
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    files.commit(path, write)


def test_a_run_is_reopened_only_with_its_own_settings(tmp_path):
    folder = tmp_path / "run"
    first = runs.open_run(folder, {"seed": 0, "names": ["a"]})
    assert runs.open_run(folder, {"seed": 0, "names": ["a"]}) == first
    runs.update(folder, finished=True)
    assert runs.open_run(folder, {"seed": 0, "names": ["a"]})["finished"]
    with pytest.raises(ValueError, match="--seed=0, not 1"):
        runs.open_run(folder, {"seed": 1, "names": ["a"]})
    assert first["versions"].keys() == set(runs.LIBRARIES)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="not empty"):
        runs.open_run(tmp_path, {})


def test_a_broken_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json is not the manifest"):
        runs.open_run(tmp_path, {})
