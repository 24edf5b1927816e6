"""From a checked spec and the tensors of a call to a generated module of kernels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
from torch import Tensor

from maskdsl.language.printer import to_text
from maskdsl.lowering.hand import ALONE, Hand
from maskdsl.runtime import cache
from maskdsl.runtime.arguments import Bound
from maskdsl.runtime.build import ratios_of
from maskdsl.runtime.triton.program import Program
from maskdsl.schedule.configuration import Configuration, DeviceKind, Mode, padded
from maskdsl.schedule.token import StepConfiguration
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Spec

MODES: dict[torch.dtype, Mode] = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def configuration_of(
    bound: Bound,
    result: torch.dtype,
    chunk: int | None,
    kind: DeviceKind,
    training: bool = True,
    packed: bool = False,
    hand: Hand = ALONE,
) -> Configuration:
    """What the kernels of a call depend on.

    `result` is the dtype of its output, `training` asks for gradients, `packed` has sequences in its batch row, and
    `hand` tells the states that these begin and end with.

    Raises Unsupported where an input is of float64.
    """
    for name, x in bound.tensors.items():
        if x.dtype == torch.float64:
            raise Unsupported(f"Input '{name}' is of float64, for which there are no Triton kernels.")
    sizes = bound.sizes
    ratios = ratios_of(dict(sizes.key_heads), sizes.H)
    widths = sizes.K or 0, sizes.V or 0, padded(sizes.L or 0)
    return Configuration(ratios, *widths, MODES[result], chunk, kind, training, packed, hand)


def device_kind(tensors: Mapping[str, Tensor]) -> DeviceKind:
    """What the kernels of a call run on. Raises Unsupported where it is not a GPU, nor a CPU with the interpreter."""
    name, x = next(iter(tensors.items()))
    if x.device.type == "cuda":
        return "cuda" if torch.version.hip is None else "hip"
    if x.device.type == "cpu" and triton.knobs.runtime.interpret:
        return "interpreter"
    raise Unsupported(
        f"Input '{name}' is on '{x.device}', but Triton needs a GPU (or TRITON_INTERPRET=1 for its interpreter)."
    )


def text_of(spec: Spec, configuration: Configuration | StepConfiguration) -> str:
    """The generated module. Raises Unsupported with a sentence for a spec that the backend has no kernels for."""
    if isinstance(configuration, StepConfiguration):
        from maskdsl.codegen.triton_step import emit_step

        return emit_step(spec, configuration)
    from maskdsl.codegen.triton_text import emit

    return emit(spec, configuration)


def load(spec: Spec, configuration: Configuration | StepConfiguration) -> Program:
    """The program of a configuration, from the cache where it is there. Raises Unsupported as `text_of` does."""
    key = f"triton\n{configuration!r}\n{to_text(spec.syntax)}"
    return Program(cache.module(spec.name, key, lambda: text_of(spec, configuration)))
