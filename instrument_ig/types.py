"""The contracts between the rooms, and the letters used for array dimensions.

B batch, N heatmaps compared, T frames, F bins, S path points, K classes, C channels, P pairs,
R references (baselines) or resamples. Arrays are time-major: an image and a heatmap are [T, F].
"""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

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
    taps: Mapping[str, Float[Array, "B ..."]]  # named maps, in order of depth, also after jit
    state: Any  # running statistics after this batch (as before it, in inference)


class Layer(NamedTuple):
    """One line of a network's summary."""

    name: str
    shape: tuple[int, ...]  # of its output for one image
    parameters: int  # that training changes


@runtime_checkable
class Model(Protocol):
    """An architecture as pure functions of its variables.

    It is a hashable value: models of one architecture are equal and share compiled programs.
    """

    n_outputs: int  # logits per image
    taps: tuple[str, ...]  # names of the feature maps, in order of depth

    def init(self, key: Any) -> Any:
        """Draw variables: {"params": {layer: ...}}, and running statistics likewise, if any."""

    def apply(
        self, variables: Any, images: Any, *, key: Any = None, mask: Any = None
    ) -> Prediction:
        """Predict images [B, T, F]; as in training where there is a key.

        Examples outside `mask` [B], booleans, do not count in the statistics of a batch; None: all
        of them do. Inference does not read it.
        """

    def prefix(self, variables: Any, images: Any, tap: str) -> Any:
        """Return the maps [B, ...] at a tap."""

    def rest(self, variables: Any, maps: Any, tap: str) -> Float[Array, "B K"]:
        """Return the logits of such maps."""

    def summary(self) -> tuple[Layer, ...]:
        """List the layers from the image down; those with parameters are named as in variables."""


Score = Callable[..., Float[Array, ""]]  # image [T, F] -> scalar


class Split(NamedTuple):
    """A score cut in two, both functions of one example; called, it is the score."""

    prefix: Callable[..., Any]
    rest: Callable[..., Float[Array, ""]]

    def __call__(self, image: Any) -> Float[Array, ""]:
        """Return rest(prefix(image))."""
        return self.rest(self.prefix(image))


class Attribution(NamedTuple):
    """Heatmaps and how far to trust them, one row per input."""

    values: Float[Array, "B ..."]  # as the inputs, or as the maps of a tap
    residual: Float[Array, " B"]  # sum(values) - (score(input) - score(baseline))
    steps: Int[Array, " B"]  # path points spent on this map
    # |residual| within the tolerance and, where points were chosen by it, so is the root of the sum
    # of the gaps' squared residuals: a sum can be small because errors happen to cancel
    converged: Bool[Array, " B"]


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
