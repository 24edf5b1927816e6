"""A spec and its peers over sequence lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from maskdsl.runtime.benchmark.bench import Bench, compare
from maskdsl.runtime.benchmark.errors import probe, relative
from maskdsl.runtime.benchmark.measure import Row
from maskdsl.runtime.benchmark.task import Task
from maskdsl.runtime.compiled import Attention


@dataclass(frozen=True, kw_only=True)
class Sweep(Task):
    """What to measure: a call of `batch` sequences for each of the lengths, and whether to compare with float64."""

    lengths: tuple[int, ...]
    batch: int
    check: bool

    @property
    def sizes(self) -> str:
        """All that the calls share, as a title."""
        return f"B = {self.batch}, {super().sizes}"

    @property
    def count(self) -> int:
        """How many rows there will be."""
        return len(self.lengths) * (1 + len(self.peers))

    def rows(self, attention: Attention, bench: Bench, started: Callable[[str], None]) -> Iterator[Row]:
        """A row for each length and system; `started` is told what comes next."""
        for length in self.lengths:
            problem = self.problem(attention.spec, self.batch, length)
            inputs = problem.inputs()
            asked = exact = None
            if self.check:
                started(f"reference, T = {length}")
                asked = probe(attention, problem, inputs)
                exact = asked.exact()

            def announce(system: str, length: int = length) -> None:
                started(f"{system}, T = {length}")

            for entry in compare(attention, problem, inputs, bench, self.peers, asked, announce):
                errors = relative(entry.found, exact) if entry.found and exact else {}
                yield replace(entry.row, errors=errors)
