from functools import partial

import jax
import numpy as np
import pytest

from instrument_ig.machine import Execution
from instrument_ig.metrics import (
    difference_mean,
    js_divergence,
    kl_divergence,
    pairwise_difference_mean,
    pairwise_js,
    pairwise_kl,
)
from instrument_ig.metrics.distribution import to_distribution
from instrument_ig.metrics.pairwise import windows

PAIRWISE = {
    "difference_mean": pairwise_difference_mean,
    "js": pairwise_js,
    "kl": pairwise_kl,
}
PAIRS = {"difference_mean": difference_mean, "js": js_divergence, "kl": kl_divergence}
MAP_BYTES = 10 * 6 * 4


@pytest.fixture
def maps(rng):
    return to_distribution(rng.standard_normal((11, 10, 6)).astype(np.float32), floor=1e-6)


def test_windows_are_even_and_stay_inside():
    assert windows(10, 4) == ([0, 4, 6], 4)
    assert windows(12, 5) == ([0, 4, 8], 4)
    assert windows(3, 100) == ([0], 3)


@pytest.mark.parametrize("room", [3, 4, 7, 30, 100, 1000])  # maps of working space
@pytest.mark.parametrize("name", PAIRWISE)
def test_tiles_of_any_size_give_the_same(name, room, maps):
    pairwise = PAIRWISE[name]
    # sums over cells may be vectorised differently in tiles of another shape
    same = partial(np.testing.assert_allclose, atol=2e-6)
    tight = partial(pairwise, execution=Execution(memory=room * MAP_BYTES))
    same(tight(maps), pairwise(maps))
    same(tight(maps[:3], maps), pairwise(maps)[:3])
    same(tight(maps, maps[4:]), pairwise(maps)[:, 4:])


@pytest.mark.parametrize("name", ["difference_mean", "js"])
def test_symmetric_to_the_last_bit_in_tiles_of_any_size(name, maps):
    for room in (3, 4, 7, 30, 100):
        values = np.asarray(PAIRWISE[name](maps, execution=Execution(memory=room * MAP_BYTES)))
        np.testing.assert_array_equal(values, values.T)
        assert (np.diag(values) == 0).all()


@pytest.mark.parametrize("name", PAIRWISE)
def test_the_compiled_program_stays_within_the_memory(name):
    maps = jax.ShapeDtypeStruct((64, 126, 128), np.float32)
    needs = {}
    for memory in (2**20, 2**23):
        execution = Execution(memory=memory)
        of = lambda maps, execution=execution: PAIRWISE[name](maps, execution=execution)
        program = jax.jit(of).lower(maps).compile().memory_analysis()
        needs[memory] = program.temp_size_in_bytes
        results = 4 * 64 * 64 * 4  # the matrix on its way through the loop and the mirror
        assert program.temp_size_in_bytes <= memory + results
    assert needs[2**20] < 64 * 126 * 128 * 4, "not even one copy of the maps"


@pytest.mark.parametrize("name", PAIRWISE)
def test_too_little_memory_is_an_error(name, maps):
    with pytest.raises(ValueError, match="one item needs [0-9]+ bytes"):
        PAIRWISE[name](maps, execution=Execution(memory=10))


@pytest.mark.parametrize("name", ["js", "kl"])
@pytest.mark.parametrize("mass", [0.5, 1.01])
def test_other_masses_are_no_distributions(name, mass, maps):
    spoiled = maps.at[1].multiply(mass)
    found = np.isnan(PAIRWISE[name](spoiled))
    expected = np.zeros((11, 11), bool)
    expected[1], expected[:, 1] = True, True
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(PAIRS[name](spoiled[0], spoiled[1]))
    assert not np.isnan(PAIRS[name](maps[0] * 1.0005, maps[1]))


@pytest.mark.parametrize("name", PAIRWISE)
def test_gradients_pass_through_all_pairs(name, maps):
    total = lambda P: PAIRWISE[name](P).sum()
    single = lambda P: sum(PAIRS[name](p, q) for p in P for q in P)
    by_all, by_each = jax.grad(total)(maps[:3]), jax.grad(single)(maps[:3])
    by_all, by_each = (g - g.mean((1, 2), keepdims=True) for g in (by_all, by_each))
    # KL as a product holds logarithms of size 16 to 1e-6, times the pairs
    np.testing.assert_allclose(by_all, by_each, atol=2e-5, rtol=1e-4)
