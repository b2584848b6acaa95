"""The cache: what is kept comes back, what is damaged does not, and names tell values apart."""

import concurrent.futures

import numpy as np
import pytest

from instrument_ig.storage import cache

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_what_is_kept_comes_back(tmp_path):
    name = cache.digest(note="a")
    assert cache.read(tmp_path, name) is None
    cache.write(tmp_path, name, ARRAY)
    found = cache.read(tmp_path, name)
    np.testing.assert_array_equal(found, ARRAY)
    assert found.dtype == ARRAY.dtype


def test_computed_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return ARRAY

    for _ in range(3):
        np.testing.assert_array_equal(cache.remember(tmp_path, "ab", compute), ARRAY)
    assert len(calls) == 1


def test_every_flipped_bit_of_the_data_is_noticed(tmp_path):
    cache.write(tmp_path, "ab", ARRAY)
    (path,) = tmp_path.rglob("*.npz")
    content = path.read_bytes()
    start = content.index(ARRAY.tobytes())
    for position in range(start, start + ARRAY.nbytes):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        assert cache.read(tmp_path, "ab") is None


@pytest.mark.parametrize("size", [0, 1, 30, 100, 200])
def test_torn_files_are_noticed(tmp_path, size):
    cache.write(tmp_path, "ab", ARRAY)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:size])
    assert cache.read(tmp_path, "ab") is None


def test_many_writers_leave_one_whole_file(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.write(tmp_path, "ab", ARRAY), range(100)))
    assert len(list(tmp_path.rglob("*.*"))) == 1
    np.testing.assert_array_equal(cache.read(tmp_path, "ab"), ARRAY)


def test_digests_tell_values_and_names_apart():
    same = [cache.digest(a=1, b="x"), cache.digest(b="x", a=1)]
    other = [cache.digest(a=2, b="x"), cache.digest(a=1, c="x"), cache.digest(a="1", b="x")]
    assert len({*same, *other}) == 4


def test_file_digests_are_of_the_content(tmp_path):
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (cache.digest_file(tmp_path / name) for name in "abc")
    assert a == b != c
