"""The masks of a spec as numbers, for pictures: one sequence, one head, small sizes, numpy.

Every value is an array [T, n] with n the feature size or 1, or [1, n] where it is the same for all positions; masks are
arrays [T, T, K, K], zero above the diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sympy

from maskdsl.mask.levels import level, levels
from maskdsl.mask.nodes import Kind, Scalar
from maskdsl.mask.normal import Decay, Hierarchy, NormalForm, RankOne, Step, Term
from maskdsl.spec import Input, L2Norm, Spec

Array = np.ndarray
KEY, VALUE = 8, 4
_GATES = (Kind.TOKEN, Kind.CHANNEL, Kind.HEAD, Kind.HEAD_CHANNEL)
OFFSETS = (0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0, -5.0, 5.0)


@dataclass(frozen=True)
class Values:
    """The values of all inputs and definitions of a spec by name, for sequences of `length` positions."""

    length: int
    names: Mapping[str, Array]

    def of(self, scalar: Scalar) -> Array:
        """The value of an expression."""
        symbols = sorted(scalar.expr.free_symbols, key=str)
        sizes = {"B": 1, "T": self.length, "H": 1, "Hk": 1, "K": KEY, "V": VALUE, "L": levels(self.length)}
        function = sympy.lambdify(symbols, scalar.expr, modules=[_FUNCTIONS, "numpy"])
        return np.atleast_2d(function(*(self.names.get(each.name, sizes.get(each.name)) for each in symbols)))


def sample(spec: Spec, forms: Mapping[str, NormalForm], length: int) -> Values:
    """Values that make a readable picture: random, but with gates shifted so that decays fade over its width."""

    def distance(offsets: dict[str, float]) -> float:
        values = _values(spec, forms, length, offsets)
        gates = [float(values.of(step.g).mean()) for form in forms.values() for step in _decays(form)]
        return sum(abs(math.log(max(-gate, 1e-9) * length / 4)) for gate in gates)

    offsets = {given.name: 0.0 for given in spec.inputs if given.kind in _GATES}
    for name in offsets:
        offsets = min(({**offsets, name: offset} for offset in OFFSETS), key=distance)
    return _values(spec, forms, length, offsets)


def mask(values: Values, form: NormalForm) -> Array:
    """M[t, s] of a whole mask."""
    return sum((_term(values, term) for term in form.terms), start=np.zeros(1))


def path(values: Values, steps: tuple[Step, ...]) -> Array:
    """M[t, s] = A[t] ... A[s+1] with A the product of `steps`, the first of them acting first."""
    result = np.zeros((values.length, values.length, KEY, KEY))
    operators = _operators(values, steps)
    for t in range(values.length):
        result[t, :t] = operators[t] @ result[t - 1, :t]
        result[t, t] = np.eye(KEY)
    return result


def level_weights(values: Values, hierarchy: Hierarchy) -> Array:
    """lam[t, level(t, s)] as [T, T]."""
    lam = np.broadcast_to(values.of(hierarchy.lam), (values.length, levels(values.length)))
    numbers = level_numbers(values.length, hierarchy)
    return np.where(numbers < 0, 0.0, np.take_along_axis(lam, np.maximum(numbers, 0), axis=1))


def level_numbers(length: int, hierarchy: Hierarchy) -> Array:
    """level(t, s) as integers [T, T], -1 above the diagonal."""
    result = np.full((length, length), -1)
    for t in range(length):
        result[t, : t + 1] = [level(t, s, hierarchy.base, hierarchy.admissibility) for s in range(t + 1)]
    return result


def band(length: int, width: int) -> Array:
    """1 where 0 <= t - s < width, else 0, as [T, T]."""
    return np.tri(length) - np.tri(length, k=-width)


def gain(operators: Array) -> Array:
    """How much M[t, s] scales a vector, its root mean square over directions; a number's own size."""
    return np.sqrt((operators**2).sum((-2, -1)) / KEY)


def _term(values: Values, term: Term) -> Array:
    weights = np.tri(values.length)
    if term.hierarchy:
        weights = weights * level_weights(values, term.hierarchy)
    if term.window is not None:
        weights = weights * band(values.length, term.window)
    return weights[..., None, None] * path(values, term.path)


def _operators(values: Values, steps: tuple[Step, ...]) -> Array:
    result = np.broadcast_to(np.eye(KEY), (values.length, KEY, KEY))
    for step in steps:
        result = _operator(values, step) @ result
    return result


def _operator(values: Values, step: Step) -> Array:
    match step:
        case Decay(g):
            return np.exp(values.of(g))[..., None] * np.eye(KEY)
        case RankOne(a, b, coefficient):
            scaled = values.of(coefficient) * values.of(a)
            return np.eye(KEY) + scaled[..., :, None] * values.of(b)[..., None, :]


def _decays(form: NormalForm) -> list[Decay]:
    return [step for term in form.terms for step in term.path if isinstance(step, Decay)]


def _values(spec: Spec, forms: Mapping[str, NormalForm], length: int, offsets: Mapping[str, float]) -> Values:
    generator = np.random.default_rng(0)
    names: dict[str, Array] = {given.name: _input(given, length, offsets, generator) for given in spec.inputs}
    for definition in spec.definitions:
        values = Values(length, dict(names))
        node = definition.node
        if isinstance(node, L2Norm):
            x = values.of(node.x)
            names[definition.name] = x / np.sqrt((x**2).sum(-1, keepdims=True) + node.eps)
        else:
            q, k, v, scale = (values.of(each) for each in (node.q, node.k, node.v, node.scale))
            q, k = (np.broadcast_to(each, (length, KEY)) for each in (q, k))
            scores = np.einsum("tk,tskl,sl->ts", q, mask(values, forms[definition.name]), k)
            names[definition.name] = scale * (scores @ np.broadcast_to(v, (length, VALUE)))
    return Values(length, names)


def _input(given: Input, length: int, offsets: Mapping[str, float], generator: np.random.Generator) -> Array:
    """Vectors as random directions, level weights falling with the level, gates near their offsets; all in range."""
    low, high = given.range.low, given.range.high
    match given.kind:
        case Kind.KEY | Kind.VALUE:
            value = generator.normal(size=(length, KEY if given.kind is Kind.KEY else VALUE)) / math.sqrt(KEY)
        case Kind.LEVEL:
            falling = np.exp(-0.3 * np.arange(levels(length)))
            value = falling * generator.uniform(0.7, 1.0, size=(length, levels(length)))
        case _:
            rows = 1 if given.kind in (Kind.HEAD, Kind.HEAD_CHANNEL) else length
            value = offsets[given.name] + generator.normal(size=(rows, KEY if given.kind.feature else 1))
            if high is not None and high <= 0 and low is None:
                value = high - 4 / length * np.exp(value)
    return np.clip(value, low, high) if low is not None or high is not None else value


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


_FUNCTIONS = {
    "sigmoid": _sigmoid,
    "logsigmoid": lambda x: -np.logaddexp(0, -x),
    "softplus": lambda x: np.logaddexp(0, x),
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
}
