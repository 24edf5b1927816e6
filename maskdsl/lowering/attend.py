"""One attend: the terms of its mask, each lowered to a block a chunk and a graph between chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import sympy

from maskdsl.chunk import ops
from maskdsl.lowering.chunking import chunk_size, lags_of
from maskdsl.lowering.emit import CHUNK_HEADS, TOKEN_HEADS, Emitter
from maskdsl.lowering.expressions import Expressions
from maskdsl.lowering.hand import handed
from maskdsl.lowering.memory import Memory, memories_of
from maskdsl.lowering.path import Block, Reflection, block, decays, solved, steps
from maskdsl.lowering.timeline import Timeline, Vector, timeline
from maskdsl.mask.nodes import Kind, Scalar
from maskdsl.mask.normal import Decay, Hierarchy, RankOne, Term, without_flat_hierarchy
from maskdsl.mask.normalize import normalize
from maskdsl.mask.scalars import ONE, multiply
from maskdsl.mask.text import term_text
from maskdsl.spec import Attend

SMALLEST_LOG = -1e4
"""exp of anything below is 0 in float64; the bound keeps -inf (a gate that forgets everything) out of 0 * inf."""


def lower_attend(emit: Emitter, expressions: Expressions, node: Attend, name: str, chunk: int | None) -> str:
    """The value [B, T, H, V] of an attend; `chunk` overrides the chunk size of every term."""
    total = sympy.S.Zero
    memories = memories_of(name, node)
    if node.scale.kind is Kind.CONST and all(_is_solved(memory.term) for memory in memories):
        # queries are scaled on the way anyway, and gradients of the output stay as they came
        node = dataclasses.replace(node, q=multiply(node.scale, node.q), scale=ONE)
    for term, memory in zip(normalize(node.mask).terms, memories, strict=True):
        emit.builder.origin = term_text(term)
        term, weight = without_flat_hierarchy(term)
        part = TermLowering(emit, expressions, memory, chunk_size(term, chunk)).output(node)
        total += emit.ref(part) * row_factor(emit, expressions, weight)
    emit.builder.origin = "attend"
    scaled = emit.map(total * row_factor(emit, expressions, node.scale), TOKEN_HEADS, name)
    return expressions.over("V", scaled)


def _is_solved(term: Term) -> bool:
    """Whether a term has rank-one steps in a scan, which solves their systems."""
    return any(isinstance(step, RankOne) for step in term.path) and term.hierarchy is None and term.window is None


def row_factor(emit: Emitter, expressions: Expressions, factor: Scalar) -> sympy.Expr:
    """A factor a token and head beside [B, T, H, V]."""
    if factor.kind is Kind.CONST:
        return expressions.constant(factor.expr)
    value = expressions.value(factor, "factor")
    return emit.ref(emit(ops.Align((*emit.type(value), "1")), value, name="factor"))


class TermLowering:
    """One term over chunks of one size."""

    def __init__(self, emit: Emitter, expressions: Expressions, memory: Memory, size: int) -> None:
        self.emit, self.expressions, self.memory, self.size = emit, expressions, memory, size
        self.term = memory.term
        self.reflecting = any(isinstance(step, RankOne) for step in self.term.path)

    def output(self, node: Attend) -> str:
        """The term's part of the attend, [B, T, H, V]."""
        total = self._solved(node) if _is_solved(self.term) else self._blocks(node)
        return self.emit.unchunk(total, self.size, "o_term")

    def _values(self, node: Attend) -> str:
        return self.emit.chunk(self.emit.every_token(self.expressions.value(node.v, "v")), self.size)

    def _blocks(self, node: Attend) -> str:
        """Chunks as blocks that are known before any state."""
        part = block(self.emit, *self._path(node, self.reflecting))
        if self.reflecting:
            part = part.changed(self._narrow)
        v = self._values(node)
        near = self.emit.dot(self._masked(part.scores), v, "inside")
        far = self._handed(part, v) if self.emit.hand.laid else self._far(part, v)
        return near if far is None else self.emit.add(near, far, "o_chunks")

    def _solved(self, node: Attend) -> str:
        """Rank-one steps in a scan, which solves for what they read of the states that it carries."""
        emit = self.emit
        time, reflections, q, k = self._path(node, wide=False)
        plain, found = decays(time, q, k), steps(emit, time, reflections, q, k)
        path = self._path(node, wide=True)
        precise = steps(emit, *path)
        inverse, v = self._narrow(solved(emit, precise)), self._values(node)
        writes = () if found.reads is None else (emit.dot(plain.pushed, v, "states", tx=True),)
        values = v
        if precise.reads is not None:
            values = self._narrow(emit.dot(precise.reads, self._precise(v, wide=True), "reads_values"))
        pulled, *operands = emit.match(
            CHUNK_HEADS, plain.pulled, plain.decay, found.leaving, found.entering, values, inverse, *writes
        )
        op = ops.SolvedScan(initial=emit.hand.initial, final=emit.hand.final)
        before, written, *last = emit.builder.apply(op, *operands, *self._first_state(), name="before")
        self._keep(last)
        inside = emit.dot(precise.answers, self._precise(written, wide=True), "inside")
        if found.reads is not None:
            own = emit.dot(decays(path[0], path[2], path[3]).scores, self._precise(v, wide=True), "own")
            inside = emit.add(own, inside, "inside_all")
        return emit.add(self._narrow(inside), emit.dot(pulled, before, "carried_over"), "o_chunks")

    def _path(self, node: Attend, wide: bool) -> tuple[Timeline, list[Reflection], Vector, Vector]:
        """The path of a chunk with its queries and keys, in more than the precision of the call where `wide`."""
        gates: list[str] = []
        reflections = []
        for step in self.term.path:
            match step:
                case Decay(g):
                    gates.append(self._gate(g, wide))
                case RankOne(a, b, coefficient):
                    weighted = Scalar(multiply(coefficient, a).expr, a.kind)
                    vectors = self._vector(weighted, "a", wide), self._vector(b, "b", wide)
                    reflections.append(Reflection(*vectors, len(gates)))
        time = timeline(self.emit, self.size, gates)
        return time, reflections, self._vector(node.q, "q", wide), self._vector(node.k, "k", wide)

    def _gate(self, g: Scalar, wide: bool) -> str:
        value = self.expressions.value(g, "g")
        bounded = self.emit.map(sympy.Max(self.emit.ref(value), SMALLEST_LOG), TOKEN_HEADS, value)
        return self._precise(self.emit.chunk(self.emit.every_token(bounded), self.size), wide)

    def _vector(self, vector: Scalar, name: str, wide: bool) -> Vector:
        coefficient, rest = self.expressions.split(vector)
        value = self.emit.chunk(self.emit.every_token(self.expressions.value(rest, name)), self.size)
        if coefficient.kind is Kind.CONST:
            return Vector(self._precise(value, wide), self.expressions.constant(coefficient.expr))
        factor = self.emit.chunk(self.expressions.value(coefficient, f"{name}_scale"), self.size)
        return Vector(self._precise(value, wide), self._precise(factor, wide))

    def _precise(self, value: str, wide: bool) -> str:
        """A value in the precision of the path.

        What a chunk of rank-one steps adds up can cancel: reflections (beta = 2) along nearly parallel keys lose two
        digits in 64 positions, growing operators more. In float64 nothing is lost, and only this part pays for it.
        """
        return self.emit(ops.Cast(wide=True), value, name=f"{value}_double") if wide else value

    def _narrow(self, value: str) -> str:
        return self.emit(ops.Cast(wide=False), value, name=f"{value}_narrow")

    def _masked(self, scores: str) -> str:
        """The scores inside a chunk under the term's hierarchy and window."""
        if self.term.hierarchy is not None:
            h = self.term.hierarchy
            weights = self.emit(ops.Select(h.base, h.admissibility), self._weights(h), name="weights")
            scores = self.emit.map(self.emit.ref(scores) * self.emit.ref(weights), CHUNK_HEADS, "weighted")
        if self.term.window is not None and self.term.window < self.size:
            scores = self.emit(ops.Near(self.term.window), scores, name="windowed")
        return scores

    def _far(self, part: Block, v: str) -> str | None:
        """What a chunk reads of the chunks before it."""
        if self.term.window is not None:
            lags = lags_of(self.term.window, self.size)
            return self._band(part, v, lags) if lags else None
        states = self.emit.dot(part.pushed, v, "states", tx=True)
        hierarchy, hand = self.term.hierarchy, self.emit.hand
        if hierarchy is None:
            pulled, *operands = self.emit.match(CHUNK_HEADS, part.pulled, part.decay, states)
            op = ops.Scan(initial=hand.initial, final=hand.final)
            before, *last = self.emit.builder.apply(op, *operands, *self._first_state(), name="before")
            self._keep(last)
            return self.emit.dot(pulled, before, "carried_over")
        operator, states, pulled = self.emit.match(CHUNK_HEADS, self._operator(part), states, part.pulled)
        weights = self._weights(hierarchy)
        near = None
        if hierarchy.admissibility == "strong":
            near = self._band(part, v, 1)
            pulled = self._past(pulled, operator)
        operators, blocks = self.emit.builder.apply(ops.Tree(hierarchy.base), operator, states, name="tree")
        walk = ops.Walk(hierarchy.base, hierarchy.admissibility)
        far = self.emit(walk, pulled, operators, blocks, weights, name="walked")
        return far if near is None else self.emit.add(near, far, "beyond")

    def _first_state(self) -> list[str]:
        """The state before the first chunk, where one is handed in."""
        if not self.emit.hand.initial:
            return []
        return [self._entering(name, axes) for name, axes in handed(self.memory).items()]

    def _keep(self, memories: Sequence[str]) -> None:
        """Memories after the last chunk, as they are handed out."""
        for (name, axes), value in zip(handed(self.memory).items(), memories, strict=False):
            whole = self.emit.type(value) == axes
            self.emit.final[name] = value if whole else self.emit(ops.Expand(axes), value, name="handed_whole")

    def _handed(self, part: Block, v: str) -> str | None:
        """What a slot reads of its sequence's memory, which it hands on to the next."""
        buffers, hierarchy, window = handed(self.memory), self.term.hierarchy, self.term.window
        hand = self.emit.hand
        if not buffers:
            return None
        before = [self._entering(name, axes) if hand.initial else self._nothing(axes) for name, axes in buffers.items()]
        weights = [] if hierarchy is None else [self._weights(hierarchy)]
        base, admissibility = (hierarchy.base, hierarchy.admissibility) if hierarchy else (2, "weak")
        op = ops.Relay(base, admissibility) if window is None else ops.Slide(window, base, admissibility)
        operands = part.pulled, part.decay, part.pushed, v, *before, *weights, *part.rank_one
        out, *after = self.emit.builder.apply(op, *self.emit.match(CHUNK_HEADS, *operands), name="handed")
        self._keep(after if hand.final else [])
        return out

    def _entering(self, name: str, axes: ops.Axes) -> str:
        return self.emit(ops.Load(name, axes), name=name.replace(".", "_"))

    def _nothing(self, axes: ops.Axes) -> str:
        """A memory of no token."""
        return self.emit(ops.Constant(sympy.S.Zero, ("1", "1", "1", *axes[3:])), name="nothing")

    def _band(self, part: Block, v: str, lags: int) -> str:
        hierarchy = self.term.hierarchy
        values = [part.pulled, self._operator(part), part.pushed, v]
        if hierarchy is not None:
            values.append(self._weights(hierarchy))
        base, admissibility = (hierarchy.base, hierarchy.admissibility) if hierarchy else (2, "weak")
        op = ops.Band(lags, self.term.window, base, admissibility)
        return self.emit(op, *self.emit.match(CHUNK_HEADS, *values), name="banded")

    def _operator(self, part: Block) -> str:
        """The product of a chunk's steps: its log, or a matrix."""
        if not part.rank_one:
            return part.decay
        identity = self.emit.ref(self.emit(ops.Identity(), name="identity"))
        decay = self.emit.map(sympy.exp(self.emit.ref(part.decay)) * identity, CHUNK_HEADS, "decay_matrix")
        leaving, carried = part.rank_one
        return self.emit.add(decay, self.emit.dot(leaving, carried, "reflected", tx=True), "operator_path")

    def _past(self, pulled: str, operator: str) -> str:
        """Queries pulled back over the chunk before their own."""
        previous = self.emit(ops.Shift(1), operator, name="previous")
        rows, columns = self.emit.type(previous)[-2:]
        if rows == columns == "K":
            return self.emit.dot(pulled, previous, "pulled_past")
        if rows == "K":
            previous = self.emit(ops.Transpose(), previous, name="previous_row")
        return self.emit.map(self.emit.ref(pulled) * sympy.exp(self.emit.ref(previous)), CHUNK_HEADS, "pulled_past")

    def _weights(self, hierarchy: Hierarchy) -> str:
        """Level weights at chunk level, [B, H, N, C, L]."""
        return self.emit.chunk(self.emit.every_token(self.expressions.value(hierarchy.lam, "lam")), self.size)
