"""What all calls of a benchmark share, and what they are timed beside."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from maskdsl.runtime.benchmark.measure import Effort
from maskdsl.runtime.benchmark.problem import DTYPES, Problem
from maskdsl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Task:
    """Calls of these heads in `dtype` on `device`, beside which peers, and how often each."""

    heads: int
    key: int
    value: int
    key_heads: int
    dtype: torch.dtype
    device: str
    peers: tuple[str, ...]
    effort: Effort

    @property
    def sizes(self) -> str:
        """What the calls share, as a title."""
        dtype = next(name for name, each in DTYPES.items() if each == self.dtype)
        return f"H = {self.heads}, Hk = {self.key_heads}, K = {self.key}, V = {self.value}, {dtype}"

    def problem(self, spec: Spec, batch: int, length: int) -> Problem:
        """One of the calls."""
        return Problem.of(
            spec,
            batch=batch,
            length=length,
            heads=self.heads,
            key=self.key,
            value=self.value,
            key_heads=self.key_heads,
            dtype=self.dtype,
            device=self.device,
        )
