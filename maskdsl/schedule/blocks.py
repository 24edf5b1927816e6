"""What a laid-out program hands from slot to slot, as kernels make it: blocks of a hierarchy, a scan, a band of chunks.

    o, F = Relay(R, A, P, v, I, lam)    -->    EA, EH, F = Tree(A, P' v, P, v, I)
                                               o = Walk(R, EA, EH, lam, I)

                                               under strong admissibility, A' the operator of the chunk before:
                                               o = Band(R, A, P, v, lam) + Walk(R exp(A'), EA, EH, lam, I)

    o, F = Relay(R, A, P, v, I)         -->    S, F = Scan(A, P' v, I)
                                               o = R S

    o, keys', values' = Slide(R, A, P, v, keys, values[, lam])

                              -->    o = Band(R, A, P, v[, lam], keys, values)
                                     keys', values' = Keep(A, P, v, keys, values)

Rank-one steps under a hierarchy make the operator of a chunk a matrix, exp(A) + a' b. Without one scans solve for them.
"""

from __future__ import annotations

import dataclasses

import sympy

from maskdsl.chunk import ops
from maskdsl.chunk.axes import chunk_size
from maskdsl.chunk.program import Builder, Instruction, Program
from maskdsl.lowering.chunking import lags_of
from maskdsl.schedule.unsupported import Unsupported


def in_blocks(program: Program) -> Program:
    """The same program. Raises Unsupported for memories that kernels have no blocks of."""
    makers = {r: i for i in program.instructions for r in i.results}
    kept = {value for _, value in program.outputs}
    build = Builder(program.name)
    renamed: dict[str, str] = {}
    for instruction in program.instructions:
        build.origin = instruction.origin
        operands = tuple(renamed.get(x, x) for x in instruction.operands)
        if isinstance(instruction.op, ops.Relay | ops.Slide):
            begins = not isinstance(makers[instruction.operands[4]].op, ops.Constant)
            replace = _relayed if isinstance(instruction.op, ops.Relay) else _slid
            made = replace(build, instruction, operands, begins, instruction.results[1] in kept)
        else:
            made = build.apply(instruction.op, *operands, name=instruction.results[0])
        renamed |= zip(instruction.results, made, strict=False)
    return build.program((name, renamed[value]) for name, value in program.outputs)


def in_chunks(program: Program) -> Program:
    """The program as one whose sequences have batch rows of their own: packed kernels do it for each of them."""
    plain = {ops.Lay: ops.Chunk, ops.Unlay: ops.Unchunk}
    instructions = tuple(
        dataclasses.replace(i, op=plain[type(i.op)](i.op.size)) if isinstance(i.op, ops.Lay | ops.Unlay) else i
        for i in program.instructions
    )
    return dataclasses.replace(program, instructions=instructions)


def _relayed(
    build: Builder, instruction: Instruction, operands: tuple[str, ...], begins: bool, ends: bool
) -> tuple[str, ...]:
    """What takes the place of a relay: its output, and what it leaves where that is put out."""
    assert isinstance(instruction.op, ops.Relay)
    queries, operator, pushed, v, initial, *rest = operands
    lam, a, b = ops.optional(rest)
    memory = [initial] if begins else []
    writes = build(ops.Dot(transpose_x=True), pushed, v, name="states")
    if lam is None:
        assert a is None, "scans solve for rank-one steps without levels"
        states, *last = build.apply(ops.Scan(initial=begins, final=ends), operator, writes, *memory, name="before")
        return build(ops.Dot(), queries, states, name="carried_over"), *last
    base, admissibility = instruction.op.base, instruction.op.admissibility
    strong = admissibility == "strong"
    if a is not None and b is not None:
        if strong:
            raise Unsupported("Rank-one steps are handed on under a strong hierarchy: there are no kernels for it.")
        operator = _matrix(build, operator, a, b)
    written = [pushed, v, *memory] if ends else []
    tree = ops.Tree(base, begins and ends, ends, admissibility)
    operators, blocks, *last = build.apply(tree, operator, writes, *written, name="tree")
    pulled = _past(build, queries, operator) if strong else queries
    walk = ops.Walk(base, admissibility, initial=begins)
    out = build(walk, pulled, operators, blocks, lam, *memory, name="walked")
    if strong:
        near = build(ops.Band(1, None, base, admissibility), queries, operator, pushed, v, lam, name="banded")
        out = build(ops.Map(ops.argument(0) + ops.argument(1)), near, out, name="beyond")
    return out, *last


def _slid(
    build: Builder, instruction: Instruction, operands: tuple[str, ...], begins: bool, ends: bool
) -> tuple[str, ...]:
    """The same of a slide."""
    op = instruction.op
    assert isinstance(op, ops.Slide)
    queries, operator, pushed, v, *memory = operands[:6]
    lam, a, _ = ops.optional(operands[6:])
    if a is not None:
        raise Unsupported("The tokens of a window are handed on over rank-one steps: there are no kernels for it.")
    memory = memory if begins else []
    size = chunk_size(build.types[pushed][3])
    band = ops.Band(lags_of(op.width, size), op.width, op.base, op.admissibility, initial=begins)
    out = build(band, queries, operator, pushed, v, *([lam] if lam else []), *memory, name="banded")
    return out, *(build.apply(ops.Keep(op.width, begins), operator, pushed, v, *memory, name="kept") if ends else ())


def _past(build: Builder, queries: str, operator: str) -> str:
    """Queries pulled back over the chunk before their own."""
    previous = build(ops.Shift(1), operator, name="previous")
    if build.types[previous][3] == "K":
        previous = build(ops.Transpose(), previous, name="previous_row")
    return build(ops.Map(ops.argument(0) * sympy.exp(ops.argument(1))), queries, previous, name="pulled_past")


def _matrix(build: Builder, operator: str, a: str, b: str) -> str:
    """The operator of chunks with rank-one steps."""
    x0, x1 = ops.argument(0), ops.argument(1)
    identity = build(ops.Identity(), name="identity")
    decay = build(ops.Map(sympy.exp(x0) * x1), operator, identity, name="decay_matrix")
    reflected = build(ops.Dot(transpose_x=True), a, b, name="reflected")
    return build(ops.Map(x0 + x1), decay, reflected, name="operator_path")
