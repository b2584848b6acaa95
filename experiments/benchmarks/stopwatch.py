"""The one stopwatch: medians of blocked calls, first call apart; peak memory of a process."""

import math
import multiprocessing
import re
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """Seconds of one call."""

    median_s: float
    low_s: float  # first quartile
    high_s: float  # third quartile
    repeats: int
    first_s: float  # the first call: compilation and warm-up included


def time_call(function: Callable[[], Any], repeats: int = 5, within_s: float = math.inf) -> Timing:
    """Time `function()` after one warm-up call, waiting for its arrays each time."""
    return time_calls({"": function}, repeats, within_s)[""]


def time_calls(
    functions: dict[str, Callable[[], Any]], repeats: int = 5, within_s: float = math.inf
) -> dict[str, Timing]:
    """Time several functions in turn, so that a noisy moment of the machine hits all of them.

    Without repeats the first calls stand for the median. After `within_s` seconds of repeats none
    is begun.
    """
    first = {name: _seconds(function) for name, function in functions.items()}
    spent: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            spent[name].append(_seconds(function))
        if sum(map(sum, spent.values())) > within_s:
            break
    return {name: _summary(spent[name] or [first[name]], first[name]) for name in functions}


def peak_bytes() -> int:
    """Return the most that was held so far: on the device if it says so, else by the process.

    The process's resident size is Linux only.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use") or _peak_resident()


def peak_memory(target: Callable[..., Any], *args: Any, limit: int | None = None) -> int:
    """Bytes that `target(*args)` adds to the peak resident size of a fresh process after imports.

    `target` and `args` must pickle; what `target` imports at module level is not counted. Linux
    only.

    Raises:
      MemoryError: the process wanted more than `limit` bytes of address space.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_peak, (target, args, limit))


def _measure_peak(target, args, limit):
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = _peak_resident()
    jax.block_until_ready(target(*args))
    return _peak_resident() - before


def _peak_resident():
    # Of this very program; `ru_maxrss` starts at the size of the process that started it.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


def _seconds(function):
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def _summary(seconds, first_s):
    quartiles = (
        statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    )
    return Timing(statistics.median(seconds), quartiles[0], quartiles[2], len(seconds), first_s)
