"""The contracts between the rooms, and the letters used for array dimensions.

B batch, N heatmaps compared, T frames, F bins, S path points, K classes, C channels, P pairs,
R references (baselines) or resamples. Arrays are time-major: an image and a heatmap are [T, F].
"""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Literal, NamedTuple

from jaxtyping import Array, Bool, Float, Int

AxisKind = Literal["linear", "circular", "categorical"]


class Axis(NamedTuple):
    """One axis of an image: how far apart its bins are, and where to draw them."""

    kind: AxisKind = "linear"
    positions: tuple[float, ...] | tuple[str, ...] = ()  # one per bin, in `unit`; empty: the index
    unit: str = "bins"


class Note(NamedTuple):
    """One sound of a data set, without its samples (see `Dataset.load`)."""

    name: str  # unique within the data set
    label: str  # the class: a family or an instrument
    group: str  # the physical instrument or recording; no group is on both sides of a split
    split: str  # train, valid or test
    source: str  # what `Dataset.load` needs: a path, or what to render
    digest: str  # changes whenever its sound may have changed; names it in caches


class Dataset(NamedTuple):
    """Notes and the function that reads one; `load` pickles, so that processes can share it."""

    name: str
    notes: tuple[Note, ...]
    load: Callable[[Note], Any]  # note -> waveform float32 [samples], mono, at `sample_rate`
    sample_rate: int  # Hz
    digest: str  # changes whenever any note may have changed


class Spectrogram(NamedTuple):
    """A front end: waveforms to images, any number at once."""

    steps: tuple[Callable[[Any], Any], ...]  # of `apply`, in order; equal steps do the same
    shape: tuple[int, int]  # (T, F)
    axes: tuple[Axis, Axis]  # time, frequency
    digest: str  # changes whenever the images do; names them in caches

    def apply(self, waveforms):
        """Turn waveforms [..., samples] into images float32 [..., T, F]."""
        return reduce(lambda x, step: step(x), self.steps, waveforms)


class Prediction(NamedTuple):
    """What a model says of a batch, with everything it computed on the way."""

    logits: Float[Array, "B K"]
    taps: Mapping[str, Float[Array, "B ..."]]  # named intermediate maps, in order of depth
    state: Any  # running statistics after this batch (as before it, in inference)


class Layer(NamedTuple):
    """One line of a network's summary."""

    name: str
    shape: tuple[int, ...]  # of its output for one image
    parameters: int  # that training changes


class Model(NamedTuple):
    """An architecture as pure functions of its variables."""

    init: Callable[..., Any]  # key -> variables: {"params": ..., running statistics, if any}
    apply: Callable[..., Prediction]  # variables, images [B, T, F], *, key=None (None: inference)
    n_outputs: int  # logits per image
    prefix: Callable[..., Any] | None = None  # variables, images, tap=None -> that tap's maps
    rest: Callable[..., Any] | None = None  # variables, those maps, tap=None -> logits
    # tap None: the affine first layer
    summary: Callable[[], tuple[Layer, ...]] | None = None  # from the image down


Score = Callable[..., Float[Array, ""]]  # image [T, F] -> scalar


class Split(NamedTuple):
    """A score cut in two: score(image) = rest(prefix(image)), both functions of one example."""

    prefix: Callable[..., Any]
    rest: Callable[..., Float[Array, ""]]

    def __call__(self, image):
        """Return the score of an image."""
        return self.rest(self.prefix(image))


class Attribution(NamedTuple):
    """Heatmaps and how far to trust them, one row per input."""

    values: Float[Array, "B T F"]
    residual: Float[Array, " B"]  # sum(values) - (score(input) - score(baseline))
    steps: Int[Array, " B"]  # path points spent on this map
    converged: Bool[Array, " B"]  # |residual| within the tolerance


class Transport(NamedTuple):
    """An earth mover's distance with a rigorous interval around the exact one.

    Fields are scalars for one pair and [N, M] for all pairs.
    """

    cost: Float[Array, "*pairs"]  # of a feasible plan (sinkhorn) or the interval's middle (flow)
    lower: Float[Array, "*pairs"]
    upper: Float[Array, "*pairs"]
    converged: Bool[Array, "*pairs"]  # (upper - lower) within the relative tolerance
    iterations: Int[Array, "*pairs"]
    marginal_error: Float[Array, "*pairs"]  # of the unrounded plan or flow, total variation
