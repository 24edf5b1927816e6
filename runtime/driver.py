"""A spec at every stage of its way through the compiler, as text."""

from __future__ import annotations

from collections.abc import Callable

from maskdsl.chunk.program import Program
from maskdsl.chunk.text import to_text as chunk_text
from maskdsl.codegen.extract import function_source
from maskdsl.language.printer import to_text as syntax_text
from maskdsl.mask.nodes import Mask
from maskdsl.mask.normalize import normalize, to_mask
from maskdsl.mask.text import mask_text
from maskdsl.runtime.build import Signature
from maskdsl.spec import Attend, Spec

STAGES: dict[str, Callable[[Spec, str], str]] = {
    "syntax": lambda spec, _: syntax_text(spec.syntax),
    "mask": lambda spec, _: _masks(spec, lambda mask: mask),
    "normal": lambda spec, _: _masks(spec, lambda mask: to_mask(normalize(mask))),
    "chunk": lambda spec, direction: chunk_text(_program(spec, direction)),
    "torch": lambda spec, direction: function_source(Signature().source(spec), direction),
}


def stages(spec: Spec, stage: str, direction: str = "forward") -> str:
    """The text of a stage (a key of STAGES); `direction`, "forward" or "backward", matters from the chunk IR on."""
    return STAGES[stage](spec, direction)


def _masks(spec: Spec, change: Callable[[Mask], Mask]) -> str:
    lines = [f"{d.name}: {mask_text(change(d.node.mask))}\n" for d in spec.definitions if isinstance(d.node, Attend)]
    return "".join(lines)


def _program(spec: Spec, direction: str) -> Program:
    scheduled = Signature().schedule(spec)
    return scheduled.forward if direction == "forward" else scheduled.backward
