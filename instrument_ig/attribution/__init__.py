"""Score and image to heatmap: integrated gradients and its relatives."""

from instrument_ig.attribution.grad_cam import grad_cam
from instrument_ig.attribution.integrated_gradients import integrated_gradients

__all__ = ["grad_cam", "integrated_gradients"]
