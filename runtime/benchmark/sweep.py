"""A spec and its peers over sequence lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from maskdsl.runtime.benchmark.bench import Bench, compare
from maskdsl.runtime.benchmark.errors import probe, relative
from maskdsl.runtime.benchmark.measure import Effort, Row
from maskdsl.runtime.benchmark.problem import DTYPES, Problem
from maskdsl.runtime.compiled import Attention


@dataclass(frozen=True)
class Sweep:
    """What to measure: a call for each of the lengths, with which peers, and whether to compare with float64."""

    lengths: tuple[int, ...]
    batch: int
    heads: int
    key: int
    value: int
    key_heads: int
    dtype: torch.dtype
    device: str
    peers: tuple[str, ...]
    check: bool
    effort: Effort

    @property
    def sizes(self) -> str:
        """All that the calls share, as a title."""
        dtype = next(name for name, each in DTYPES.items() if each == self.dtype)
        return f"B = {self.batch}, H = {self.heads}, Hk = {self.key_heads}, K = {self.key}, V = {self.value}, {dtype}"

    @property
    def count(self) -> int:
        """How many rows there will be."""
        return len(self.lengths) * (1 + len(self.peers))

    def rows(self, attention: Attention, bench: Bench, started: Callable[[str], None]) -> Iterator[Row]:
        """A row for each length and system; `started` is told what comes next."""
        for length in self.lengths:
            problem = self._problem(attention, length)
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

    def _problem(self, attention: Attention, length: int) -> Problem:
        return Problem.of(
            attention.spec,
            batch=self.batch,
            length=length,
            heads=self.heads,
            key=self.key,
            value=self.value,
            key_heads=self.key_heads,
            dtype=self.dtype,
            device=self.device,
        )
