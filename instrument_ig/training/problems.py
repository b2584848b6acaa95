"""One instrument against the others: which notes a binary model learns from and is tested on."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int


def one_against_others(
    labels: Sequence[str] | np.ndarray, label: str, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " M"], Bool[np.ndarray, " M"]]:
    """Choose all notes of a label and as many others, drawn equally from the other labels.

    Labels with fewer notes than their share give all they have, and the rest share the difference;
    when all others together are fewer than the positives, all of them are taken. Precision depends
    on this balance: chance is one half.

    Returns:
      Indices into `labels`, in their order, and which of them are positive.
    """
    labels = np.asarray(labels, str)
    positives = np.flatnonzero(labels == label)
    others = [
        rng.permutation(np.flatnonzero(labels == name)) for name in sorted({*labels} - {label})
    ]
    wanted = len(positives)
    negatives: list[int] = []
    rounds = max(map(len, others), default=0)
    # One from each label in turn; each round visits the labels in another order.
    for turn in range(rounds):
        for place in rng.permutation(len(others)):
            if len(negatives) < wanted and turn < len(others[place]):
                negatives.append(int(others[place][turn]))
    chosen = np.sort(np.concatenate([positives, np.array(negatives, dtype=positives.dtype)]))
    return chosen, labels[chosen] == label


def spread_over_groups(
    groups: Sequence[str] | np.ndarray, count: int, rng: np.random.Generator
) -> Int[np.ndarray, " M"]:
    """Return the sorted indices of up to `count` notes, as equally as possible from all groups."""
    groups = np.asarray(groups, str)
    queues = [list(rng.permutation(np.flatnonzero(groups == name))) for name in sorted({*groups})]
    chosen: list[int] = []
    while len(chosen) < min(count, len(groups)):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(int(queue.pop()))
    return np.sort(np.array(chosen, dtype=np.intp))
