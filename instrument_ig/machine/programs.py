"""Functions as values: traced anew at every call, compiled once for all that compute the same.

A user's function may change between two calls, hold arrays and hold traced values. So it is never
the key of a compiled program. What it computes is: it is traced for one example, arrays that it
closes over become arguments, and programs are kept by the structure of what is left.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

CALLS = ("jit", "pjit")  # primitives whose own programs may close over arrays
# Their rules of differentiation are new objects at every trace; an evaluation does not see them.
WITH_RULES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


class Program:
    """What a function computes; equal to another where both do the same, step by step."""

    def __init__(self, jaxpr: core.Jaxpr, out: Any):
        self._jaxpr = jaxpr
        self.out = out  # shapes and dtypes of the result

    def __call__(self, arrays: tuple, *args: Any) -> Any:
        """Evaluate, given the arrays that the function closed over."""
        closed = core.ClosedJaxpr(self._jaxpr, arrays)
        flat = core.jaxpr_as_fun(closed)(*jax.tree.leaves(args))
        return jax.tree.structure(self.out).unflatten(flat)

    @cached_property
    def _key(self):
        leaves, structure = jax.tree.flatten(self.out)
        return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), _key(self._jaxpr)

    @cached_property
    def _hash(self):
        return hash(self._key)

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        return isinstance(other, Program) and self._hash == other._hash and self._key == other._key

    @cached_property
    def is_slow_in_loops(self) -> bool:
        """Whether XLA:CPU would run it several times slower inside a loop than outside.

        It rearranges convolutions for its fast kernels at the top level of a program only, and
        those of other than the usual order of dimensions, such as JAX's derivatives by the maps,
        need that.
        """
        return any(map(_is_rearranged, _equations(self._jaxpr)))


class Traced(NamedTuple):
    """A function taken apart."""

    program: Program
    arrays: tuple  # that it closes over; traced where it closes over traced values

    def __call__(self, *args: Any) -> Any:
        """Evaluate, as it was when traced."""
        return self.program(self.arrays, *args)


def trace(function: Callable[..., Any], *examples: Any, precision: str | None = None) -> Traced:
    """Trace a function of pytrees for arguments like `examples`, as it is now.

    Args:
      function: of arrays; pure, but free to close over arrays, traced ones included.
      *examples: arrays, or their shapes and dtypes.
      precision: of its matrix products and convolutions, unless it says so itself; None: ambient.

    Cost: what `function` takes in Python. No computation.
    """
    # A new function each time, for `make_jaxpr` remembers functions that it has seen.
    fresh = lambda *args: function(*args)  # noqa: PLW0108
    with jax.default_matmul_precision(precision) if precision else nullcontext():
        closed, out = jax.make_jaxpr(fresh, return_shape=True)(*examples)
    if any(eqn.params["jaxpr"].consts for eqn in _equations(closed.jaxpr) if _is_call(eqn)):
        inlined = lambda *args: _inline(closed, jax.tree.leaves(args))
        closed = jax.make_jaxpr(inlined)(*examples)
    return Traced(Program(closed.jaxpr, out), tuple(closed.consts))


def is_traced(tree: Any) -> bool:
    """Say whether `tree` holds traced arrays or the caller itself is being traced."""
    leaves = [*jax.tree.leaves(tree), jnp.zeros(())]
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def shapes_of_one(rows: Any) -> Any:
    """Return shape and dtype of one row of each array."""
    drop = lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
    return jax.tree.map(drop, rows)


def _is_call(eqn):
    return eqn.primitive.name in CALLS


# Inner programs are remembered by JAX, and are the same objects at the next trace.
@lru_cache(maxsize=1024)
def _equations(jaxpr):
    """Return all equations, those of inner programs included."""
    found = list(jaxpr.eqns)
    for eqn in jaxpr.eqns:
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                found += _equations(_open(inner))
    return tuple(found)


def _is_jaxpr(value):
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def _open(jaxpr):
    return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _inline(closed, args):
    """Evaluate with the calls inlined, so that what they close over is closed over here."""
    values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(closed.jaxpr.invars, args, strict=True))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else values[atom]
    for eqn in closed.jaxpr.eqns:
        inner = eqn.params["jaxpr"] if _is_call(eqn) else _alone(eqn, closed.jaxpr)
        evaluate = _inline if _is_call(eqn) else lambda inner, args: core.jaxpr_as_fun(inner)(*args)
        atoms = eqn.invars if _is_call(eqn) else inner.jaxpr.invars
        outputs = evaluate(inner, [read(atom) for atom in atoms])
        values |= dict(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _alone(eqn, jaxpr):
    """Return the program of one equation."""
    variables = list({atom: None for atom in eqn.invars if not isinstance(atom, core.Literal)})
    parts = {"constvars": [], "invars": variables, "outvars": eqn.outvars, "eqns": [eqn]}
    return core.ClosedJaxpr(jaxpr.replace(**parts), [])


@lru_cache(maxsize=1024)
def _key(jaxpr):
    """Return the structure of a program as a value: variables are numbered as they appear."""
    numbers: dict[Any, int] = {}
    name = lambda var: (numbers.setdefault(var, len(numbers)), var.aval)
    read = lambda atom: _literal(atom) if isinstance(atom, core.Literal) else name(atom)
    inputs = tuple(map(name, (*jaxpr.constvars, *jaxpr.invars)))
    steps = tuple(
        (eqn.primitive, tuple(map(read, eqn.invars)), _params(eqn), tuple(map(name, eqn.outvars)))
        for eqn in jaxpr.eqns
    )
    return inputs, steps, tuple(map(read, jaxpr.outvars))


def _params(eqn):
    with_rules = eqn.primitive.name in WITH_RULES
    return tuple(
        (name, _value(value))
        for name, value in sorted(eqn.params.items())
        if not with_rules or _is_jaxpr(value)
    )


def _value(value):
    """Return a parameter as something that compares by value, or by identity where it cannot."""
    if isinstance(value, core.ClosedJaxpr):
        return _key(value.jaxpr), tuple(map(_Same, value.consts))
    if isinstance(value, core.Jaxpr):
        return _key(value)
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_value, value))
    if isinstance(value, dict):
        return tuple((key, _value(item)) for key, item in sorted(value.items()))
    if isinstance(value, np.ndarray | np.generic):
        return _array(value)
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return type(value), value


def _literal(literal):
    return _array(literal.val), literal.aval


def _array(values):
    array = np.asarray(values)
    return array.dtype, array.shape, array.tobytes()  # NaN equals itself


class _Same:
    """Equal to itself alone."""

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return id(self.value)

    def __eq__(self, other):
        return isinstance(other, _Same) and self.value is other.value


def _is_rearranged(eqn):
    if eqn.primitive.name != "conv_general_dilated":
        return False
    maps, kernels, out = eqn.params["dimension_numbers"]
    rank = len(maps)
    places = (0, rank - 1, *range(1, rank - 1))  # examples, channels, then the sizes
    return (maps, kernels, out) != (places, (rank - 1, rank - 2, *range(rank - 2)), places)
