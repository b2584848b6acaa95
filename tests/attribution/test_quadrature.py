import numpy as np
import pytest

from instrument_ig.attribution.quadrature import RULES, quadrature

DEGREE = {"left": 0, "right": 0, "midpoint": 1, "trapezoid": 1}  # Gauss-Legendre: 2 steps - 1
ORDER = {"left": 1, "right": 1, "midpoint": 2, "trapezoid": 2}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 3, 8, 50, 301])
def test_weights_are_positive_and_sum_to_one(rule, steps):
    nodes, weights = quadrature(rule, steps)
    assert (weights > 0).all()
    assert abs(weights.sum() - 1) < 1e-13  # rounding of 301 float64 terms
    assert (np.diff(nodes) > 0).all()
    assert nodes[0] >= 0
    assert nodes[-1] <= 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_polynomials_of_its_degree_are_exact(rule, steps):
    nodes, weights = quadrature(rule, steps)
    degree = DEGREE.get(rule, 2 * steps - 1)
    for power in range(degree + 1):
        assert abs(weights @ nodes**power - 1 / (power + 1)) < 1e-13  # float64 rounding
    beyond = degree + 1  # one degree more is not exact, or the rule is another one
    if beyond < 6:
        assert abs(weights @ nodes**beyond - 1 / (beyond + 1)) > 1e-6


@pytest.mark.parametrize("rule", ORDER)
def test_error_falls_at_the_order_of_the_rule(rule):
    error = lambda steps: abs(
        quadrature(rule, steps).weights @ np.exp(quadrature(rule, steps).nodes) - np.expm1(1)
    )
    factor = error(101) / error(201)  # odd, so that the trapezoid's intervals double too
    assert abs(factor / 2 ** ORDER[rule] - 1) < 0.03  # next term of the error expansion


def test_bad_rules_and_steps_are_refused():
    with pytest.raises(ValueError, match=r"rule='simpson'.*gauss_legendre"):
        quadrature("simpson", 4)
    with pytest.raises(ValueError, match="steps=0"):
        quadrature("midpoint", 0)
    with pytest.raises(ValueError, match="steps=1"):
        quadrature("trapezoid", 1)
