"""The step of a spec as a module of one Triton kernel, with the host code that launches it."""

from __future__ import annotations

from maskdsl.codegen.steps.kernel import StepKernel
from maskdsl.codegen.triton_text import module_text
from maskdsl.schedule.token import StepConfiguration, step_plan
from maskdsl.spec import Spec


def emit_step(spec: Spec, configuration: StepConfiguration) -> str:
    """The module: step(at, inputs, buffers, positions[, slots]) returns the output and changes the buffers.

    STEP names its parameters; positions stay as they are unless it COUNTS the token. Buffers are dense. Rows of levels
    that are empty at a position are neither read nor cleared.
    """
    writer = StepKernel(step_plan(spec, configuration), configuration)
    writer.write()
    kernel = writer.kernel
    lines = [f"o_new = at.output(at.B, 1, at.H, {configuration.V})", kernel.launch()]
    body = "\n".join(f"    {line}" for line in [*lines, "return o_new"])
    function = f"def step({', '.join(['at', *writer.names.values()])}):\n{body}"
    tables = f"STEP = {tuple(writer.names)!r}\nCOUNTS = {writer.counts}\n"
    return module_text(spec, tables, [kernel.text(), function])
