"""Write golden.npz: a small network's weights, inputs, and what Captum says of them.

    pip install "instrument-ig[bench]" && python tests/attribution/write_golden.py

Run again only when Captum is found to have been wrong; the file names the versions that wrote it.
"""

from pathlib import Path

import captum
import numpy as np
import torch
from captum.attr import (
    InputXGradient,
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    LayerIntegratedGradients,
    Saliency,
)

T, F, TARGET = 12, 10, 1
RULES = {"left": "riemann_left", "right": "riemann_right", "midpoint": "riemann_middle"}
RULES |= {"gauss_legendre": "gausslegendre"}


class Network(torch.nn.Module):
    """Two blocks of convolution, ReLU and max-pooling, then three logits."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.second = torch.nn.Conv2d(4, 6, 3, padding=1)
        self.relu = torch.nn.ReLU()
        self.dense = torch.nn.Linear(6 * (T // 4) * (F // 4), 3)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.first(x)), 2)
        x = torch.max_pool2d(self.relu(self.second(x)), 2)
        return self.dense(x.flatten(1))


def main():
    torch.manual_seed(0)
    network = Network().eval()
    inputs = torch.randn(3, 1, T, F)
    baselines = torch.randn(3, 1, T, F) * 0.3
    arrays = {name: value.detach() for name, value in network.named_parameters()}
    arrays |= {"inputs": inputs, "baselines": baselines}
    call = {"baselines": baselines, "target": TARGET, "n_steps": 12}
    for rule, method in RULES.items():
        arrays[f"ig_{rule}"] = IntegratedGradients(network).attribute(inputs, method=method, **call)
    layer = LayerIntegratedGradients(network, network.relu)
    arrays["layer_ig"] = layer.attribute(inputs, method="gausslegendre", **call)
    cam = LayerGradCam(network, network.relu)
    maps = cam.attribute(inputs, target=TARGET, relu_attributions=True)
    arrays["grad_cam"] = LayerAttribution.interpolate(maps, (T, F), "bilinear")
    arrays["signed_grad_cam"] = LayerAttribution.interpolate(
        cam.attribute(inputs, target=TARGET), (T, F), "bilinear"
    )
    arrays["saliency"] = Saliency(network).attribute(inputs, target=TARGET)
    arrays["input_x_gradient"] = InputXGradient(network).attribute(inputs, target=TARGET)
    arrays = {name: value.detach().numpy() for name, value in arrays.items()}
    versions = f"captum {captum.__version__}, torch {torch.__version__}"
    np.savez_compressed(Path(__file__).with_name("golden.npz"), versions=versions, **arrays)


if __name__ == "__main__":
    main()
