"""What a kernel loads of the values of earlier phases, and what it computes again: a minimum cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import networkx as nx

from maskdsl.chunk import ops
from maskdsl.chunk.program import Program
from maskdsl.schedule.cost import elements, flops
from maskdsl.schedule.kinds import BETWEEN, is_pairs, solves_back
from maskdsl.schedule.phases import Phases
from maskdsl.schedule.rows import of_positions, scales_rows
from maskdsl.schedule.systems import scan_factors

BANDWIDTH = 3e12
"""Bytes a second that streaming kernels reach."""

DOTS = 1e14
"""Floating-point operations a second of matrix products on small tiles, with all that goes on around them."""

PRECISE = 2e13
"""The same of pairs of positions in a path, which are multiplied in more precision."""

ELEMENTWISE = 2e12
"""The same outside matrix products."""

KERNEL = 10**12
"""The price of one more kernel: a value that has none to make it is computed again, unless it must not be."""

OPERATIONS = 10
"""Operations a pair of positions that telling levels or spans takes."""

SPANS = 3
"""The same of the spans of a path, where registers are what is short: loading a tile takes as many."""


class Cut:
    """The prices of a program's values: to be stored, or made again. `memory` and `loads` cost nothing."""

    def __init__(
        self, program: Program, sizes: Mapping[str, int], phases: Phases, memory: set[str], loads: set[str]
    ) -> None:
        self.program, self.types, self.sizes, self.phases = program, program.types, sizes, phases
        self.memory, self.loads, self.maker = memory, loads, phases.maker
        self.gradients, self.precise = phases.gradients, phases.precise
        self.replaced = {i.operands[1] for i in program.instructions if isinstance(i.op, ops.Scan)}
        self.factors = scan_factors(program)
        scans = [i for i in program.instructions if isinstance(i.op, ops.SolvedScan)]
        self.steps = {next(self._bare(x)) for i in scans for x in i.operands[1:3]}
        written = [self.maker[x] for i in scans if solves_back(i) for x in i.operands[5:]]
        for vectors in (list(self._bare(i.operands[0])) for i in written if isinstance(i.op, ops.Dot)):
            # what is an input but for factors of its rows takes their place in the other factor of the product
            self.steps |= set(vectors) if vectors[-1] in loads else set()
        # products with the state of a chunk are at hand in any case
        self.replaced |= {x for i in scans for x in i.operands[5:]}
        self.scanned = {i.operands[1] for i in program.instructions if isinstance(i.op, ops.Resume)}

    def stored(
        self, needed: Iterable[str], before: int, wanted: Mapping[int, list[str]], split: bool, serial: int
    ) -> set[str]:
        """What a stage that needs values loads of those of phases up to `before`, the rest being computed again.

        That costs `serial` times as much as usual. Where key channels are `split` among programs, none can compute what
        is made of all of them.
        """
        graph: nx.DiGraph = nx.DiGraph()
        graph.add_nodes_from(["source", "sink"])
        pending, seen = [x for v in needed for x in self._frontier(v, before)], set()
        for value in pending:
            graph.add_edge((value, "out"), "sink")
        while pending:
            value = pending.pop()
            if value in seen or value in self.loads or value in self.memory:
                continue
            seen.add(value)
            again = {} if split and self.joins_channels(value) else self._again(value, serial)
            graph.add_edge("source", (value, "in"), **again)
            graph.add_edge((value, "in"), (value, "out"), **self._store(value, wanted))
            for operand in self.maker[value].operands:
                if operand not in self.loads and operand not in self.memory:
                    graph.add_edge((operand, "out"), (value, "in"))
                    pending.append(operand)
        graph.remove_nodes_from([n for n in graph if n != "sink" and n != "source" and n[0] not in seen])
        if not seen:
            return set()
        _, (reachable, _) = nx.minimum_cut(graph, "source", "sink")
        return {v for v in seen if (v, "in") in reachable and (v, "out") not in reachable}

    def _bare(self, value: str) -> Iterator[str]:
        """A value but for how it is laid out, then the same without factors of its rows, as far as there are any."""
        while value not in self.loads and isinstance(self.maker[value].op, ops.Chunk | ops.Repeat):
            (value,) = self.maker[value].operands
        yield value
        if value not in self.loads and scales_rows(self.maker[value], self.types):
            yield from self._bare(max(self.maker[value].operands, key=self._axes))

    def joins_channels(self, value: str) -> bool:
        """Whether a value is made of all key channels of another, or is or uses a matrix of channels."""
        made, used = self.types[value], [self.types[x] for x in self.maker[value].operands]
        return ("K" not in made and any("K" in axes for axes in used)) or ops.matrices([made, *used])

    def _frontier(self, value: str, before: int) -> Iterable[str]:
        """The last values of phases up to `before` on every way to a value."""
        pending, seen = [value], set()
        while pending:
            current = pending.pop()
            if current in seen or current in self.loads or current in self.memory:
                continue
            seen.add(current)
            if self.phases.of[current] <= before:
                yield current
            else:
                pending.extend(self.maker[current].operands)

    def _again(self, value: str, serial: int) -> dict[str, float]:
        """The time that computing a value again takes, in picoseconds; no bound for what is never done twice."""
        instruction = self.maker[value]
        if (
            isinstance(instruction.op, (*BETWEEN, ops.Inverse))
            or value in self.phases.rows
            or value in self.phases.again
        ):
            return {}
        if isinstance(instruction.op, ops.Dot):
            among_pairs = all(is_pairs(self.types[x]) for x in instruction.operands)
            rate = PRECISE if among_pairs and value in self.precise else DOTS
            time = flops(instruction, self.types, self.sizes) / rate
        elif isinstance(instruction.op, ops.Spans | ops.SpansAdjoint | ops.Select | ops.SelectAdjoint):
            pairs = max(elements(self.types[x], self.sizes) for x in (value, *instruction.operands))
            time = (SPANS if value in self.precise else OPERATIONS) * pairs / ELEMENTWISE
        elif isinstance(instruction.op, ops.Chunk | ops.Unchunk | ops.Repeat | ops.Cast) or (
            self._scales(value) and (serial == 1 or len(instruction.operands) == 1 or value in self.steps)
        ):
            time = 0.0
        elif isinstance(instruction.op, ops.Map):
            # what varies along fewer axes than the result costs next to nothing
            wide = [x for x in instruction.operands if self._axes(x) == self._axes(value)]
            time = len(wide) * elements(self.types[value], self.sizes) / ELEMENTWISE
        else:
            time = flops(instruction, self.types, self.sizes) / ELEMENTWISE
        return {"capacity": serial * (1 + round(1e12 * time))}

    def _scales(self, value: str) -> bool:
        """Whether a value is another one with its rows scaled: products take the factors where they cost least."""
        return bool(self.precise) and scales_rows(self.maker[value], self.types)

    def _store(self, value: str, wanted: Mapping[int, list[str]]) -> dict[str, float]:
        """The time that writing and reading a value takes, in picoseconds; much where that needs one more kernel.

        No bound for what a scan puts its results in the place of.
        """
        if value in self.replaced:
            return {}
        if value in wanted.get(self.phases.of[value], ()):
            return {"capacity": 1}
        if value in self.scanned:
            # a scan has left the decays of chunks in memory; only what is constant costs less to make
            return {"capacity": 2}
        phase = self.phases.of[value]
        # beside gradients, values of the forward pass are made again rather than kept
        own = phase in wanted and (
            value in (self.phases.rows if phase == 0 else self.types) if self.phases.rows else self._kept(value)
        )
        extra = 0 if own else KERNEL
        # rather what is scaled, or was rounded, than the result: others may load it too
        twice = 2.5 if self._scales(value) or self.maker[value].op == ops.Cast(wide=True) else 2
        return {"capacity": extra + 1 + round(1e12 * twice * self._bytes(value) / BANDWIDTH)}

    def _kept(self, value: str) -> bool:
        narrowed = self.maker[value].op == ops.Cast(wide=False)
        norm = bool(self.precise) and of_positions(self.types[value])
        if value in self.factors:
            return True
        return not self.gradients or value in self.gradients or value in self.precise or narrowed or norm

    def _axes(self, value: str) -> int:
        return sum(axis != "1" for axis in self.types[value])

    def _bytes(self, value: str) -> int:
        """Bytes of a value in memory, where tiles of gradients are kept in half precision."""
        types = self.types[value]
        narrow = self.maker[value].op == ops.Cast(wide=False) or value in self.factors
        half = (narrow or value in self.gradients) and len(types) == 5 and "1" not in types
        return (2 if half else 4) * elements(types, self.sizes)
