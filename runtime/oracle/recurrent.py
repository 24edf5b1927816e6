"""The recurrent oracle: what each term of a mask keeps, moved on token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import count
from typing import Self, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from maskdsl.language.syntax import Assignment, Binary, Call, Declaration, Expression, Name, Node
from maskdsl.mask.levels import Admissibility, level
from maskdsl.runtime.oracle.expressions import ATTEND, Evaluator, Value, arguments, children
from maskdsl.runtime.oracle.memories import Buffers, Level, Memory, Ring, Runs
from maskdsl.spec import Spec

SEGMENT = 64


State = Mapping[str, Mapping[str, Tensor]]
"""Buffers by memory: `attend_1_2` is the second term, as the spec writes them, of the first attend without a name."""


def recurrent(spec: Spec, inputs: Mapping[str, Tensor]) -> Tensor:
    """The output [B, T, H, V], from S[t] = A[t] S[t-1] + k[t] v[t]' and o[t] = S[t]' q[t]; linear in T.

    Works in the widest dtype of the inputs, float32 at the least, and is differentiable.
    """
    return recurrent_with_state(spec, inputs)[0]


def recurrent_with_state(
    spec: Spec, inputs: Mapping[str, Tensor], state: State | None = None, positions: Sequence[int] | None = None
) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
    """The output for tokens that follow on a state, and the state after them; one token at a time is a step.

    `positions` says for each sequence how many tokens `state` has seen; None is the start of all. The state that comes
    back has what its logs would say multiplied in, and no logs. Differentiable in inputs and state.
    """
    run = _Recurrence(spec, state, positions)
    return Evaluator(spec, inputs, run.attend).output(), run.final


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


class _Recurrence:
    """The meaning of attends that go on from a state; `final` collects what they leave."""

    def __init__(self, spec: Spec, state: State | None, positions: Sequence[int] | None) -> None:
        self.names = _names(spec)
        self.state, self.positions = state, positions
        self.final: dict[str, dict[str, Tensor]] = {}

    def attend(self, evaluator: Evaluator, call: Call) -> Value:
        """The value of one attend."""
        given = arguments(call, ATTEND)
        q, k, v = (evaluator.full(given[name]) for name in ("q", "k", "v"))
        outputs = []
        for number, product in enumerate(_products(evaluator, given["mask"]), start=1):
            name = f"{self.names[call]}_{number}"
            output, self.final[name] = self._each_position(_term(evaluator, product, q, k, v), name)
            outputs.append(output)
        total = reduce(torch.add, outputs)
        if "scale" in given:
            total = total * evaluator.value(given["scale"]).tensor
        return Value(total, "V")

    def _each_position(self, term: _Term, name: str) -> tuple[Tensor, dict[str, Tensor]]:
        """A term over sequences that need not stand at one position: those that do run together."""
        if self.positions is None or self.state is None:
            return term.run(0, None)
        results: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}
        for pos in set(self.positions):
            rows = [row for row, other in enumerate(self.positions) if other == pos]
            buffers = {buffer: x[rows] for buffer, x in self.state[name].items()}
            output, kept = term.rows(rows).run(pos, buffers)
            for place, row in enumerate(rows):
                results[row] = output[place], {buffer: x[place] for buffer, x in kept.items()}
        ordered = [results[row] for row in range(len(self.positions))]
        kept = {buffer: torch.stack([each[buffer] for _, each in ordered]) for buffer in ordered[0][1]}
        return torch.stack([output for output, _ in ordered]), kept


def _names(spec: Spec) -> dict[Call, str]:
    """What each attend is called: the name it is assigned to, or a number among those without one."""
    assigned = {line.value: line.name for line in reversed(spec.syntax.body) if isinstance(line, Assignment)}
    taken = {each.name for line in spec.syntax.body if isinstance(line, Declaration) for each in line.names}
    free = (name for name in map("attend_{}".format, count(1)) if name not in taken | set(assigned.values()))
    names: dict[Call, str] = {}
    for call in _attends(spec.syntax):
        if call not in names:
            names[call] = assigned.get(call) or next(free)
    return names


def _attends(node: Node) -> Iterator[Call]:
    """Every attend below a node of the syntax tree, after those that it is computed from."""
    for child in children(node):
        yield from _attends(child)
    if isinstance(node, Call) and node.function == "attend":
        yield node


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

    def rows(self, rows: list[int]) -> Self:
        """Some sequences only."""
        return type(self)(*(tensor[rows] for tensor in vars(self).values()))

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


@dataclass(frozen=True)
class _Term:
    """One product of a mask over the tokens of a call; a window of None is none."""

    tokens: _Tokens
    steps: tuple[_Step, ...]
    level: Level | None
    window: int | None

    def rows(self, rows: list[int]) -> _Term:
        """Some sequences only."""
        steps = tuple(step.rows(rows) for step in self.steps)
        return _Term(self.tokens.rows(rows), steps, self.level, self.window)

    def run(self, pos: int, buffers: Buffers | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The output [B, T, H, V] of tokens from position `pos` on, and the buffers after them."""

        def segment(memory: Memory, start: int, *streams: _Stream) -> tuple[Memory, Tensor]:
            outputs = []
            for t, (token, *moves) in enumerate(zip(*(stream.tokens() for stream in streams), strict=True), start):
                for step in moves:
                    memory = memory.advance(step)
                memory = memory.push(t, token.key, token.value)
                outputs.append(memory.read(t, token.query, token.lam))
            return memory, torch.cat(outputs, dim=-2)

        memory, outputs, end = self._memory(pos, buffers), [], pos
        for streams in zip(*(stream.segments() for stream in (self.tokens, *self.steps)), strict=True):
            # Recomputing a segment in the backward pass is far cheaper than keeping the states of every token.
            memory, output = checkpoint(segment, memory, end, *streams, use_reentrant=False, preserve_rng_state=False)
            outputs.append(output)
            end += output.shape[-2]
        kept = memory.kept(end, self.tokens.lam.shape[-1] - 1) if isinstance(memory, Runs) else memory.kept(end)
        return torch.cat(outputs, dim=-2).transpose(1, 2), kept

    def _memory(self, pos: int, buffers: Buffers | None) -> Memory:
        """What the tokens before `pos` have left."""
        q, v = self.tokens.query.squeeze(-2), self.tokens.value.squeeze(-2)
        if self.window is None:
            return Runs.restored(self.level, pos, buffers) if buffers else Runs.empty(q, v, self.level)
        if buffers:
            return Ring.restored(self.level, self.window, pos, buffers)
        return Ring.empty(q, v, self.level, self.window)


def _term(evaluator: Evaluator, product: _Product, q: Tensor, k: Tensor, v: Tensor) -> _Term:
    level, lam = _hierarchy(evaluator, product.hierarchies)
    tokens = _Tokens(q.unsqueeze(-2), k.unsqueeze(-1), v.unsqueeze(-2), lam.unsqueeze(-2))
    steps = tuple(_step(evaluator, call) for call in reversed(product.steps))
    return _Term(tokens, steps, level, min(product.windows, default=None))


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


def _hierarchy(evaluator: Evaluator, calls: tuple[Call, ...]) -> tuple[Level | None, Tensor]:
    """The level function that all `calls` share, and the product of their weights, [B, T, H, L].

    None and [B, T, H, 1] without any, or where every level weighs the same.
    """
    lam = torch.ones(*evaluator.shape, 1, dtype=evaluator.dtype, device=evaluator.device)
    given = [arguments(call, ("lam", "base", "admissibility")) for call in calls]
    factors = [evaluator.full(each["lam"]) for each in given]
    for factor in factors:
        lam = lam * (factor if factor.ndim == 4 else factor.unsqueeze(-1))
    if all(factor.ndim < 4 for factor in factors):
        return None, lam
    base = evaluator.integer(given[0]["base"]) if "base" in given[0] else 2
    word = evaluator.word(given[0]["admissibility"]) if "admissibility" in given[0] else "weak"
    return partial(level, base=base, admissibility=cast(Admissibility, word)), lam
