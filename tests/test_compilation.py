import jax
import pytest

from instrument_ig import compilation
from instrument_ig.compilation import CHAINS, SUMS, compiler_options


@pytest.fixture(autouse=True)
def asked_anew():
    compiler_options.cache_clear()
    yield
    compiler_options.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are for CPUs")
@pytest.mark.parametrize("fused", [CHAINS, SUMS])
def test_options_are_known_to_this_jaxlib(fused):
    """Another jaxlib may rename them: everything works without, half as fast on a CPU."""
    options = compiler_options(fused)
    assert set(options) == {compilation.YNNPACK}
    assert jax.jit(lambda x: 2 * x, compiler_options=options)(3.0) == 6


def test_options_that_a_jaxlib_does_not_know_are_left_out():
    assert compiler_options(("NO_SUCH_KIND",)) == {}


def test_accelerators_get_no_options(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options(CHAINS) == {}
