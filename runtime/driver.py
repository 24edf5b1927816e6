"""A spec at every stage of its way through the compiler, as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskdsl.chunk.program import Program
from maskdsl.chunk.text import to_text as chunk_text
from maskdsl.codegen.extract import function_source
from maskdsl.diagnostics import CallError
from maskdsl.language.printer import to_text as syntax_text
from maskdsl.mask.nodes import Mask
from maskdsl.mask.normalize import normalize, to_mask
from maskdsl.mask.text import mask_text
from maskdsl.runtime.build import Signature
from maskdsl.schedule.configuration import Mode
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Attend, Spec

if TYPE_CHECKING:
    from maskdsl.runtime.triton.offline import Kernels


@dataclass(frozen=True)
class Example:
    """A call for which kernels are shown: sizes, precision ("bf16", "fp16" or "fp32") and, for assembly, the GPU.

    `key_heads` are the heads of every key input, all of them by default.
    """

    heads: int = 4
    key_heads: int | None = None
    key: int = 64
    value: int = 64
    dtype: Mode = "bf16"
    target: str = "sm_90"


STAGES: dict[str, Callable[[Spec, str, Example], str]] = {
    "syntax": lambda spec, *_: syntax_text(spec.syntax),
    "mask": lambda spec, *_: _masks(spec, lambda mask: mask),
    "normal": lambda spec, *_: _masks(spec, lambda mask: to_mask(normalize(mask))),
    "chunk": lambda spec, direction, _: chunk_text(_program(spec, direction)),
    "torch": lambda spec, direction, _: function_source(_source(spec, direction), direction),
    "triton": lambda spec, direction, example: function_source(_kernels(spec, example).text(direction), direction),
    "ptx": lambda spec, direction, example: _kernels(spec, example).assembly(direction),
}


def stages(spec: Spec, stage: str, direction: str = "forward", example: Example | None = None) -> str:
    """The text of a stage (a key of STAGES).

    `direction`, "forward", "backward" or "step", matters from the chunk IR on, `example` for kernels. Raises CallError
    where there are no kernels for a spec.
    """
    try:
        return STAGES[stage](spec, direction, example or Example())
    except Unsupported as error:
        raise CallError(str(error)) from error


def _masks(spec: Spec, change: Callable[[Mask], Mask]) -> str:
    lines = [f"{d.name}: {mask_text(change(d.node.mask))}\n" for d in spec.definitions if isinstance(d.node, Attend)]
    return "".join(lines)


def _program(spec: Spec, direction: str) -> Program:
    if direction == "step":
        return Signature().step(spec)
    scheduled = Signature().schedule(spec)
    return scheduled.forward if direction == "forward" else scheduled.backward


def _source(spec: Spec, direction: str) -> str:
    return Signature().step_source(spec) if direction == "step" else Signature().source(spec)


def _kernels(spec: Spec, example: Example) -> Kernels:
    try:
        from maskdsl.runtime.triton.offline import Kernels, usual_shape
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise Unsupported("Kernels need the package 'triton', which is not installed.") from error
    key_heads = example.key_heads or example.heads
    shape = usual_shape(spec, example.heads, key_heads, example.key, example.value)
    return Kernels(spec, shape, example.dtype, example.target)
