"""Score and image to heatmap: integrated gradients and its relatives, and checks of their maps.

Every entry of `ATTRIBUTIONS` is called alike, method(score, inputs, baselines, key=key), and
returns an `Attribution` of the inputs' shape. What a method has no use for it ignores. `score` is a
function of one image or a `Split`; the class activation maps in `AT_A_TAP` need a `Split` at the
tap that they look at, the others see the whole of a `Split` (integrated gradients need its prefix
to be affine). A method that does not share out the score difference says so in every map: residual
NaN, converged False.
"""

from instrument_ig.attribution.grad_cam import grad_cam
from instrument_ig.attribution.grad_cam_plus_plus import grad_cam_plus_plus
from instrument_ig.attribution.input_x_gradient import input_x_gradient
from instrument_ig.attribution.integrated_grad_cam import integrated_grad_cam
from instrument_ig.attribution.integrated_gradients import integrated_gradients
from instrument_ig.attribution.quadrature import RULES
from instrument_ig.attribution.saliency import saliency
from instrument_ig.attribution.smooth_grad import smooth_grad

ATTRIBUTIONS = {
    "integrated_gradients": integrated_gradients,
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "integrated_grad_cam": integrated_grad_cam,
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "smooth_grad": smooth_grad,
}
AT_A_TAP = frozenset({"grad_cam", "grad_cam_plus_plus", "integrated_grad_cam"})

__all__ = [
    "ATTRIBUTIONS",
    "AT_A_TAP",
    "RULES",
    "grad_cam",
    "grad_cam_plus_plus",
    "input_x_gradient",
    "integrated_grad_cam",
    "integrated_gradients",
    "saliency",
    "smooth_grad",
]
