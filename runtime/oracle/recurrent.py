"""The recurrent oracle: one state for each run of key positions that share a level, moved on token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import groupby
from typing import Self, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from maskdsl.language.syntax import Binary, Call, Expression, Name
from maskdsl.mask.levels import Admissibility, level
from maskdsl.runtime.oracle.expressions import ATTEND, Evaluator, Value, arguments
from maskdsl.spec import Spec

SEGMENT = 64


def recurrent(spec: Spec, inputs: Mapping[str, Tensor]) -> Tensor:
    """The output [B, T, H, V], from S[t] = A[t] S[t-1] + k[t] v[t]' and o[t] = S[t]' q[t]; linear in T.

    Works in the widest dtype of the inputs, float32 at the least, and is differentiable.
    """
    return Evaluator(spec, inputs, _attend).output()


@dataclass(frozen=True)
class _Product:
    """One term of a mask multiplied out: step operators in the order of a matrix product, hierarchies, windows."""

    steps: tuple[Call, ...] = ()
    hierarchies: tuple[Call, ...] = ()
    windows: tuple[int, ...] = ()

    def __mul__(self, other: _Product) -> _Product:
        return _Product(self.steps + other.steps, self.hierarchies + other.hierarchies, self.windows + other.windows)


def _products(evaluator: Evaluator, expression: Expression) -> list[_Product]:
    """The terms of a mask; `*` and `@` both put step operators side by side, and `*` goes over sums."""
    mask = evaluator.resolve(expression)
    match mask:
        case Binary("+", left, right):
            return _products(evaluator, left) + _products(evaluator, right)
        case Binary("*" | "@", left, right):
            return [x * y for x in _products(evaluator, left) for y in _products(evaluator, right)]
        case Name("causal"):
            return [_Product()]
        case Call("fenwick"):
            return [_Product(hierarchies=(mask,))]
        case Call("window"):
            return [_Product(windows=(evaluator.integer(arguments(mask, ("w",))["w"]),))]
        case Call("semiseparable" | "delta" | "rank1"):
            return [_Product(steps=(mask,))]
    raise TypeError(f"The recurrent oracle knows no mask {mask!r}.")


def _attend(evaluator: Evaluator, call: Call) -> Value:
    given = arguments(call, ATTEND)
    q, k, v = (evaluator.full(given[name]) for name in ("q", "k", "v"))
    output = reduce(torch.add, (_run(evaluator, term, q, k, v) for term in _products(evaluator, given["mask"])))
    if "scale" in given:
        output = output * evaluator.value(given["scale"]).tensor
    return Value(output, "V")


def _run(evaluator: Evaluator, term: _Product, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One term over all tokens, [B, T, H, V]."""
    steps = [_step(evaluator, call) for call in reversed(term.steps)]
    levels, lam = _hierarchy(evaluator, term.hierarchies)
    tokens = _Tokens(q.unsqueeze(-2), k.unsqueeze(-1), v.unsqueeze(-2), lam.unsqueeze(-2))

    def segment(memory: _Memory, start: int, *streams: _Stream) -> tuple[_Memory, Tensor]:
        outputs = []
        for t, (token, *moves) in enumerate(zip(*(stream.tokens() for stream in streams), strict=True), start):
            for step in moves:
                memory = memory.advance(step)
            memory = memory.push(t, token.key, token.value)
            outputs.append(memory.read(t, token.query, token.lam))
        return memory, torch.cat(outputs, dim=-2)

    memory: _Memory = _Ring.empty(q, v, levels, min(term.windows)) if term.windows else _States.empty(q, v, levels)
    outputs = []
    for number, streams in enumerate(zip(*(stream.segments() for stream in (tokens, *steps)), strict=True)):
        # Recomputing a segment in the backward pass is far cheaper than keeping the states of every token.
        memory, output = checkpoint(
            segment, memory, number * SEGMENT, *streams, use_reentrant=False, preserve_rng_state=False
        )
        outputs.append(output)
    return torch.cat(outputs, dim=-2).transpose(1, 2)


class _Stream:
    """Tensors [B, T, ...], the fields of a dataclass, to be cut along T.

    They are cut all at once: the gradient of indexing token by token would be quadratic in T.
    """

    def segments(self) -> Iterator[Self]:
        """One for every `SEGMENT` tokens."""
        return self._cut(lambda tensor: tensor.split(SEGMENT, dim=1))

    def tokens(self) -> Iterator[Self]:
        """One for every token, with fields [B, ...]."""
        return self._cut(lambda tensor: tensor.unbind(dim=1))

    def _cut(self, cut: Callable[[Tensor], tuple[Tensor, ...]]) -> Iterator[Self]:
        return map(type(self), *(cut(tensor) for tensor in vars(self).values()))


@dataclass(frozen=True)
class _Tokens(_Stream):
    """Queries [..., 1, K], keys [..., K, 1], values [..., 1, V] and level weights [..., 1, L] over [B, T, H]."""

    query: Tensor
    key: Tensor
    value: Tensor
    lam: Tensor


@dataclass(frozen=True)
class _Decay(_Stream):
    """The step S -> factor * S, the factor [B, T, H, 1, 1] or [B, T, H, K, 1]."""

    factor: Tensor

    def __call__(self, state: Tensor) -> Tensor:
        return self.factor * state


@dataclass(frozen=True)
class _RankOne(_Stream):
    """The step S -> S + a b' S, a as columns [B, T, H, K, 1] and b as rows [B, T, H, 1, K]."""

    column: Tensor
    row: Tensor

    def __call__(self, state: Tensor) -> Tensor:
        return state + self.column * (self.row @ state)


_Step = _Decay | _RankOne


def _step(evaluator: Evaluator, call: Call) -> _Step:
    match call.function:
        case "semiseparable":
            g = evaluator.full(arguments(call, ("g",))["g"])
            return _Decay((g[..., None, None] if g.ndim == 3 else g[..., None]).exp())
        case "delta":
            given = arguments(call, ("k", "beta"))
            a = -evaluator.full(given["beta"]).unsqueeze(-1) * evaluator.full(given["k"])
            return _RankOne(a.unsqueeze(-1), evaluator.full(given["k"]).unsqueeze(-2))
        case _:
            given = arguments(call, ("a", "b"))
            return _RankOne(evaluator.full(given["a"]).unsqueeze(-1), evaluator.full(given["b"]).unsqueeze(-2))


_Level = Callable[[int, int], int]


def _hierarchy(evaluator: Evaluator, calls: tuple[Call, ...]) -> tuple[_Level | None, Tensor]:
    """The level function that all `calls` share, None without any, and the product of their weights.

    The weights are [B, T, H, L], or [B, T, H, 1] where they are the same on every level.
    """
    lam = torch.ones(*evaluator.shape, 1, dtype=evaluator.dtype, device=evaluator.device)
    if not calls:
        return None, lam
    given = [arguments(call, ("lam", "base", "admissibility")) for call in calls]
    for each in given:
        factor = evaluator.full(each["lam"])
        lam = lam * (factor if factor.ndim == 4 else factor.unsqueeze(-1))
    base = evaluator.integer(given[0]["base"]) if "base" in given[0] else 2
    word = evaluator.word(given[0]["admissibility"]) if "admissibility" in given[0] else "weak"
    return partial(level, base=base, admissibility=cast(Admissibility, word)), lam


def _weights(lam: Tensor, levels: Iterable[int]) -> Tensor:
    """lam [B, H, 1, L] at each of the levels, or as it is where it is the same on every level."""
    return lam[..., list(levels)] if lam.shape[-1] > 1 else lam


@dataclass(frozen=True)
class _States:
    """One state [B, H, K, V] for each run of positions that share a level, stacked in the order of the positions."""

    level: _Level | None
    starts: tuple[int, ...]
    stack: Tensor

    @classmethod
    def empty(cls, q: Tensor, v: Tensor, level: _Level | None) -> _States:
        """No run yet, or one without positions where no hierarchy tells runs apart."""
        batch, _, heads, features = q.shape
        runs = 0 if level else 1
        return cls(level, (), q.new_zeros(runs, batch, heads, features, v.shape[-1]))

    def advance(self, step: _Step) -> _States:
        """Applies a step operator to every state."""
        return replace(self, stack=step(self.stack))

    def push(self, t: int, key: Tensor, value: Tensor) -> _States:
        """Adds k[t] v[t]', as a run of its own where there are levels, after joining runs that now share one."""
        if self.level is None:
            return replace(self, stack=self.stack + key * value)
        runs = [list(run) for _, run in groupby(self.starts, partial(self.level, t))]
        parts = self.stack.split([len(run) for run in runs]) if runs else ()
        joined = [part.sum(0, keepdim=True) if len(part) > 1 else part for part in parts]
        stack = torch.cat([*joined, (key * value).unsqueeze(0)])
        return replace(self, starts=(*(run[0] for run in runs), t), stack=stack)

    def read(self, t: int, query: Tensor, lam: Tensor) -> Tensor:
        """The weighted sum of S' q over the runs, [B, H, 1, V]."""
        reads = query @ self.stack
        if self.level is None:
            return reads[0]
        weights = _weights(lam, map(partial(self.level, t), self.starts))
        return (weights.movedim(-1, 0).unsqueeze(-1) * reads).sum(0)


@dataclass(frozen=True)
class _Ring:
    """The last `width` keys [B, H, K, n], each moved on by the steps since it came, and values [B, H, n, V]."""

    level: _Level | None
    width: int
    keys: Tensor
    values: Tensor

    @classmethod
    def empty(cls, q: Tensor, v: Tensor, level: _Level | None, width: int) -> _Ring:
        """No key yet."""
        batch, _, heads, features = q.shape
        keys, values = q.new_zeros(batch, heads, features, 0), v.new_zeros(batch, heads, 0, v.shape[-1])
        return cls(level, width, keys, values)

    def advance(self, step: _Step) -> _Ring:
        """Applies a step operator to every key."""
        return replace(self, keys=step(self.keys))

    def push(self, t: int, key: Tensor, value: Tensor) -> _Ring:
        """Takes in a key and value, and forgets those that the window has left behind."""
        first = max(0, self.keys.shape[-1] + 1 - self.width)
        keys = torch.cat([self.keys[..., first:], key], dim=-1)
        return replace(self, keys=keys, values=torch.cat([self.values[..., first:, :], value], dim=-2))

    def read(self, t: int, query: Tensor, lam: Tensor) -> Tensor:
        """The sum of (q' M[t, s] k[s]) v[s] over the window, [B, H, 1, V]."""
        scores = query @ self.keys
        if self.level is not None:
            positions = range(t + 1 - scores.shape[-1], t + 1)
            scores = scores * _weights(lam, map(partial(self.level, t), positions))
        return scores @ self.values


_Memory = _States | _Ring
