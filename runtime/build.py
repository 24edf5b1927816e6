"""From a checked spec to the programs that run: every stage of the compiler, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maskdsl.chunk.program import Program
from maskdsl.codegen.torch_text import emit, emit_step
from maskdsl.differentiation.differentiate import differentiate
from maskdsl.language.printer import to_text
from maskdsl.lowering.hand import ALONE, Hand
from maskdsl.lowering.lower import lower
from maskdsl.lowering.step import lower_step
from maskdsl.schedule.storage import Schedule, schedule
from maskdsl.spec import Spec


@dataclass(frozen=True)
class Signature:
    """All of a call that the generated programs depend on: no T, no batch size.

    `ratios` are the key inputs with the number of heads that share one of theirs; `chunk` overrides the chunk size;
    `hand` says what states a call begins and ends with; one with sequences is laid out.
    """

    ratios: tuple[tuple[str, int], ...] = ()
    chunk: int | None = None
    hand: Hand = ALONE

    def lower(self, spec: Spec) -> Program:
        """The forward program."""
        return lower(spec, dict(self.ratios), self.chunk, self.hand)

    def schedule(self, spec: Spec) -> Schedule:
        """The scheduled forward and backward programs."""
        forward = self.lower(spec)
        return schedule(forward, differentiate(forward))

    def source(self, spec: Spec) -> str:
        """The PyTorch module."""
        return emit(self.schedule(spec), to_text(spec.syntax), laid=self.hand.laid)

    def key(self, spec: Spec) -> str:
        """What the source depends on besides the compiler."""
        return f"torch\n{self!r}\n{to_text(spec.syntax)}"

    def step(self, spec: Spec) -> Program:
        """The program of one token, in which nothing is chunked."""
        return lower_step(spec, dict(self.ratios))

    def step_source(self, spec: Spec) -> str:
        """The PyTorch module of one token."""
        return emit_step(self.step(spec), to_text(spec.syntax))

    def step_key(self, spec: Spec) -> str:
        """What that source depends on besides the compiler."""
        return f"torch step\n{self.ratios!r}\n{to_text(spec.syntax)}"


def ratios_of(key_heads: Mapping[str, int], heads: int) -> tuple[tuple[str, int], ...]:
    """How many heads share a head of each key input, of those where it is more than one."""
    return tuple((name, heads // own) for name, own in key_heads.items() if own != heads)
