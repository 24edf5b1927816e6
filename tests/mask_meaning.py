"""Random mask trees and their dense meaning, straight from the definition, for small K."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import sympy
from hypothesis import strategies as st

from maskdsl.mask.levels import Admissibility, level, levels
from maskdsl.mask.nodes import (
    Causal,
    Compose,
    Delta,
    Fenwick,
    Kind,
    Mask,
    Plus,
    Rank1,
    Scalar,
    Semiseparable,
    Times,
    Window,
)
from maskdsl.scalar.build import symbol

T, K = 6, 3

_SHAPES = {
    Kind.CONST: (),
    Kind.HEAD: (),
    Kind.HEAD_CHANNEL: (K,),
    Kind.TOKEN: (T, 1),
    Kind.CHANNEL: (T, K),
    Kind.KEY: (T, K),
    Kind.LEVEL: (T, levels(T, 2, "strong") + levels(T)),
}


def scalar(name: str, kind: Kind) -> Scalar:
    """An input as a scalar."""
    return Scalar(symbol(name), kind)


TOKENS = tuple(scalar(name, Kind.TOKEN) for name in ("g", "h"))
NUMBERS = (*TOKENS, scalar("head", Kind.HEAD))
DIAGONALS = (scalar("c", Kind.CHANNEL), scalar("d", Kind.HEAD_CHANNEL))
KEYS = tuple(scalar(name, Kind.KEY) for name in ("k", "j"))
LEVELS = tuple(scalar(name, Kind.LEVEL) for name in ("lam", "mu"))
CONSTANTS = tuple(Scalar(sympy.Integer(n), Kind.CONST) for n in (0, 1))


def values(seed: int) -> dict[str, np.ndarray]:
    """Random values of all inputs, one head."""
    random = np.random.default_rng(seed)
    inputs = (*NUMBERS, *DIAGONALS, *KEYS, *LEVELS)
    return {str(x.expr): random.normal(size=_SHAPES[x.kind]) * 0.5 for x in inputs}


def dense(mask: Mask, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """M[t, s] as [T, T, K, K], zero above the diagonal."""
    pairs = np.zeros((T, T, K, K))
    for t in range(T):
        for s in range(t + 1):
            pairs[t, s] = _entry(mask, t, s, inputs)
    return pairs


def _entry(mask: Mask, t: int, s: int, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    match mask:
        case Fenwick(lam, base, admissibility):
            weights = np.broadcast_to(_value(lam, inputs), (T, _SHAPES[Kind.LEVEL][1]))
            return weights[t, level(t, s, base, admissibility)] * np.eye(K)
        case Window(width):
            return float(t - s < width) * np.eye(K)
        case Times(left, right):
            return _entry_by_entry(_entry(left, t, s, inputs), _entry(right, t, s, inputs))
        case Plus(left, right):
            return _entry(left, t, s, inputs) + _entry(right, t, s, inputs)
    steps = [_step(mask, u, inputs) for u in range(t, s, -1)]
    return functools.reduce(np.matmul, steps, np.eye(K))


def _entry_by_entry(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    for one, other in ((left, right), (right, left)):
        if np.array_equal(one, one[0, 0] * np.eye(K)):
            return one[0, 0] * other
    return left * right  # both diagonal


def _step(mask: Mask, u: int, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    match mask:
        case Causal():
            return np.eye(K)
        case Semiseparable(g):
            return np.diag(np.exp(_row(g, u, inputs)))
        case Delta(k, beta):
            row = _row(k, u, inputs)
            return np.eye(K) - _row(beta, u, inputs)[0] * np.outer(row, row)
        case Rank1(a, b):
            return np.eye(K) + np.outer(_row(a, u, inputs), _row(b, u, inputs))
        case Compose(left, right):
            return _step(left, u, inputs) @ _step(right, u, inputs)
        case Times(left, right):
            return _entry_by_entry(_step(left, u, inputs), _step(right, u, inputs))
    raise AssertionError(f"{mask} is no path.")


def _row(scalar: Scalar, u: int, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.broadcast_to(_value(scalar, inputs), (T, K))[u]


def _value(scalar: Scalar, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    names, function = _function(scalar.expr)
    return np.asarray(function(*(inputs[name] for name in names)), dtype=float)


@functools.cache
def _function(expr: sympy.Expr) -> tuple[list[str], Callable[..., np.ndarray]]:
    symbols = sorted(expr.free_symbols, key=str)
    return [str(x) for x in symbols], sympy.lambdify(symbols, expr, "numpy")


number_paths = st.one_of(st.just(Causal()), st.builds(Semiseparable, st.sampled_from(NUMBERS)))
diagonal_paths = st.one_of(number_paths, st.builds(Semiseparable, st.sampled_from(DIAGONALS)))
_steps = st.one_of(
    diagonal_paths,
    st.builds(Delta, st.sampled_from(KEYS), st.sampled_from((*TOKENS, *CONSTANTS))),
    st.builds(Rank1, st.sampled_from(KEYS), st.sampled_from(KEYS)),
)
paths = st.recursive(
    _steps,
    lambda inner: st.one_of(
        st.builds(Compose, inner, inner),
        st.builds(Times, number_paths, inner),
        st.builds(Times, inner, number_paths),
    ),
    max_leaves=5,
)


def _factors(base: int, admissibility: Admissibility) -> st.SearchStrategy[Mask]:
    """Number-valued masks with hierarchies of one base, so that any two may be multiplied."""
    weights = st.sampled_from((*LEVELS, *TOKENS, CONSTANTS[1]))
    leaves = st.one_of(
        number_paths,
        st.builds(Window, st.integers(1, T + 1)),
        st.builds(Fenwick, weights, st.just(base), st.just(admissibility)),
    )
    return st.recursive(
        leaves, lambda inner: st.one_of(st.builds(Times, inner, inner), st.builds(Plus, inner, inner)), max_leaves=4
    )


def _products(numbers: st.SearchStrategy[Mask]) -> st.SearchStrategy[Mask]:
    diagonals = st.recursive(diagonal_paths, lambda inner: st.builds(Times, inner, inner), max_leaves=3)
    factors = st.one_of(paths, diagonals)
    return st.one_of(
        numbers,
        factors,
        st.builds(Times, numbers, factors),
        st.builds(Times, factors, numbers),
        st.builds(Times, numbers, st.builds(Plus, factors, factors)),
    )


_hierarchies = st.sampled_from([(2, "weak"), (2, "strong"), (3, "weak")])
_sums = _hierarchies.flatmap(lambda choice: _products(_factors(*choice)))
masks = st.one_of(_sums, st.builds(Plus, _sums, _sums), st.builds(Plus, st.builds(Plus, _sums, _sums), _sums))
