import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.metrics import POLICIES, to_distribution

ORACLE = {
    "absolute": abs,
    "positive": lambda h: max(h, 0.0),
    "negative": lambda h: max(-h, 0.0),
    "squared": lambda h: h * h,
}


@pytest.fixture
def heatmaps(rng):
    return rng.standard_normal((3, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_match_a_loop_over_cells(policy, heatmaps):
    weights = np.vectorize(ORACLE[policy])(heatmaps.astype(np.float64))
    expected = weights / weights.sum((1, 2), keepdims=True)
    # float32: a sum of 20 terms and two divisions
    np.testing.assert_allclose(to_distribution(heatmaps, policy), expected, rtol=1e-6)


def test_floor_is_a_share_of_the_uniform_distribution(heatmaps):
    plain, floored = to_distribution(heatmaps), to_distribution(heatmaps, floor=0.1)
    np.testing.assert_allclose(floored, 0.9 * plain + 0.1 / 20, rtol=1e-6)  # float32 rounding
    np.testing.assert_allclose(jnp.sum(floored, (1, 2)), 1, rtol=1e-6)
    assert float(jnp.min(floored)) >= 0.1 / 20


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e30])
@pytest.mark.parametrize("policy", POLICIES)
def test_scale_does_not_matter(policy, scale, heatmaps):
    scaled = to_distribution(heatmaps * np.float32(scale), policy)
    # rounding of the scaled inputs themselves, squared
    np.testing.assert_allclose(scaled, to_distribution(heatmaps, policy), rtol=1e-6)


def test_constant_map_is_uniform():
    np.testing.assert_allclose(to_distribution(jnp.full((4, 5), -3.0)), 1 / 20, rtol=1e-6)


@pytest.mark.parametrize("floor", [0.0, 0.01])
@pytest.mark.parametrize(
    ("policy", "spoil"),
    [
        ("absolute", lambda h: h * 0),
        ("absolute", lambda h: h.at[1, 2].set(jnp.nan)),
        ("absolute", lambda h: h.at[1, 2].set(jnp.inf)),
        ("squared", lambda h: h.at[1, 2].set(-jnp.inf)),
        ("positive", lambda h: -jnp.abs(h)),
        ("negative", jnp.abs),
    ],
)
def test_what_is_no_distribution_is_nan_everywhere(policy, spoil, floor, heatmaps):
    spoiled = jnp.stack([spoil(jnp.asarray(heatmaps[0])), jnp.asarray(heatmaps[1])])
    result = to_distribution(spoiled, policy, floor)
    assert np.isnan(result[0]).all()
    assert np.isfinite(result[1]).all(), "a neighbour is not touched"


def test_bad_choices_are_errors(heatmaps):
    with pytest.raises(ValueError, match="'softmax'"):
        to_distribution(heatmaps, "softmax")
    for floor in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=str(floor)):
            to_distribution(heatmaps, floor=floor)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradient_matches_finite_differences(policy, heatmaps, rng):
    weights = jnp.asarray(rng.standard_normal((5, 4)), jnp.float32)
    heatmap = jnp.asarray(heatmaps[0])
    direction = jnp.asarray(rng.standard_normal((5, 4)), jnp.float32)
    loss = lambda h: jnp.sum(weights * to_distribution(h, policy))
    slope = (loss(heatmap + 1e-3 * direction) - loss(heatmap - 1e-3 * direction)) / 2e-3
    # central differences in float32: rounding 1e-7 / 1e-3, curvature 1e-6
    np.testing.assert_allclose(
        jnp.sum(jax.grad(loss)(heatmap) * direction), slope, atol=1e-3, rtol=1e-2
    )
