import gc
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instrument_ig.machine import is_traced, trace

X = jax.ShapeDtypeStruct((3, 4), jnp.float32)


def program(function, **options):
    return trace(function, X, **options).program


def test_a_traced_function_computes_what_it_did(rng):
    w = jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    function = lambda x: {"y": jnp.tanh(x @ w), "n": jnp.sum(x)}
    traced = trace(function, X)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), traced(x), function(x)))
    assert [array.shape for array in traced.arrays] == [(4, 2)]
    assert traced.program.out["y"].shape == (3, 2)


def test_functions_that_do_the_same_share_a_program():
    make = lambda value: lambda x: jax.nn.relu(x * jnp.full((3, 4), value)).sum()
    one, other = (trace(make(value), X) for value in (1.0, 2.0))
    weights = [jnp.full((3, 4), value) for value in (1.0, 2.0)]
    closed, again = (program(lambda x, w=w: (x * w).sum()) for w in weights)
    assert closed == again
    assert hash(closed) == hash(again)
    assert one.program != other.program  # the number itself is part of it
    assert one.program == trace(make(1.0), X).program


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x.sum(), lambda x: x.sum(0).sum()),
        (lambda x: (x[0] - x[1]).sum(), lambda x: (x[1] - x[0]).sum()),
        (lambda x: (x * 2).sum(), lambda x: (x * 3).sum()),
        (lambda x: {"a": x.sum()}, lambda x: {"b": x.sum()}),
        (
            lambda x: jax.lax.fori_loop(0, 3, lambda _, s: jnp.sin(s), x).sum(),
            lambda x: jax.lax.fori_loop(0, 3, lambda _, s: jnp.cos(s), x).sum(),
        ),
        (
            lambda x: (x @ jnp.ones((4, 4))).sum(),
            lambda x: jnp.matmul(x, jnp.ones((4, 4)), precision="highest").sum(),
        ),
    ],
)
def test_functions_that_differ_do_not(one, other):
    assert program(one) != program(other)
    assert program(one) == program(lambda x: one(x))


def test_rules_of_differentiation_count_where_a_gradient_is_traced():
    def rectifier(rule):
        function = jax.custom_jvp(lambda x: jnp.maximum(x, 0))
        function.defjvp(lambda x, dx: (function(*x), rule(*x, *dx)))
        return function

    slope = lambda rule: jax.grad(lambda x: rectifier(rule)(x).sum())
    plain, guided = lambda x, dx: jnp.where(x > 0, dx, 0), lambda _, dx: dx
    assert program(slope(plain)) != program(slope(guided))
    assert program(slope(plain)) == program(slope(lambda x, dx: jnp.where(x > 0, dx, 0)))


def test_what_has_changed_is_traced_anew():
    box = {"k": 0}
    function = lambda x: x[box["k"]].sum()
    x = jnp.arange(12.0).reshape(3, 4)
    first = trace(function, X)
    box["k"] = 2
    assert first(x) == x[0].sum()
    assert trace(function, X)(x) == x[2].sum()


def test_precision_is_that_asked_for_whatever_the_ambient_setting():
    w = jnp.ones((4, 2))
    product = lambda x: x @ w
    asked = program(product, precision="highest")
    with jax.default_matmul_precision("bfloat16"):
        assert program(product, precision="highest") == asked
        assert program(product) != asked
    assert program(product, precision="default") != asked


def test_arrays_inside_inner_programs_become_arguments(rng):
    w = jnp.asarray(rng.normal(size=(4,)), jnp.float32)
    inner = jax.jit(lambda x: jax.jit(lambda x: x @ w)(x).sum())
    traced = trace(lambda x: 2 * inner(x), X)
    assert [array.shape for array in traced.arrays] == [(4,)]
    x = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    np.testing.assert_allclose(traced(x), 2 * (x @ w).sum(), rtol=1e-6)  # a sum of 12 products
    again = jax.jit(lambda x: jax.jit(lambda x: x @ (w + 1))(x).sum())
    assert trace(lambda x: 2 * again(x), X).program is not None


def test_nothing_holds_the_arrays_of_a_function():
    array = jnp.ones((3, 4))
    gone = weakref.ref(array)
    traced = trace(lambda x, w=array: (x * w).sum(), X)
    held = traced.program
    del traced, array
    gc.collect()
    assert gone() is None
    assert held.out.shape == ()


def test_tracers_of_a_closure_are_seen():
    seen = []

    def outer(w):
        traced = trace(lambda x: (x * w).sum(), X)
        seen.append(is_traced(traced.arrays))
        return traced(jnp.ones((3, 4)))

    outer(jnp.ones((3, 4)))
    assert seen == [False]
    np.testing.assert_array_equal(jax.grad(outer)(jnp.ones((3, 4))), 1)
    assert seen[-1]


class Network(nn.Module):
    @nn.compact
    def __call__(self, image):
        return nn.Dense(1)(nn.relu(nn.Conv(2, (3, 3))(image[None, ..., None])).reshape(-1))[0]


def test_convolutions_that_loops_slow_down_are_known():
    """Flax's own, whose derivative has another order of dimensions; not the models' here."""
    from instrument_ig.models.correlation import correlate

    network = Network()
    variables = network.init(jax.random.key(0), jnp.zeros(X.shape))
    flax = lambda image: network.apply(variables, image)
    ours = lambda image: correlate(image[None, ..., None], jnp.ones((3, 3, 1, 2))).sum()
    dense = lambda image: jnp.tanh(image).sum()
    slow = [program(jax.grad(score)).is_slow_in_loops for score in (flax, ours, dense)]
    assert slow == [True, False, False]
    assert not program(flax).is_slow_in_loops
