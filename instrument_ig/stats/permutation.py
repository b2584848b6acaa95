"""Are heatmaps of one instrument closer to each other than to those of other instruments?

A label-permutation test on a full distance matrix, in the family of PERMANOVA and energy tests:
the statistic is the mean distance between instruments minus the mean distance within. Checked
against `scipy.stats.permutation_test`, a loop, and for uniform p-values, in
tests/stats/test_permutation.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from instrument_ig.stats.intervals import Distances

NO_TEST = "no test: no two groups of one instrument, or distances that are not finite"


class Separation(NamedTuple):
    """Distances within and between labels; one entry per label, and a last one pooled over all."""

    labels: tuple[str, ...]  # sorted, then "all"
    units: tuple[int, ...]  # of each label
    within: Float[np.ndarray, " K+1"]  # mean over pairs of two different units of the label
    between: Float[np.ndarray, " K+1"]  # mean over pairs of the label's notes with all others
    p_value: Float[np.ndarray, " K+1"]  # one-sided: small when within is smaller than between


class SeparationTest(NamedTuple):
    """One test of a study, as a row."""

    spectrogram: str
    metric: str
    instrument: str  # "all": pooled over instruments
    units: int  # physical instruments: what the permutations move
    within: float | None
    between: float | None
    p_value: float | None
    p_holm: float | None  # corrected for all rows: probability of any false alarm
    p_bh: float | None  # corrected for all rows: expected share of false alarms
    permutations: int
    status: str  # why there is no test; empty otherwise


def within_between(
    values: Float[np.ndarray, "N N"],
    labels: Shaped[np.ndarray, " N"],
    units: Shaped[np.ndarray, " N"],
    rng: np.random.Generator,
    *,
    permutations: int = 999,
) -> Separation:
    """Test whether notes are closer to their own label than to other labels.

    Statistic of label k: mean of d(i, j) over i in k and j outside, minus mean of d(i, j) over i
    and j in k from different units; pooled: the same with sums over all k. Under the null
    hypothesis a unit's label says nothing about it, so units exchange their labels. Notes of one
    physical instrument depend on each other, so physical instruments are the units; only
    independent notes may be units of their own (`units=np.arange(N)`): dependent notes permuted
    one by one would reject too often.

    Args:
      values: distances; d(i, j) and d(j, i) are averaged, and only pairs of units count.
      labels: instrument (family) of each note.
      units: what is exchangeable; a unit has one label.
      rng: source of randomness.
      permutations: R. The p-value is (1 + b) / (1 + R) with b permutations whose statistic reaches
        the observed one, hence never 0; few units also bound it from below, by their number of
        arrangements (two labels of two units each: 1/3).

    Raises:
      ValueError: if there are fewer than two labels, a unit has two labels, or `permutations` is
        not positive.

    Numerics: NaN for a label of one unit, which has no pair within, and everywhere if a distance is
      not finite. Statistics that agree to 1e-9 of the distances count as equal.
    Cost: O(N^2 + R K U^2) time and O(R K U) memory for U units and K labels.
    References: Anderson, A new method for non-parametric multivariate analysis of variance, 2001.
      Rizzo and Szekely, DISCO analysis, 2010. Phipson and Smyth, Permutation p-values should never
      be zero, 2010.
    """
    kinds, label_of_note = np.unique(labels, return_inverse=True)
    _, first, unit_of_note = np.unique(units, return_index=True, return_inverse=True)
    label_of_unit = label_of_note[first]
    if len(kinds) < 2 or permutations < 1:
        raise ValueError(f"needs two labels and a permutation, got {len(kinds)} and {permutations}")
    if (astray := label_of_unit[unit_of_note] != label_of_note).any():
        raise ValueError(f"unit {np.asarray(units)[astray][0]} has more than one label")
    sums, counts = _unit_sums(values, unit_of_note)
    permuted = rng.permuted(np.tile(label_of_unit, (permutations, 1)), axis=1)
    members = np.eye(len(kinds))[np.vstack([label_of_unit, permuted])]  # [1 + R, U, K]
    within, between = _means(sums, counts, members)
    gap = between - within
    rounding = 1e-9 * (np.abs(between[0]) + np.abs(within[0]))
    reached = (gap[1:] >= gap[0] - rounding).sum(0)
    p_value = np.where(np.isnan(gap[0]), np.nan, (1 + reached) / (1 + permutations))
    sizes = np.bincount(label_of_unit).tolist()
    names = (*map(str, kinds), "all")
    return Separation(names, (*sizes, sum(sizes)), within[0], between[0], p_value)


def permutation_tests(
    tables: Sequence[Distances], rng: np.random.Generator, *, permutations: int = 999
) -> list[SeparationTest]:
    """Test every instrument of every table, and correct for the number of tests.

    Physical instruments are the permuted units (see `within_between`).

    Args:
      tables: full matrices, each with the notes of at least two instruments.
      rng: source of randomness.
      permutations: per table.

    Returns:
      One row per instrument of each table, and one for "all" of them. Instruments with a single
      physical instrument have no test (None and a status) and do not count in the correction.

    Raises:
      ValueError: see `within_between`.
    """
    rows = []
    for table in tables:
        found = within_between(
            table.values, table.labels, table.groups, rng, permutations=permutations
        )
        for label, units, *numbers in zip(*found, strict=True):
            numbers = [None if np.isnan(number) else float(number) for number in numbers]
            status = "" if None not in numbers else NO_TEST
            head = (table.spectrogram, table.metric, label, units, *numbers)
            rows.append(SeparationTest(*head, None, None, permutations, status))
    tested = [index for index, row in enumerate(rows) if row.p_value is not None]
    p_values = np.array([rows[index].p_value for index in tested])
    corrected = zip(tested, holm(p_values), benjamini_hochberg(p_values), strict=True)
    for index, p_holm, p_bh in corrected:
        rows[index] = rows[index]._replace(p_holm=float(p_holm), p_bh=float(p_bh))
    return rows


def holm(p_values: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    """Return p-values corrected for M tests after Holm: valid under any dependence.

    The i-th smallest (from 1) becomes max over j <= i of (M + 1 - j) p_j, at most 1.

    References: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = np.argsort(p_values)
    steps = np.arange(len(p_values), 0, -1) * p_values[order]
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(steps).clip(max=1)
    return corrected


def benjamini_hochberg(p_values: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    """Return p-values corrected after Benjamini and Hochberg: the false discovery rate.

    References: Benjamini and Hochberg, Controlling the false discovery rate, 1995.
    """
    from scipy import stats  # most of a second, which importing this package need not wait for

    return stats.false_discovery_control(p_values, method="bh") if p_values.size else p_values


def _unit_sums(values, unit_of_note):
    """Return sums and numbers of the distances between different units, each [U, U]."""
    member = np.eye(unit_of_note.max() + 1)[unit_of_note]  # [N, U]
    sums = member.T @ ((values + values.T) / 2) @ member
    sizes = member.sum(0)
    apart = 1 - np.eye(len(sizes))
    return sums * apart, np.outer(sizes, sizes) * apart


def _means(sums, counts, members):
    """Return mean distance within and between labels, [1 + R, K + 1] each, pooled in the last."""
    flat = members.transpose(1, 0, 2).reshape(members.shape[1], -1)  # [U, (1 + R) K]

    def parts(matrix):
        inside = (matrix @ flat * flat).sum(0).reshape(len(members), -1)
        across = (matrix.sum(1) @ flat).reshape(len(members), -1) - inside
        return (np.hstack([part, part.sum(1, keepdims=True)]) for part in (inside, across))

    with np.errstate(invalid="ignore"):  # a label of one unit: 0 / 0
        return tuple(s / n for s, n in zip(parts(sums), parts(counts), strict=True))
