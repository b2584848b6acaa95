"""t-SNE of the mean MFCC vectors: Section 4.4 of Senatori and Nardone (2025)."""

import numpy as np
from jaxtyping import Float
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

PERPLEXITY = 30.0


def tsne(vectors: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N 2"]:
    """Place vectors in the plane so that neighbours stay neighbours (Barnes-Hut t-SNE).

    Distances between clusters and their sizes mean nothing; who is next to whom does. Perplexity
    30, or a third of the other vectors where there are fewer than 91; started from the principal
    components: the same vectors give the same map.

    Args:
      vectors: One row per note, at least four.

    Raises:
      ValueError: fewer than four vectors.

    Cost: about 2 s for 1000 vectors on one core, growing as N log N.
    References: van der Maaten, Accelerating t-SNE using tree-based algorithms, JMLR 15, 2014.
    """
    if len(vectors) < 4:
        raise ValueError(f"t-SNE needs four vectors, not {len(vectors)}")
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    # Its threads meet at every one of 1000 iterations: on shared cores they wait for each other
    # (60 s instead of 0.1 s for a dozen vectors), and alone they save no time below some thousands.
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, random_state=0).fit_transform(vectors)
