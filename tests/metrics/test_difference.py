import numpy as np
import pytest

from instrument_ig.metrics import difference_mean, pairwise_difference_mean


@pytest.fixture
def heatmaps(rng):
    return rng.standard_normal((4, 6, 5)).astype(np.float32)


@pytest.mark.parametrize("signed", [False, True])
def test_all_pairs_match_the_double_loop(signed, heatmaps):
    wide = heatmaps.astype(np.float64)
    size = (lambda x: x) if signed else abs
    expected = [[size(a - b).mean() for b in wide] for a in wide]
    # float32 mean of 30 terms of order one
    np.testing.assert_allclose(
        pairwise_difference_mean(heatmaps, signed=signed), expected, atol=1e-6
    )
    np.testing.assert_allclose(
        difference_mean(heatmaps[0], heatmaps[1], signed=signed), expected[0][1], atol=1e-6
    )
    np.testing.assert_allclose(
        pairwise_difference_mean(heatmaps[:1], heatmaps[1:], signed=signed),
        [expected[0][1:]],
        atol=1e-6,
    )


def test_symmetric_with_a_zero_diagonal(heatmaps):
    plain = np.asarray(pairwise_difference_mean(heatmaps))
    signed = np.asarray(pairwise_difference_mean(heatmaps, signed=True))
    np.testing.assert_array_equal(plain, plain.T)
    np.testing.assert_array_equal(signed, -signed.T)
    assert (np.diag(plain) == 0).all()
    assert (np.diag(signed) == 0).all()


def test_zero_and_constant_maps_are_maps():
    zero, constant = np.zeros((3, 2), np.float32), np.full((3, 2), -2, np.float32)
    assert difference_mean(zero, constant) == 2
    assert difference_mean(zero, constant, signed=True) == 2
    assert difference_mean(zero, zero) == 0


@pytest.mark.parametrize("signed", [False, True])
def test_nan_stays_in_its_row_and_column(signed, heatmaps):
    heatmaps[2, 0, 0] = np.nan
    found = np.isnan(pairwise_difference_mean(heatmaps, signed=signed))
    expected = np.zeros((4, 4), bool)
    expected[2], expected[:, 2] = True, True
    np.testing.assert_array_equal(found, expected)
