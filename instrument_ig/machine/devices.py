"""What is known of the default device: the only file that names a backend or a size of one."""

import jax

AXIS = "data"  # of meshes: examples, path points or pairs are shared out along it
CPU_MEMORY = 2 * 2**30  # bytes, where the device does not say how many it has
SHARE = 0.5  # of the device's memory: the rest is left to parameters and the caller's arrays
CPU_CACHE = 2**21  # bytes that a core's own cache holds
CPU_TEMPORARY = 2**24  # bytes of a program's temporary arrays up to which more at once is faster
CPU_BATCH = 4  # images of the networks here: the activations of more leave the caches
FEW, MANY = 32, 256  # images that accelerators evaluate together: of short lists, and of long ones


def is_cpu() -> bool:
    """Say whether the default device is a CPU, where caches decide how much is done together."""
    return jax.default_backend() == "cpu"


def usable_memory() -> int:
    """Return the bytes that a call may hold on a device when nobody says otherwise."""
    if is_cpu():
        return CPU_MEMORY
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit", CPU_MEMORY / SHARE) * SHARE)


def cached(item_bytes: int) -> int:
    """Return how many items stay in a CPU's cache; on accelerators any number does."""
    return max(1, CPU_CACHE // max(1, item_bytes)) if is_cpu() else 2**31


def batch(count: int) -> int:
    """Return how many examples of a large network the device likes to evaluate together."""
    least, most = (1, CPU_BATCH) if is_cpu() else (FEW, MANY)
    return min(most, max(least, next_power(count)))


def likes_more(temporary: int, growth: int) -> bool:
    """Say whether a program with so many bytes of temporary arrays is faster on larger batches."""
    return is_cpu() and temporary * growth <= CPU_TEMPORARY


def next_power(count: int) -> int:
    """Return the smallest power of two that is at least `count`."""
    return 1 << max(0, count - 1).bit_length()
