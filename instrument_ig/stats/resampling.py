"""Bootstrap weights of notes: physical instruments are drawn first, then their notes.

N notes give N^2 dependent pairs, so an interval comes from resampling notes, never pairs. All
tables of a study share one set of weights, keyed by the note's name: a resample holds the same
notes in every metric, spectrogram and test set, so that differences between them are paired.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Real, Shaped

NO_INTERVAL = "no interval: one group"  # resampling one physical instrument says nothing of others


class Resamples(NamedTuple):
    """How often each note occurs in each of R samples; the first is the sample itself, all ones."""

    names: Shaped[np.ndarray, " N"]  # sorted
    labels: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"]
    weights: Real[np.ndarray, "R N"]  # whole numbers unless drawn `for_sums`

    def of(self, names: Sequence[str] | Shaped[np.ndarray, " M"]) -> Real[np.ndarray, "R M"]:
        """Return the columns of the notes `names`, in their order."""
        names = np.asarray(names)
        columns = np.searchsorted(self.names, names).clip(max=len(self.names) - 1)
        if (unknown := self.names[columns] != names).any():
            raise ValueError(f"note {names[unknown][0]} is not among the resampled ones")
        return self.weights[:, columns]

    def group_counts(self) -> dict[str, int]:
        """Return the number of physical instruments of each label."""
        return {
            str(label): np.unique(self.groups[self.labels == label]).size
            for label in np.unique(self.labels)
        }


def resample(
    tables: Sequence[Any],
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    for_sums: bool = False,
) -> Resamples:
    """Draw bootstrap weights for all notes of `tables`.

    Within each label (family): as many groups (physical instruments) as there are, with
    replacement; then from each drawn group as many notes as it has, with replacement. So every
    family keeps its number of groups, and a group drawn twice draws its notes twice.

    That loses one part in n of the variance between the n groups of a label, all of it where there
    is one. `for_sums`, for sums over notes of many labels: n - 1 groups are drawn, each counted
    n / (n - 1) times, and the groups of all labels with a single one are drawn together, as if
    they were of one label. Pairs need the first way: n - 1 = 1 group has no pairs between groups.

    Args:
      tables: anything with arrays `names`, `labels` and `groups` of one length; a note that occurs
        in several tables is one note.
      rng: source of randomness.
      resamples: number of resamples, R - 1.
      for_sums: see above; a label with a single group may be missing from a resample.

    Raises:
      ValueError: if there is no table, a name has two labels or two groups, or `resamples` is not
        positive.

    Cost: O(R N) time and memory.
    References: Davison and Hinkley, Bootstrap methods and their application, 1997, section 3.8; Rao
      and Wu, Resampling inference with complex survey data, 1988.
    """
    if not tables or resamples < 1:
        raise ValueError(f"needs tables and resamples, got {len(tables)} and {resamples}")
    names, labels, groups = _catalogue(tables)
    strata = [
        [
            np.flatnonzero((labels == label) & (groups == group))
            for group in np.unique(groups[labels == label])
        ]
        for label in np.unique(labels)
    ]
    if for_sums:
        single = [members[0] for members in strata if len(members) == 1]
        strata = [members for members in strata if len(members) > 1] + [single] * bool(single)
    weights = np.ones((resamples + 1, len(names)), np.float32 if for_sums else np.int32)
    for members in strata:
        n = len(members)
        draws = max(n - 1, 1) if for_sums else n
        drawn = rng.multinomial(draws, [1 / n] * n, size=resamples)
        for notes, times in zip(members, drawn.T, strict=True):
            share = [1 / len(notes)] * len(notes)
            copies = rng.multinomial(times * len(notes), share)
            weights[1:, notes] = copies * (n / draws) if for_sums else copies
    return Resamples(names, labels, groups, weights)


def interval(
    draws: Float[np.ndarray, " R"], confidence: float = 0.95
) -> tuple[float | None, float | None]:
    """Return the percentile interval of bootstrap draws, (None, None) if no draw is a number.

    Args:
      draws: the statistic of each resample; NaN (a resample without a single pair) is left out.
      confidence: probability with which the interval is meant to cover, in (0, 1).

    Raises:
      ValueError: if `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    known = draws[~np.isnan(draws)]
    if not known.size:
        return None, None
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = np.quantile(known, tails, method="inverted_cdf")  # a draw, even if infinite
    return float(low), float(high)


def _catalogue(tables):
    """Return names, labels and groups of the tables' distinct notes, sorted by name."""
    names, labels, groups = (
        np.concatenate([np.asarray(getattr(table, field)) for table in tables])
        for field in ("names", "labels", "groups")
    )
    distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    for what, column in {"label": labels, "group": groups}.items():
        if (clash := column != column[first][inverse]).any():
            raise ValueError(f"note {names[clash][0]} has more than one {what}")
    return distinct, labels[first], groups[first]
