"""Captum's answers, from the same weights (write_golden.py)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from instrument_ig.attribution import grad_cam, input_x_gradient, integrated_gradients, saliency
from instrument_ig.types import Split

TARGET = 1
# Two frameworks' float32 convolutions of at most 36 terms, averaged over 12 points: about ten
# roundings of the largest value.
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(Path(__file__).with_name("golden.npz")))


def convolve(x, kernel, bias):
    kernel = jnp.transpose(kernel, (2, 3, 1, 0))
    dimensions = ("NHWC", "HWIO", "NHWC")
    out = lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=dimensions)
    return out[0] + bias.reshape(1, 1, -1)


def pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID")


@pytest.fixture(scope="module")
def split(golden):
    """The network cut behind its second convolution, where Captum looks."""

    def prefix(image):
        x = convolve(image[..., None], golden["first.weight"], golden["first.bias"])
        x = convolve(pool(jax.nn.relu(x)), golden["second.weight"], golden["second.bias"])
        return jax.nn.relu(x)

    def rest(maps):
        flat = jnp.transpose(pool(maps), (2, 0, 1)).reshape(-1)
        return jnp.dot(golden["dense.weight"][TARGET], flat) + golden["dense.bias"][TARGET]

    return Split(prefix, rest)


@pytest.fixture(scope="module")
def images(golden):
    return golden["inputs"][:, 0], golden["baselines"][:, 0]


@pytest.mark.parametrize("rule", ["left", "right", "midpoint", "gauss_legendre"])
def test_integrated_gradients(golden, split, images, rule):
    score = lambda image: split.rest(split.prefix(image))
    found = integrated_gradients(score, *images, steps=12, rule=rule)
    np.testing.assert_allclose(found.values, golden[f"ig_{rule}"][:, 0], **CLOSE)


def test_layer_integrated_gradients(golden, split, images):
    found = integrated_gradients(split, *images, at="tap", steps=12)
    np.testing.assert_allclose(np.moveaxis(found.values, -1, 1), golden["layer_ig"], **CLOSE)


@pytest.mark.parametrize(("relu", "name"), [(True, "grad_cam"), (False, "signed_grad_cam")])
def test_grad_cam(golden, split, images, relu, name):
    found = grad_cam(split, images[0], relu=relu)
    np.testing.assert_allclose(found.values, golden[name][:, 0], **CLOSE)


def test_saliency(golden, split, images):
    np.testing.assert_allclose(saliency(split, images[0]).values, golden["saliency"][:, 0], **CLOSE)


def test_input_x_gradient(golden, split, images):
    found = input_x_gradient(split, images[0], np.zeros_like(images[0][0]))
    np.testing.assert_allclose(found.values, golden["input_x_gradient"][:, 0], **CLOSE)
