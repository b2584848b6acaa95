"""What an accelerator makes of the long computations, next to what it can do at best.

Needs JAX, Flax, Optax and jaxtyping, no sound and no network: weights, images and maps are drawn
with fixed seeds. Rows of Sinkhorn want OTT. On a CPU the rows are the same, of fewer examples.

    python experiments/benchmark.py --suite=accelerator --csv=accelerator.csv
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import drawn, roofs
from experiments.benchmarks.stopwatch import Timing, peak_bytes, time_call
from instrument_ig import models
from instrument_ig.attribution import integrated_gradients
from instrument_ig.machine import Execution, data_mesh
from instrument_ig.metrics import emd, pairwise_emd, pairwise_js, pairwise_kl
from instrument_ig.types import Attribution, Score

STEPS = 50
TOLERANCE = 0.01
FLOOR = 0.01  # of the score difference that residuals are relative to
EPSILON = 0.05
BIAS = 0.1  # standard deviation; maps want some 20 points then, as of trained networks
WITHIN_S = 10  # seconds of repeats of one measure
FEW = 2  # maps and pairs that a plain loop computes too
# Float32 rounding turns a rectifier here and there: one of 64 maps was .007 from another engine's.
AGREEMENT = 0.01


class Sizes(NamedTuple):
    """How much each row works on."""

    logmel: tuple[int, int]  # frames and bins
    stft: tuple[int, int]
    small: tuple[int, int]
    logmel_images: int
    stft_images: int
    small_images: int
    compared: int  # maps of which all pairs are compared by KL and JS
    transported: int  # and by the earth mover's distance
    matrix: int  # rows and columns of the roof's product
    numbers: int  # in each of the three arrays of the roof of the memory


IMAGES = (126, 128), (126, 1025), (126, 6)
ACCELERATOR = Sizes(*IMAGES, 64, 64, 512, 142, 142, 8192, 2**27)
CPU = Sizes(*IMAGES, 8, 1, 32, 142, 16, 2048, 2**25)


def sizes() -> Sizes:
    """Return those of the default device."""
    return CPU if jax.default_backend() == "cpu" else ACCELERATOR


class Subject(NamedTuple):
    """A network with drawn weights, and images."""

    variables: Any
    score: Score
    images: np.ndarray

    def explain(self, precision: str = "highest", **options: Any) -> Attribution:
        """Explain all images; "bfloat16" means parameters, images, paths and sums alike."""
        score, images = self.score, jnp.asarray(self.images)
        if precision == "bfloat16":
            half = lambda leaf: leaf.astype(jnp.bfloat16)
            images, precision = half(images), "default"
            score = _score(images.shape[1:], jax.tree.map(half, self.variables))
        execution = Execution(precision=precision, mesh=options.pop("mesh", None))
        baseline = np.zeros(images.shape[1:], np.float32)
        return integrated_gradients(score, images, baseline, execution=execution, **options)


@lru_cache
def _subject(shape, count):
    variables = jax.jit(models.MODELS["chen"](shape, 1).init)(jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(_with_biases, variables)
    return Subject(variables, _score(shape, variables), drawn.images(shape, count))


def _with_biases(path, leaf):
    # Without biases the network is linear along every path from zero.
    drawn_biases = BIAS * np.random.default_rng(leaf.size).normal(size=leaf.shape)
    return jnp.asarray(drawn_biases, leaf.dtype) if path[-1].key == "bias" else leaf


def _score(shape, variables):
    return models.score(models.MODELS["chen"](shape, 1), variables)


@lru_cache
def _by_fixed_steps(shape, count, precision):
    """Time maps of the same number of points, and return them."""
    return _timed(lambda: _subject(shape, count).explain(precision, steps=STEPS))


def measure_roofs() -> Iterator[dict]:
    """A large matrix product, and a + 2 b."""
    for roof in roofs.ROOFS:
        rate = roofs.matrix_rate(roof, sizes().matrix)
        yield {"roof": roof, "gflop_per_s": round(rate / 1e9)}
    yield {"roof": "memory", "gb_per_s": round(roofs.bandwidth(sizes().numbers) / 1e9, 1)}


def measure_first_calls() -> Iterator[dict]:
    """What one pair and one map take in a new process, compilation included."""
    for name in ("emd_flow", "emd_sinkhorn", "ig"):
        if name == "emd_sinkhorn" and not find_spec("ott"):
            yield _without_ott()
            continue
        start = time.perf_counter()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds = pool.apply(_first_call, (name, sizes().logmel))
        process_s = time.perf_counter() - start
        yield {"of": name, "first_s": round(seconds, 2), "process_s": round(process_s, 2)}


def _first_call(name, shape):
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the other process has most of the GPU
    jax.block_until_ready(jnp.zeros(()) + 1)  # starts the device
    if name == "ig":
        subject = _subject(shape, 1)
        call = lambda: subject.explain(steps=STEPS)
    else:
        p, q = drawn.distributions(shape, 2)
        call = lambda: emd(p, q, solver=name.removeprefix("emd_"), epsilon=EPSILON)
    return time_call(call, repeats=0).first_s


def measure_kl() -> Iterator[dict]:
    """Every pair of maps, against NumPy in double precision."""
    maps = drawn.distributions(sizes().logmel, sizes().compared)
    wide = maps[: FEW + 1].astype(np.float64)
    expected = [[(p * np.log(p / q)).sum() for q in wide] for p in wide]
    timing, found = _timed(lambda: pairwise_kl(maps))
    # The error of float32 products whose terms cancel.
    np.testing.assert_allclose(found[: len(wide), : len(wide)], expected, atol=1e-5)
    flop, pairs = 2 * len(maps) ** 2 * maps[0].size, len(maps) ** 2
    yield {"maps": len(maps)} | _row(timing, flop=flop, moved=maps.nbytes) | _each(timing, pairs)


def measure_js() -> Iterator[dict]:
    """Every pair of maps, against NumPy in double precision."""
    maps = drawn.distributions(sizes().logmel, sizes().compared)
    wide = maps[: FEW + 1].astype(np.float64)
    half = lambda p, m: (p * np.log(p / m)).sum() / 2
    expected = [[half(p, (p + q) / 2) + half(q, (p + q) / 2) for q in wide] for p in wide]
    timing, found = _timed(lambda: pairwise_js(maps))
    np.testing.assert_allclose(found[: len(wide), : len(wide)], expected, atol=1e-6)  # float32 sums
    pairs = len(maps) * (len(maps) + 1) // 2  # half of them are computed
    cells = {"gcells_per_s": round(pairs * maps[0].size / timing.median_s / 1e9, 2)}
    yield {"maps": len(maps)} | _row(timing) | cells | _each(timing, len(maps) ** 2)


def measure_ig_small() -> Iterator[dict]:
    """Many images of few bins."""
    yield from _ig(sizes().small, sizes().small_images, ("highest",))


def measure_ig_logmel() -> Iterator[dict]:
    """Images of 128 bins, at each precision: speed and residual."""
    yield from _ig(sizes().logmel, sizes().logmel_images, roofs.ROOFS)


def measure_ig_stft() -> Iterator[dict]:
    """Images of 1025 bins, at each precision."""
    yield from _ig(sizes().stft, sizes().stft_images, roofs.ROOFS)


def _ig(shape, count, precisions):
    subject = _subject(shape, count)
    reference = _plain_loop(subject)
    for precision in precisions:
        timing, maps = _by_fixed_steps(shape, count, precision)
        exact = _by_fixed_steps(shape, count, "highest")[1]
        away = _distances(exact.values[: len(reference)], reference)
        assert max(away) < AGREEMENT, away
        apart = _distances(maps.values, exact.values)
        gradients = count * STEPS
        flop = gradients * roofs.gradient_flop(subject.variables, shape)
        yield {
            "precision": precision,
            **_of_images(shape, count, gradients),
            **_row(timing, flop=flop, roof=precision),
            "ms_per_gradient": _digits(1e3 * timing.median_s / gradients),
            **_residuals(maps, exact),
            "apart_median": _digits(np.median(apart)),
            "apart_worst": _digits(max(apart)),
        }


def measure_ig_tolerance() -> Iterator[dict]:
    """Maps with as many points as each needs; what they take beside the gradients."""
    shape, count = sizes().logmel, sizes().logmel_images
    subject = _subject(shape, count)
    fixed, exact = _by_fixed_steps(shape, count, "highest")
    timing, maps = _timed(lambda: subject.explain(tolerance=TOLERANCE))
    apart = _distances(maps.values, exact.values)
    # Both have errors of their rules, which residuals do not show.
    assert np.median(apart) < 0.2, apart
    residuals = _residuals(maps, exact)
    assert residuals["residual_worst"] < 1.01 * TOLERANCE or not maps.converged.all(), residuals
    gradients = int(maps.steps.sum())
    flop = gradients * roofs.gradient_flop(subject.variables, shape)
    arithmetic_s = fixed.median_s * gradients / (count * STEPS)
    yield {
        **_of_images(shape, count, gradients),
        **_row(timing, flop=flop, roof="highest"),
        "ms_beside": _digits(1e3 * (timing.median_s - arithmetic_s)),
        "points_median": float(np.median(maps.steps)),
        "points_most": int(maps.steps.max()),
        "converged": int(maps.converged.sum()),
        **residuals,
        "apart_median": _digits(np.median(apart)),
    }


def measure_emd_flow() -> Iterator[dict]:
    """All pairs of maps, certified."""
    yield from _transported("flow")


def measure_emd_sinkhorn() -> Iterator[dict]:
    """The same by entropic transport."""
    yield from _transported("sinkhorn") if find_spec("ott") else [_without_ott()]


def _transported(solver):
    solve = lambda maps: pairwise_emd(maps, solver=solver, epsilon=EPSILON)
    _check_single_bins(solve)
    maps = drawn.distributions(sizes().logmel, sizes().transported)
    timing, found = _timed(lambda: solve(maps))
    above = np.triu_indices(len(maps), 1)
    lower, upper = (np.asarray(bound, np.float64)[above] for bound in (found.lower, found.upper))
    assert (lower <= upper).all()  # NaN is not
    converged = np.asarray(found.converged)[above].mean()
    assert converged > 0.95 or solver != "flow", converged
    width, iterations = (upper - lower) / upper, np.asarray(found.iterations)[above]
    # A primal-dual step reads five arrays and writes three; coarser levels, earlier attempts and
    # certificates are not counted.
    moved = 8 * maps[0].nbytes * int(iterations.sum()) if solver == "flow" else 0
    yield {
        "pairs": len(lower),
        **_row(timing, moved=moved),
        **_each(timing, len(lower)),
        "width_median": _digits(np.median(width)),
        "width_worst": _digits(width.max()),
        "converged": _digits(converged),
        "iterations_median": float(np.median(iterations)),
        "iterations_most": int(iterations.max()),
    }


def _check_single_bins(solve):
    """Maps of one bin have an exact distance: what passes each edge is known."""
    maps = drawn.distributions((sizes().logmel[0], 1), 4)
    share = maps[..., 0].astype(np.float64)
    share /= share.sum(1, keepdims=True)
    passing = np.cumsum(share[:, None] - share, -1)[..., :-1]
    exact = np.abs(passing).sum(-1) / passing.shape[-1]
    found = solve(maps)
    rounding = 1e-12  # of the sums in double precision
    assert (np.asarray(found.lower, np.float64) <= exact + rounding).all()
    assert (exact <= np.asarray(found.upper, np.float64) + rounding).all()


def measure_scaling() -> Iterator[dict]:
    """As many images per device, on more and more devices of this process."""
    most = jax.local_device_count()
    if most == 1:
        yield {"devices": 1, "skipped": "one device"}
        return
    shape, count, single_s = sizes().logmel, sizes().logmel_images, 0.0
    for n in sorted({*(1 << k for k in range(most.bit_length())), most}):
        subject, mesh = _subject(shape, n * count), data_mesh(n)
        timing, maps = _timed(lambda: subject.explain(steps=STEPS, mesh=mesh))  # noqa: B023
        exact = _by_fixed_steps(shape, count, "highest")[1]
        away = _distances(maps.values[:count], exact.values)
        assert max(away) < AGREEMENT, away
        single_s = single_s or timing.median_s
        gradients = n * count * STEPS
        flop = gradients * roofs.gradient_flop(subject.variables, shape) / n  # of each device
        yield {
            "devices": n,
            **_of_images(shape, n * count, gradients),
            **_row(timing, flop=flop, roof="highest"),
            "efficiency": _digits(single_s / timing.median_s),
        }


def _plain_loop(subject):
    """Explain a few images the plain way: a compiled loop over the points of each."""
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    points = jnp.asarray((nodes + 1) / 2, jnp.float32), jnp.asarray(weights / 2, jnp.float32)

    @jax.jit
    def explain(score, images):
        def one(image):
            add = lambda total, point: (
                total + point[1] * jax.grad(score)(point[0] * image),
                None,
            )
            return image * jax.lax.scan(add, jnp.zeros_like(image), points)[0]

        return jax.vmap(one)(images)

    with jax.default_matmul_precision("highest"):
        return explain(subject.score, jnp.asarray(subject.images[:FEW]))


def _distances(maps, expected):
    """Relative L1 distance of each map."""
    maps, expected = (np.asarray(x, np.float64) for x in (maps, expected))
    return (np.abs(maps - expected).sum((1, 2)) / np.abs(expected).sum((1, 2))).tolist()


def _residuals(maps, exact):
    """Relative residuals against score differences in float32, whatever the maps are in."""
    sums = lambda found: np.asarray(found.values, np.float64).sum((1, 2))
    rise = sums(exact) - np.asarray(exact.residual)
    relative = np.abs(sums(maps) - rise) / np.abs(rise).clip(FLOOR)
    return {
        "residual_median": _digits(np.median(relative)),
        "residual_worst": _digits(relative.max()),
    }


def _timed(function: Callable[[], Any]) -> tuple[Timing, Any]:
    """Time calls, and return what the last one returned."""
    found = []
    timing = time_call(lambda: found.append(jax.block_until_ready(function())), within_s=WITHIN_S)
    return timing, found[-1]


def _row(timing: Timing, *, flop: float = 0, roof: str = "highest", moved: float = 0) -> dict:
    """Return seconds, and how near they are to the roofs.

    Args:
      timing: of a call.
      flop: floating point operations that it cannot do without.
      roof: the matrix product that they are held against.
      moved: bytes that it cannot but read and write.
    """
    row = {
        "first_s": _digits(timing.first_s),
        "warm_s": _digits(timing.median_s),
        "repeats": timing.repeats,
        "peak_mib": peak_bytes() >> 20,
    }
    if flop:
        rate = flop / timing.median_s
        share = rate / roofs.matrix_rate(roof, sizes().matrix)
        row |= {"gflop_per_s": _digits(rate / 1e9), "share_of_product": _digits(share)}
    if moved:
        rate = moved / timing.median_s
        share = rate / roofs.bandwidth(sizes().numbers)
        row |= {"gb_per_s": _digits(rate / 1e9), "share_of_memory": _digits(share)}
    return row


def _each(timing, pairs):
    return {"us_per_pair": _digits(1e6 * timing.median_s / pairs)}


def _of_images(shape, count, gradients):
    return {"shape": "x".join(map(str, shape)), "maps": count, "gradients": gradients}


def _without_ott():
    return {"of": "emd_sinkhorn", "skipped": "no module ott"}


def _digits(value):
    return float(f"{value:.3g}")


ROWS = {
    "roofs": measure_roofs,
    "first_calls": measure_first_calls,
    "kl": measure_kl,
    "js": measure_js,
    "ig_small": measure_ig_small,
    "ig_logmel": measure_ig_logmel,
    "ig_tolerance": measure_ig_tolerance,
    "scaling": measure_scaling,
    "emd_flow": measure_emd_flow,
    "emd_sinkhorn": measure_emd_sinkhorn,
    "ig_stft": measure_ig_stft,
}
