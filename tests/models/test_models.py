from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.models import MODELS, correlate, layers, score, split
from instrument_ig.types import Model

OUTPUTS = {"chen": 1, "senatori": 5}
SHAPES = [(126, bins) for bins in (1025, 128, 40, 12, 7, 6)] + [(94, 128), (94, 40)]


@pytest.fixture(scope="module", params=MODELS)
def small(request):
    return make_small(request.param)


def make_small(name):
    """A model on images 16 x 12, its variables and three images."""
    key = jax.random.key(0)
    model = MODELS[name]((16, 12), OUTPUTS[name])
    variables = jax.jit(model.init)(key)
    # Running statistics as training leaves them: not 0 and 1.
    spread = lambda a: a + jax.random.uniform(key, a.shape)
    state = jax.tree.map(spread, {k: v for k, v in variables.items() if k != "params"})
    return model, {**variables, **state}, jax.random.normal(key, (3, 16, 12))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_logits_and_named_maps(name, shape, key):
    model = MODELS[name](shape, OUTPUTS[name])
    prediction = jax.eval_shape(
        lambda key, images: model.apply(model.init(key), images),
        key,
        jax.ShapeDtypeStruct((2, *shape), jnp.float32),
    )
    assert prediction.logits.shape == (2, OUTPUTS[name])
    convolutions = {"chen": 2, "senatori": 1}[name]
    frames, bins, expected = *shape, {}
    for block, channels in enumerate((32, 64, 128)):
        for layer in range(convolutions):
            expected[f"conv2d_{block * convolutions + layer}"] = (2, frames, bins, channels)
        frames, bins = (max(size // 2, 1) for size in (frames, bins))
    assert {tap: maps.shape for tap, maps in prediction.taps.items()} == expected
    assert list(prediction.taps) == list(model.taps) == list(expected)  # in order of depth


def test_equal_models_are_one_key_and_others_are_not():
    kinds = [
        MODELS[name](shape, outputs)
        for name in MODELS
        for shape in ((16, 12), (12, 16))
        for outputs in (1, 2)
    ]
    again = [type(model)(model.stages, model.shape, model.n_outputs) for model in kinds]
    assert [*map(hash, kinds)] == [*map(hash, again)]
    assert kinds == again
    assert len({*kinds, *again}) == len(kinds)
    other = MODELS["chen"]((16, 12), 1, correlate=lambda maps, kernels: correlate(maps, kernels))
    assert other != kinds[0]
    assert layers.Flatten() != layers.Average()  # stages without fields, of different kinds
    assert all(isinstance(model, Model) for model in kinds)


def test_taps_keep_their_order_through_jit(key):
    stages = layers.Relu("z"), layers.Relu("a"), layers.Flatten(), layers.Dense(1, "dense_0")
    model = layers.Network(stages, (4, 3), 1)
    found = jax.jit(model.apply)(model.init(key), jnp.ones((1, 4, 3)))
    assert list(found.taps) == list(model.taps) == ["z", "a"]


@pytest.mark.parametrize("name", MODELS)
def test_the_convolution_is_the_caller_s(name, key):
    plain, images = MODELS[name]((16, 12), 2), jax.random.normal(key, (2, 16, 12))
    doubled = MODELS[name](
        (16, 12), 2, correlate=lambda maps, kernels: 2 * correlate(maps, kernels)
    )
    variables = plain.init(key)
    double = lambda path, leaf: 2 * leaf if "conv" in str(path) and leaf.ndim == 4 else leaf
    expected = plain.apply(jax.tree_util.tree_map_with_path(double, variables), images)
    # Twice a sum and the sum of doubled products are the same numbers of float32.
    np.testing.assert_array_equal(doubled.apply(variables, images).logits, expected.logits)


def test_feature_maps_have_the_sizes_of_the_paper(key):
    model = MODELS["chen"]((126, 1025), 1)
    images = jax.ShapeDtypeStruct((1, 126, 1025), jnp.float32)
    taps = jax.eval_shape(lambda images: model.apply(model.init(key), images).taps, images)
    assert taps["conv2d_3"].shape == (1, 63, 512, 64)
    assert taps["conv2d_5"].shape == (1, 31, 256, 128)


def chen_by_hand(params, images):
    """The network of the paper in linen's plain layers."""
    x = images[..., None]
    for layer in range(6):
        x = nn.relu(
            nn.Conv(params[f"conv2d_{layer}"]["bias"].size, (3, 3)).apply(
                {"params": params[f"conv2d_{layer}"]}, x
            )
        )
        x = nn.max_pool(x, (2, 2), (2, 2)) if layer % 2 else x
    x = nn.relu(
        x.reshape(len(x), -1) @ params["dense_0"]["kernel"] + params["dense_0"]["bias"][None]
    )
    return x @ params["dense_1"]["kernel"] + params["dense_1"]["bias"][None]


def senatori_by_hand(variables, images):
    params, stats = variables["params"], variables["batch_stats"]
    x = images[..., None]
    for layer in range(3):
        x = nn.relu(nn.Conv(32 * 2**layer, (3, 3)).apply({"params": params[f"conv2d_{layer}"]}, x))
        norm, seen = params[f"batch_norm_{layer}"], stats[f"batch_norm_{layer}"]
        row = lambda a: a[None, None, None]
        x = (x - row(seen["mean"])) / jnp.sqrt(row(seen["var"]) + 1e-3)
        x = nn.max_pool(x * row(norm["scale"]) + row(norm["bias"]), (2, 2), (2, 2))
    x = x.mean((1, 2))
    x = nn.relu(x @ params["dense_0"]["kernel"] + params["dense_0"]["bias"][None])
    return x @ params["dense_1"]["kernel"] + params["dense_1"]["bias"][None]


def test_inference_is_the_paper_s_network_in_plain_layers(small):
    model, variables, images = small
    by_hand = (
        chen_by_hand(variables["params"], images)
        if model.n_outputs == 1
        else senatori_by_hand(variables, images)
    )
    # Sums of up to 1152 products in float32, in another order.
    np.testing.assert_allclose(model.apply(variables, images).logits, by_hand, rtol=1e-4, atol=1e-5)


def test_rest_of_prefix_is_the_model_bit_for_bit(small):
    model, variables, images = small
    prediction = model.apply(variables, images)
    for tap, expected in prediction.taps.items():
        maps = model.prefix(variables, images, tap)
        np.testing.assert_array_equal(model.rest(variables, maps, tap), prediction.logits)
        np.testing.assert_array_equal(maps, expected)


def test_an_example_never_depends_on_another(small):
    model, variables, images = small
    apply = jax.jit(lambda images: model.apply(variables, images).logits)
    # Another batch size is another order of additions.
    alone = jnp.concatenate([apply(image[None]) for image in images])
    np.testing.assert_allclose(apply(images), alone, rtol=1e-4, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda images: apply(images)[1].sum()))(images)
    assert not gradient[0].any()
    assert not gradient[2].any()
    assert (gradient[1] != 0).mean() > 0.5


def test_every_parameter_gets_gradient(small, key):
    model, variables, images = small
    loss = lambda params: (
        model.apply({**variables, "params": params}, images, key=key).logits ** 2
    ).sum()
    gradient = jax.jit(jax.grad(loss))(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert (leaf != 0).any(), path


def test_dropout_needs_a_key_and_follows_it(small, key):
    model, variables, images = small
    apply = jax.jit(lambda key: model.apply(variables, images, key=key).logits)
    np.testing.assert_array_equal(apply(key), apply(key))
    assert (apply(key) != apply(jax.random.key(1))).all()
    np.testing.assert_array_equal(apply(None), apply(None))


def test_batch_norm_in_training_by_hand(key):
    model, variables, images = make_small("senatori")
    there = jnp.array([True, False, True])
    prediction = jax.jit(model.apply)(variables, images, key=key, mask=there)
    seen = prediction.taps["conv2d_0"][there]
    before, after = (
        variables["batch_stats"]["batch_norm_0"],
        prediction.state["batch_stats"]["batch_norm_0"],
    )
    # Means of 384 numbers of order 1.
    near = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(
        after["mean"], 0.9 * before["mean"] + 0.1 * seen.mean((0, 1, 2)), **near
    )
    np.testing.assert_allclose(
        after["var"], 0.9 * before["var"] + 0.1 * seen.var((0, 1, 2)), **near
    )
    normalised = (seen - seen.mean((0, 1, 2), keepdims=True)) / jnp.sqrt(
        seen.var((0, 1, 2), keepdims=True) + 1e-3
    )
    pooled = nn.max_pool(normalised, (2, 2), (2, 2))
    kernel = variables["params"]["conv2d_1"]
    following = nn.relu(nn.Conv(64, (3, 3)).apply({"params": kernel}, pooled))
    # Sums of 288 products of order 1.
    np.testing.assert_allclose(prediction.taps["conv2d_1"][there], following, rtol=1e-3, atol=1e-4)


def test_scores_are_logits_and_probabilities_of_one_image(small):
    model, variables, images = small
    logits = model.apply(variables, images).logits[1]
    k = model.n_outputs - 1
    probability = (
        1 / (1 + np.exp(-logits[0]))
        if model.n_outputs == 1
        else np.exp(logits[k]) / np.exp(logits).sum()
    )
    # Batches of one and of three add up in another order.
    near = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(score(model, variables, k)(images[1]), logits[k], **near)
    np.testing.assert_allclose(
        score(model, variables, k, "probability")(images[1]), probability, **near
    )
    for tap in ("conv2d_0", "conv2d_2"):
        halves = split(model, variables, k, "probability", tap=tap)
        np.testing.assert_allclose(halves.rest(halves.prefix(images[1])), probability, **near)
        np.testing.assert_array_equal(halves(images[1]), halves.rest(halves.prefix(images[1])))


@pytest.mark.parametrize("make", [score, partial(split, tap="conv2d_0")])
def test_scores_of_one_architecture_are_traced_once_and_share_programs(make, key):
    traces = []

    def counting(maps, kernels):
        traces.append(maps.shape)
        return correlate(maps, kernels)

    images = jax.random.normal(key, (2, 16, 12))
    gradient = jax.jit(lambda score, images: jax.vmap(jax.grad(score))(images))
    for seed in range(2):
        for index in range(2):
            model = MODELS["senatori"]((16, 12), 2, counting)
            variables = jax.device_get(MODELS["senatori"]((16, 12), 2).init(jax.random.key(seed)))
            explained = make(model, variables, index)
            assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(explained))
            found = gradient(explained, images)
            by_hand = jax.grad(partial(logit, variables, index))
            expected = jax.vmap(by_hand)(images)
            # Sums of up to 1152 products in float32, in another order.
            near = {"rtol": 1e-3, "atol": 1e-4 * float(abs(expected).max())}
            np.testing.assert_allclose(found, expected, **near)
            jax.make_jaxpr(lambda x, explained=explained: explained(x))(images[0])
    assert gradient._cache_size() == 1
    assert len(traces) == 3  # convolutions


def logit(variables, index, image):
    return senatori_by_hand(variables, image[None])[0, index]


@pytest.mark.parametrize("make", [score, partial(split, tap="conv2d_0")])
def test_bad_scores_are_refused(make, small):
    model, variables, images = small
    for index in (-1, model.n_outputs):
        with pytest.raises(
            ValueError, match=f"class_index={index}: the model has {model.n_outputs} outputs"
        ):
            make(model, variables, index)
    with pytest.raises(ValueError, match="no tap 'conv2d_9'; there are conv2d_0, conv2d_1"):
        split(model, variables, tap="conv2d_9").prefix(images[0])


@pytest.mark.parametrize("name", MODELS)
def test_images_of_another_shape_are_refused(name, key):
    model = MODELS[name]((16, 12), 1)
    variables = model.init(key)
    for call in (model.apply, partial(model.prefix, tap="conv2d_0")):
        with pytest.raises(ValueError, match=r"images \(1, 12, 16\): the model is for"):
            call(variables, jnp.zeros((1, 12, 16)))
