"""A checked spec to the chunk IR's forward program."""

from __future__ import annotations

from collections.abc import Mapping

from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder, Program, verify
from maskdsl.lowering.attend import lower_attend
from maskdsl.lowering.body import lower_body
from maskdsl.lowering.emit import Emitter
from maskdsl.lowering.expressions import Expressions
from maskdsl.lowering.hand import ALONE, Hand, anywhere
from maskdsl.lowering.memory import memories
from maskdsl.spec import Spec


def lower(spec: Spec, ratios: Mapping[str, int] | None = None, chunk: int | None = None, hand: Hand = ALONE) -> Program:
    """The forward program: inputs by name to the output `o` [B, T, H, V].

    It reads and puts out the buffers that `hand` tells, by their names.

    `ratios` gives, for each key input, how many heads share one of its heads (1 where absent); `chunk` overrides the
    chunk size. Raises ValueError for a chunk size that a hierarchy of the spec does not allow, for an output without
    inputs, and for memories by position of a program that is not laid out.
    """
    if (hand.initial or hand.final) and not hand.laid and not all(map(anywhere, memories(spec))):
        raise ValueError(f"The memories of '{spec.name}' go by position, for which a program has to be laid out.")
    builder = Builder(spec.name)
    emit = Emitter(builder, hand)
    expressions = Expressions(emit)
    output = lower_body(
        spec, emit, expressions, ratios, lambda node, name: lower_attend(emit, expressions, node, name, chunk)
    )
    needed = builder.program([("o", output), *emit.final.items()])
    if not needed.loads:
        raise ValueError(f"The output of '{spec.name}' depends on none of its inputs.")
    # every input is loaded, in declared order: one that simplification took out has a gradient too, of zeros
    loads = [i for i in builder.instructions if isinstance(i.op, ops.Load)]
    rest = [i for i in needed.instructions if not isinstance(i.op, ops.Load)]
    return verify(Program(spec.name, (*loads, *rest), needed.outputs))
