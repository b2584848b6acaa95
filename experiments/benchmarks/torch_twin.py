"""The networks of the study in PyTorch, with our weights: what Captum explains in comparisons."""

from typing import Any

import jax
import numpy as np
import torch


def chen(variables: Any, shape: tuple[int, int]) -> torch.nn.Sequential:
    """Build the network of Chen et al. (2024) for images [B, 1, T, F] in inference mode.

    Args:
      variables: of our network of the same name.
      shape: frames and bins of the images.
    """
    nn = torch.nn
    params = jax.device_get(variables["params"])
    layers = []
    for place in range(6):
        layers += [_convolution(params[f"conv2d_{place}"]), nn.ReLU()]
        if place % 2:
            layers += [nn.MaxPool2d([min(2, size) for size in shape])]
            shape = tuple(size // min(2, size) for size in shape)
    # Our maps are flattened [t, f, C], PyTorch's [C, t, f].
    first = params["dense_0"]
    kernel = first["kernel"].reshape(*shape, -1, first["kernel"].shape[1]).transpose(2, 0, 1, 3)
    first = first | {"kernel": kernel.reshape(first["kernel"].shape)}
    layers += [nn.Flatten(), _dense(first), nn.ReLU(), _dense(params["dense_1"])]
    return nn.Sequential(*layers).eval()


def _convolution(params):
    kernel = params["kernel"].transpose(3, 2, 0, 1)
    layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:], padding="same")
    return _filled(layer, kernel, params["bias"])


def _dense(params):
    kernel = params["kernel"].T
    return _filled(torch.nn.Linear(*kernel.shape[::-1]), kernel, params["bias"])


def _filled(layer, kernel, bias):
    layer.weight.data = torch.tensor(np.ascontiguousarray(kernel))
    layer.bias.data = torch.tensor(bias)
    return layer
