"""Rules for the integral over [0, 1]: where to look on the path and how much each look counts.

Checked in tests/attribution/test_quadrature.py: weights sum to 1, polynomials of the rule's degree
are exact, errors fall at the rule's order.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Quadrature(NamedTuple):
    """The integral of f over [0, 1] is about sum(weights * f(nodes))."""

    nodes: Float[np.ndarray, " S"]
    weights: Float[np.ndarray, " S"]


def left(steps: int) -> Quadrature:
    """Sample where each of `steps` equal intervals begins; exact for constants."""
    return Quadrature(np.arange(steps) / steps, np.full(steps, 1 / steps))


def right(steps: int) -> Quadrature:
    """Sample where each of `steps` equal intervals ends; exact for constants."""
    return Quadrature(np.arange(1, steps + 1) / steps, np.full(steps, 1 / steps))


def midpoint(steps: int) -> Quadrature:
    """Sample the middle of `steps` equal intervals; exact for straight lines."""
    return Quadrature((np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps))


def trapezoid(steps: int) -> Quadrature:
    """Sample `steps` equidistant points from 0 to 1, the two ends half; exact for straight lines.

    Captum's rule of this name gives weights that sum to 1 - 1 / steps; these sum to 1.
    """
    if steps < 2:
        raise ValueError(f"steps={steps}: the trapezoid rule needs both ends, so at least 2")
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return Quadrature(np.linspace(0, 1, steps), weights)


def gauss_legendre(steps: int) -> Quadrature:
    """Sample the roots of a Legendre polynomial; exact for polynomials of degree 2 steps - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return Quadrature((nodes + 1) / 2, weights / 2)


RULES: dict[str, Callable[[int], Quadrature]] = {
    "left": left,
    "right": right,
    "midpoint": midpoint,
    "trapezoid": trapezoid,
    "gauss_legendre": gauss_legendre,
}


def quadrature(rule: str, steps: int) -> Quadrature:
    """Look up a rule and lay out its nodes.

    Raises:
        ValueError: the rule is unknown (the message lists those that are), or steps < 1.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}: there are {', '.join(RULES)}")
    if steps < 1:
        raise ValueError(f"steps={steps}: at least 1")
    return RULES[rule](steps)
