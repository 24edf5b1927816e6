"""What the program of a call and that of a token have in common: a spec from its inputs to its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from maskdsl.chunk import ops
from maskdsl.lowering.emit import Emitter
from maskdsl.lowering.expressions import Expressions
from maskdsl.mask.nodes import Kind
from maskdsl.spec import Attend, L2Norm, Spec


def lower_body(
    spec: Spec,
    emit: Emitter,
    expressions: Expressions,
    ratios: Mapping[str, int] | None,
    attend: Callable[[Attend, str], str],
) -> str:
    """Load the inputs, make every definition and return the output [B, T, H, V], T being the axis of `expressions`.

    `attend` makes the value of an attend under a name; `ratios` as in `maskdsl.lowering.lower`.
    """
    builder = emit.builder
    every = {i.name: 1 for i in spec.inputs if i.kind is Kind.KEY} | dict(ratios or {})
    builder.origin = "inputs"
    for declared in spec.inputs:
        expressions.load(declared, every)
    for definition in spec.definitions:
        builder.origin = definition.name
        match definition.node:
            case L2Norm() as node:
                value = expressions.l2norm(node, definition.name)
            case Attend() as node:
                value = attend(node, definition.name)
        expressions.define(definition.name, value, definition.kind)
    builder.origin = "output"
    output = expressions.value(spec.output, "o")
    whole = ("B", expressions.token, "H", "V")
    return output if emit.type(output) == whole else emit(ops.Expand(whole), output, name="o_whole")
