"""The main programs compiled for TPUs that are not there: what they compute, move and hold.

Needs `pip install -e '.[tpu]'`, no TPU. Counts are the compiler's, of one chip. It counts the body
of a loop once, however often it runs; so images have one path point here, which needs no loop.

    python experiments/benchmark.py --suite=tpu_programs --csv=tpu_programs.csv
"""

import os
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from instrument_ig import models
from instrument_ig.machine import Execution, devices, rowwise, sum_over_points, trace
from instrument_ig.machine.evaluations import _Filling, _Items
from instrument_ig.metrics import emd, pairwise_emd, pairwise_js, pairwise_kl

LOGMEL, STFT = (126, 128), (126, 1025)
TOPOLOGY = "v5e:2x2"
ENVIRONMENT = {  # which machine the TPU's library shall believe to be on
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no TPU that another process could hold
}
CHIPS = (1, 4)
GRADIENTS = {LOGMEL: 256, STFT: 64}  # of a chip, evaluated together
COMPARED = 142  # maps
ROWS_OF_IMAGES = 64  # from which the points of refinement are taken
TILE = 64  # maps whose pairs with as many others are one tile
PAIRS = 256  # of a chip, transported together
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


@lru_cache
def _mesh(chips):
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    found = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY).devices
    return Mesh(np.array(found[:chips]), (devices.AXIS,))


def measure_ig_grid() -> Iterator[dict]:
    """Gradients at one path point of each image, weighted and added up."""
    for shape, count in GRADIENTS.items():
        network = models.MODELS["chen"](shape, 1)
        variables = jax.eval_shape(network.init, jax.random.key(0))
        explain = partial(_integral, network)
        for chips in CHIPS:
            found = _compiled(chips, explain, variables, _floats(chips * count, *shape))
            yield _row(found, chips, shape, gradients=count)


def _integral(network, variables, images):
    score = models.score(network, variables)
    gradient = lambda image, alpha: jax.grad(score)(alpha * image)
    point = np.ones(1, np.float32)
    return sum_over_points(gradient, images, point, point, Execution())


def measure_ig_refinement() -> Iterator[dict]:
    """Gradients, scores and slopes at points of any images, written into a block."""
    network, count = models.MODELS["chen"](LOGMEL, 1), GRADIENTS[LOGMEL]
    score = models.score(network, network.init(jax.random.key(0)))

    def evaluate(image, alpha):
        value, gradient = jax.value_and_grad(score)(alpha * image)
        return gradient, (value, jnp.vdot(gradient, image))

    traced = trace(evaluate, _floats(*LOGMEL), _floats(), precision="highest")
    filling = _Filling(traced.program, count, in_loop=False)
    arrays = jax.eval_shape(lambda: traced.arrays)
    for chips in CHIPS:
        points = _floats(chips, count)
        whole = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((chips, count), (chips,))]
        items = _Items(whole[0], points, whole[1], whole[1])
        shared, block = (arrays, _floats(ROWS_OF_IMAGES, *LOGMEL)), _floats(chips * count, *LOGMEL)
        found = _compiled(chips, filling, shared, items, block)
        yield _row(found, chips, LOGMEL, gradients=count)


def measure_divergences() -> Iterator[dict]:
    """All pairs of maps, a row of them on each chip; and one tile of pairs, which needs no loop."""
    for name, pairwise in (("js", pairwise_js), ("kl", pairwise_kl)):
        between = lambda columns, rows, pairwise=pairwise: pairwise(rows, columns)
        for chips in CHIPS:
            rows = -(-COMPARED // chips)
            maps = _floats(chips * rows, *LOGMEL), _floats(COMPARED, *LOGMEL)
            found = _compiled(chips, between, *maps[::-1])
            yield _row(found, chips, LOGMEL, of=f"{name}_{COMPARED}_maps")
        tile = _floats(TILE, *LOGMEL)
        found = _compiled(1, between, tile, tile)
        yield _row(found, 1, LOGMEL, of=f"{name}_tile", pairs=TILE**2)


def measure_emd_flow() -> Iterator[dict]:
    """Pairs side by side until the last is narrow; of each loop one step is counted."""
    solve = jax.vmap(partial(emd, solver="flow"))
    of_pairs = lambda _, maps: solve(*maps)
    for chips in CHIPS:
        maps = (_floats(chips * PAIRS, *LOGMEL),) * 2
        found = _compiled(chips, of_pairs, (), maps)
        yield _row(found, chips, LOGMEL, pairs=PAIRS)


def measure_emd_all_pairs() -> Iterator[dict]:
    """All pairs of maps in one program, a batch after the other."""

    def within(_, sets):
        found = pairwise_emd(sets[0], solver="flow")
        return jax.tree.map(lambda matrix: matrix[None], found)

    found = _compiled(1, within, (), _floats(1, COMPARED, *LOGMEL))
    yield _row(found, 1, LOGMEL, of=f"{COMPARED}_maps")


def _floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _compiled(chips, function, shared, *rows):
    """Compile function(shared, rows, carry) for some chips, as accelerators get it."""
    mesh = _mesh(chips)
    put = lambda spec: lambda leaf: leaf.update(sharding=NamedSharding(mesh, spec))
    shared = jax.tree.map(put(PartitionSpec()), shared)
    rows = jax.tree.map(put(PartitionSpec(devices.AXIS)), rows)
    start = time.perf_counter()
    with mock.patch.object(devices, "is_cpu", return_value=False):
        program = rowwise(function, Execution(mesh=mesh), carry=len(rows) > 1)
        return program.lower(shared, *rows).compile(), time.perf_counter() - start


def _row(found, chips, shape, of="", **items) -> dict:
    """Return what the compiler counts of one chip, and of each of its items."""
    program, compile_s = found
    counts, size = program.cost_analysis(), program.memory_analysis()
    text = program.as_text()
    row = {
        "device": _mesh(chips).devices.flat[0].device_kind,
        "chips": chips,
        "shape": "x".join(map(str, shape)),
        "of": of,
        **items,
        "compile_s": round(compile_s, 1),
        "gflop": _digits(counts["flops"] / 1e9),
        "mb_moved": _digits(counts["bytes accessed"] / 1e6),
        "mib_temporary": size.temp_size_in_bytes >> 20,
        "mib_arguments": size.argument_size_in_bytes >> 20,
        "mib_results": size.output_size_in_bytes >> 20,
        "collectives": sum(text.count(f" {name}(") for name in COLLECTIVES),
        "loops": text.count(" while("),
    }
    for item, count in items.items():
        row[f"mflop_per_{item.removesuffix('s')}"] = _digits(counts["flops"] / count / 1e6)
        row[f"mb_per_{item.removesuffix('s')}"] = _digits(counts["bytes accessed"] / count / 1e6)
    return row


def _digits(value):
    return float(f"{value:.3g}")


ROWS = {
    "ig_grid": measure_ig_grid,
    "ig_refinement": measure_ig_refinement,
    "divergences": measure_divergences,
    "emd_flow": measure_emd_flow,
    "emd_all_pairs": measure_emd_all_pairs,
}
