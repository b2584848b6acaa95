"""The figures of Senatori and Nardone (2025) that show sounds and where a network listens."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from instrument_ig.figures.images import colour_limit, draw_image, draw_overlay
from instrument_ig.figures.sheet import grid, sheet, styled
from instrument_ig.types import Axis

Axes2 = tuple[Axis, Axis]


@styled
def waveforms(names: Sequence[str], sounds: Float[np.ndarray, "K N"], sample_rate: int) -> Figure:
    """Draw Figure 2: one waveform per class, amplitude over seconds."""
    figure, panels = grid(len(names), 5, width=2.4, height=1.1, sharex=True, sharey=True)
    for panel, name, sound in zip(panels.flat, names, sounds, strict=False):
        panel.plot(np.arange(len(sound)) / sample_rate, sound, linewidth=0.3, color="C0")
        panel.set_title(name, fontsize="small")
        panel.set_ylim(-1, 1)
    figure.supxlabel("time (s)")
    figure.supylabel("amplitude")
    return figure


@styled
def spectrograms(
    names: Sequence[str], images: Float[np.ndarray, "K T F"], axes: Axes2, unit: str
) -> Figure:
    """Draw Figure 3: one spectrogram per class, all on one colour scale."""
    figure, panels = grid(len(names), 5, width=2.4, height=1.7, sharex=True, sharey=True)
    for panel, name, image in zip(panels.flat, names, images, strict=False):
        drawn = draw_image(panel, image, axes, vmin=images.min(), vmax=images.max(), cmap="magma")
        panel.set_title(name, fontsize="small")
        panel.label_outer()
    figure.colorbar(drawn, ax=panels, label=unit, shrink=0.5)
    return figure


@styled
def grad_cam_steps(
    title: str,
    spectrogram: Float[np.ndarray, "T F"],
    features: Float[np.ndarray, "t f C"],
    weights: Float[np.ndarray, " C"],
    grad_cam: Float[np.ndarray, "T F"],
    integrated_gradients: Float[np.ndarray, "T F"],
    axes: Axes2,
) -> Figure:
    """Draw Figure 9: the steps of Grad-CAM for one sound, and integrated gradients beside them.

    Args:
      title: The sound, its class and what the network says.
      spectrogram: The sound's image.
      features: Activations of the last convolution.
      weights: Of each feature map: the mean of the class probability's gradient over it.
      grad_cam: The weighted sum of the maps, rectified and resized to the image.
      integrated_gradients: Of the same class.
      axes: Time and frequency of the image.
    """
    figure, panels = sheet(2, 3, width=3.6, height=2.7)
    draw_image(panels[0, 0], spectrogram, axes, cmap="magma")
    panels[0, 0].set_title("1. standardised spectrogram")
    # The one that adds most to the sum: the heaviest may be empty.
    most = int((weights * features.mean((0, 1))).argmax())
    draw_image(panels[0, 1], features[:, :, most], axes, cmap="magma")
    panels[0, 1].set_title(f"2. feature map {most + 1}, weight {weights[most]:.2g}")
    weighted = np.maximum(features @ weights, 0)
    draw_image(panels[0, 2], to_maximum(weighted), axes, cmap="magma", vmin=0, vmax=1)
    panels[0, 2].set_title("3. weighted sum, ReLU, maximum 1")
    resized = to_maximum(grad_cam)
    drawn = draw_image(panels[1, 0], resized, axes, cmap="magma", vmin=0, vmax=1)
    panels[1, 0].set_title("4. resized: Grad-CAM")
    figure.colorbar(drawn, ax=panels[1, 0])
    draw_overlay(panels[1, 1], spectrogram, resized, axes, 1.0)
    panels[1, 1].set_title("5. over the spectrogram")
    limit = colour_limit(integrated_gradients)
    drawn = draw_overlay(panels[1, 2], spectrogram, integrated_gradients, axes, limit)
    panels[1, 2].set_title("integrated gradients")
    figure.colorbar(drawn, ax=panels[1, 2])
    figure.suptitle(title)
    return figure


@styled
def prediction(
    title: str,
    spectrogram: Float[np.ndarray, "T F"],
    heatmaps: Mapping[str, Float[np.ndarray, "T F"]],
    axes: Axes2,
    times_s: Float[np.ndarray, " W"],
    course: Mapping[str, Float[np.ndarray, " W"]],
) -> Figure:
    """Draw what a classifier says of a sound, where it listened, and how its answer went on.

    Args:
      title: The sound and the answer.
      spectrogram: The image of the window that was explained.
      heatmaps: Method -> heatmap of the predicted class in that window; two.
      axes: Time (of the sound) and frequency of the window.
      times_s: Middles of all windows, seconds.
      course: Class -> its probability in every window; NaN (a gap) where the sound is silent.
    """
    figure, panels = sheet(2, 2, width=4.6, height=2.7)
    drawn = draw_image(panels[0, 0], spectrogram, axes, cmap="magma")
    figure.colorbar(drawn, ax=panels[0, 0])
    panels[0, 0].set_title("standardised spectrogram")
    for panel, (name, heatmap) in zip((panels[0, 1], panels[1, 0]), heatmaps.items(), strict=True):
        drawn = draw_overlay(panel, spectrogram, heatmap, axes, colour_limit(heatmap))
        bar = figure.colorbar(drawn, ax=panel)
        if heatmap.min() >= 0:  # Grad-CAM
            bar.ax.set_ylim(bottom=0)
        panel.set_title(name)
    if len(times_s) > 1:
        _draw_course(panels[1, 1], times_s, course)
    else:
        _draw_bars(panels[1, 1], {name: values[0] for name, values in course.items()})
    figure.suptitle(title)
    return figure


def _draw_course(panel, times_s, course):
    marker = "o" if len(times_s) < 50 else ""
    for name, probabilities in course.items():
        panel.plot(times_s, probabilities, label=name, marker=marker, markersize=3)
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("middle of the window (s)")
    panel.set_ylabel("probability")
    panel.legend(ncols=3, fontsize="x-small", loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _draw_bars(panel, probabilities):
    panel.barh(list(probabilities), list(probabilities.values()))
    panel.invert_yaxis()
    panel.set_xlim(0, 1)
    panel.set_xlabel("probability")


def to_maximum(heatmap: np.ndarray) -> np.ndarray:
    """Scale a heatmap so that its maximum is 1; one without positive values stays as it is."""
    return heatmap / heatmap.max() if heatmap.max() > 0 else heatmap
