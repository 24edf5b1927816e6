"""A checked spec to the program of one token: its output, and every memory as the next token finds it.

With S what a memory keeps and A, k, v, q the step operator, key, value and query of the token,

    S <- A S + k v',    o = S' q

without a hierarchy. With one, o sums lam[level] q' (A S[level]) over the rows S and the token's own k v', which joins
the rows at level 0 before they are regrouped for the next position. A window keeps k and v themselves, the keys moved
on by A. Where A is one decay it goes into the logs of rows or keys, which are float64 whatever the state is: a sum of
many small decays has no digits to lose.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder, Program
from maskdsl.lowering.attend import SMALLEST_LOG, row_factor
from maskdsl.lowering.body import lower_body
from maskdsl.lowering.emit import CHUNK_HEADS, TOKEN_HEADS, Emitter
from maskdsl.lowering.expressions import Expressions
from maskdsl.lowering.memory import KEYS, LOGS, POSITIONS, STATE, STATES, VALUES, Memory, memories_of
from maskdsl.mask.nodes import Scalar
from maskdsl.mask.normal import Decay, Hierarchy, RankOne, without_flat_hierarchy
from maskdsl.mask.normalize import normalize
from maskdsl.mask.scalars import multiply
from maskdsl.mask.text import term_text
from maskdsl.spec import Attend, Spec


def lower_step(spec: Spec, ratios: Mapping[str, int] | None = None) -> Program:
    """The program of one token: from inputs [B, 1, ...], buffers and positions to `o` [B, 1, H, V] and new buffers.

    Buffers are loaded and put out under `Memory.full_name`, positions loaded under POSITIONS; `ratios` as in `lower`.
    """
    builder = Builder(spec.name)
    emit = Emitter(builder)
    expressions = Expressions(emit, token="1")
    kept: dict[str, str] = {}
    output = lower_body(
        spec, emit, expressions, ratios, lambda node, name: _attend(emit, expressions, node, name, kept)
    )
    return builder.program([("o", output), *kept.items()])


def _attend(emit: Emitter, expressions: Expressions, node: Attend, name: str, kept: dict[str, str]) -> str:
    """The value [B, 1, H, V] of an attend; `kept` gets the new buffers by their full names."""
    total = sympy.S.Zero
    for term, memory in zip(normalize(node.mask).terms, memories_of(name, node), strict=True):
        emit.builder.origin = term_text(term)
        _, weight = without_flat_hierarchy(term)
        step = TermStep(emit, expressions, memory, node)
        total += emit.ref(step.output()) * row_factor(emit, expressions, weight)
        kept |= step.kept()
    emit.builder.origin = "attend"
    scaled = emit.map(total * row_factor(emit, expressions, node.scale), TOKEN_HEADS, name)
    return expressions.over("V", scaled)


class TermStep:
    """One term at one token. Rows are [B, h, 1, 1, X]; a state is [B, H, M or 1, K, V], a ring [B, H, 1, R, X]."""

    def __init__(self, emit: Emitter, expressions: Expressions, memory: Memory, node: Attend) -> None:
        self.emit, self.expressions, self.memory, self.term = emit, expressions, memory, memory.term
        self.axes = {buffer.name: buffer.axes for buffer in memory.buffers}
        self.new: dict[str, str] = {}
        self.q, self.k, self.v = self._row(node.q, "q"), self._row(node.k, "k"), self._row(node.v, "v")

    def output(self) -> str:
        """The term's part of the attend, [B, 1, H, V]; makes the new buffers."""
        if self.term.window is not None:
            total = self._windowed()
        elif self.term.hierarchy is not None:
            total = self._by_level(self.term.hierarchy)
        else:
            total = self._recurrent()
        batch, head, *_, value = self.emit.type(total)
        return self.emit(ops.Align((batch, "1", head, value)), total, name="o_term")

    def kept(self) -> dict[str, str]:
        """The new buffers by their full names."""
        made = [(self.memory.full_name(each), each, self.new[each.name]) for each in self.memory.buffers]
        return {name: self._aligned(value, buffer.axes, f"{buffer.name}_kept") for name, buffer, value in made}

    # -- three ways to remember -----------------------------------------------------------------------------------

    def _recurrent(self) -> str:
        state = self.emit.add(self._moved(self._load(STATE)), self._written(), "state_new")
        self.new[STATE] = state
        return self.emit.dot(self.q, state, "o_row")

    def _by_level(self, hierarchy: Hierarchy) -> str:
        near, far = self._weights(hierarchy)
        states, logs = self._load(STATES), self._logs()
        pulled = self._ref(self.q) * self._ref(far)
        if logs:
            decay = self.emit(ops.Transpose(), self._decays(logs[0]), name="decay_row")
            pulled *= self._ref(decay)
        else:
            states = self._moved(states)
        reads = self.emit.dot(self.emit.map(pulled, CHUNK_HEADS, "pulled"), states, "reads")
        regroup = ops.Regroup(hierarchy.base, hierarchy.admissibility)
        kept = self.emit.builder.apply(regroup, self._positions(), self._written(), states, *logs, name="regrouped")
        self.new = dict(zip((STATES, LOGS), kept, strict=False))
        return self.emit.add(self.emit(ops.Sum((2,)), reads, name="o_far"), self._own(near), "o_row")

    def _windowed(self) -> str:
        hierarchy = self.term.hierarchy
        own = self._own(None if hierarchy is None else self._weights(hierarchy)[0])
        if not self.axes:
            return own
        keys, values, logs = self._load(KEYS), self._load(VALUES), self._logs()
        if logs:
            moved = self.emit.map(self._ref(keys) * self._ref(self._decays(logs[0])), CHUNK_HEADS, "keys_moved")
            self.new[LOGS] = self._enter(logs[0], self.emit(ops.Constant(sympy.S.Zero, ("1",) * 5), name="no_decay"))
        else:
            columns = self._moved(self.emit(ops.Transpose(), keys, name="key_columns"))
            keys = moved = self.emit(ops.Transpose(), columns, name="keys_moved")
        scores = self.emit.dot(self.q, moved, "scores", ty=True)
        if hierarchy is not None:
            weights = self._ref(self._slot_weights(hierarchy))
            scores = self.emit.map(self._ref(scores) * weights, CHUNK_HEADS, "weighted")
        self.new |= {KEYS: self._enter(keys, self.k), VALUES: self._enter(values, self.v)}
        return self.emit.add(self.emit.dot(scores, values, "o_far"), own, "o_row")

    # -- the token ------------------------------------------------------------------------------------------------

    def _own(self, near: str | None) -> str:
        """What the token reads of itself: (q' k) v, under the weight of level 0."""
        score = self.emit.dot(self.q, self.k, "score", ty=True)
        factor = sympy.S.One if near is None else self._ref(near)
        return self.emit.map(self._ref(score) * factor * self._ref(self.v), CHUNK_HEADS, "o_near")

    def _written(self) -> str:
        """k v', [B, H, 1, K, V]."""
        return self.emit.map(self._ref(self._column(self.k)) * self._ref(self.v), CHUNK_HEADS, "written")

    def _moved(self, state: str) -> str:
        """A state, or keys as columns, after the token's step operator."""
        for step in self.term.path:
            match step:
                case Decay(g):
                    change = self._ref(state) * sympy.exp(self._ref(self._gate(g)))
                case RankOne(a, b, coefficient):
                    read = self.emit.dot(self._row(b, "b"), state, "read")
                    column = self._column(self._row(Scalar(multiply(coefficient, a).expr, a.kind), "a"))
                    change = self._ref(state) + self._ref(column) * self._ref(read)
            state = self.emit.map(change, CHUNK_HEADS, "moved")
        return state

    def _gate(self, g: Scalar) -> str:
        """The token's log decay, [B, h, 1, 1, 1] or [B, h, 1, K, 1]; never -inf."""
        value = self.expressions.value(g, "g")
        bounded = self.emit.map(sympy.Max(self._ref(value), SMALLEST_LOG), TOKEN_HEADS, value)
        batch, token, head, *channel = self.emit.type(bounded)
        return self.emit(ops.Align((batch, head, token, *(channel or ["1"]), "1")), bounded, name="g_column")

    def _row(self, vector: Scalar, name: str) -> str:
        value = self.expressions.value(vector, name)
        batch, token, head, feature = self.emit.type(value)
        return self.emit(ops.Align((batch, head, token, "1", feature)), value, name=f"{name}_row")

    def _column(self, row: str) -> str:
        return self.emit(ops.Transpose(), row, name=row.replace("row", "column"))

    def _weights(self, hierarchy: Hierarchy) -> tuple[str, ...]:
        """The weight of level 0, [B, h, 1, 1, 1], and those of the rows, [B, h, M, 1, 1]."""
        lam = self.expressions.value(hierarchy.lam, "lam")
        batch, _, head, level = self.emit.type(lam)
        lam = self.emit(ops.Align((batch, head, level, "1", "1")), lam, name="lam_levels")
        return self.emit.builder.apply(ops.Split(2), lam, name="weights")

    def _slot_weights(self, hierarchy: Hierarchy) -> str:
        """The weights of what a ring holds, [B, h, 1, 1, R]."""
        select = ops.SelectSlots(ax.extent(self.axes[KEYS][2], {}), hierarchy.base, hierarchy.admissibility)
        return self.emit(select, self._positions(), self._row(hierarchy.lam, "lam"), name="slot_weights")

    # -- buffers --------------------------------------------------------------------------------------------------

    def _load(self, name: str) -> str:
        """A buffer under a type of five axes: a row of one element where there are no levels, features of one last."""
        batch, head, *rest = self.axes[name]
        rest = rest if rest[0] == "M" else ["1", *rest]
        value = self.emit(ops.Load(f"{self.memory.name}.{name}", self.axes[name]), name=name)
        return self._aligned(value, (batch, head, *rest, *["1"] * (3 - len(rest))), f"{name}_wide")

    def _aligned(self, value: str, axes: ops.Axes, name: str) -> str:
        return value if self.emit.type(value) == axes else self.emit(ops.Align(axes), value, name=name)

    def _logs(self) -> list[str]:
        """The logs after the token's decay, if the memory has any."""
        match self.term.path:
            case (Decay(g),) if LOGS in self.axes:
                # a decay is a column, as the rows of a state have it; keys are rows
                gate = self._gate(g)
                gate = gate if STATES in self.axes else self.emit(ops.Transpose(), gate, name="g_row")
                wide = self.emit(ops.Cast(wide=True), gate, name="g_double")
                return [self.emit.add(self._load(LOGS), wide, "logs_new")]
        return []

    def _decays(self, logs: str) -> str:
        factors = self.emit.map(sympy.exp(self._ref(logs)), CHUNK_HEADS, "decays")
        return self.emit(ops.Cast(wide=False), factors, name="decays_narrow")

    def _enter(self, ring: str, entry: str) -> str:
        ring, entry = self.emit.match(CHUNK_HEADS, ring, entry)
        return self.emit(ops.Enter(), self._positions(), ring, entry, name="entered")

    def _positions(self) -> str:
        return self.emit(ops.Load(POSITIONS, ("B",)), name="positions")

    def _ref(self, value: str) -> sympy.Symbol:
        return self.emit.ref(value)
