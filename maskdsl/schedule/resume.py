"""States that are read before every second chunk only: half the traffic, and without gradients half the memory.

An odd chunk takes the state before the chunk in front of it, and adds by one more block of keys what that one writes:
its queries meet 64 keys where they would have met a state.

    H = Dot(P', w)           H = Dot(P', w)
    S = Scan(A, H)    -->    S = Scan(A, H), of even chunks alone where the backward pass does not read it
    x = Dot(R, S)            x = Resume(R, A, P, w, S)
"""

from __future__ import annotations

import dataclasses

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction, Program, verify
from maskdsl.schedule.kinds import BETWEEN, IN_MEMORY


def resumed(program: Program, training: bool) -> Program:
    """The forward program, its queries reading every second state.

    A program stays as it is where something else reads its states, where they are no scan of what chunks write by
    numbers, where it has another operation between chunks (one block of keys more is what registers hold), and where
    heads share keys: these come from cache, states do not, but every head would meet the block.
    """
    maker = {r: i for i in program.instructions for r in i.results}
    scans = [i for i in program.instructions if type(i.op) in IN_MEMORY]
    shared = any(axis.startswith("H/") for load in program.loads for axis in load.axes)
    alone = len(scans) == 1 and not shared and not any(isinstance(i.op, BETWEEN) for i in program.instructions)
    if not alone or not _plain(scans[0], maker):
        return program
    states = {i.results[0]: i for i in scans}
    if not all(_reads(i) for i in program.instructions if states.keys() & {*i.operands}):
        return program
    instructions = []
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Scan) and not training:
            instruction = dataclasses.replace(instruction, op=ops.Scan(every=2))
        elif states.keys() & {*instruction.operands}:
            queries, read = instruction.operands
            operator, writes = states[read].operands
            operands = (queries, operator, *maker[writes].operands, read)
            instruction = dataclasses.replace(instruction, op=ops.Resume(), operands=operands)
        instructions.append(instruction)
    return verify(dataclasses.replace(program, instructions=tuple(instructions)))


def _plain(scan: Instruction, maker: dict[str, Instruction]) -> bool:
    """Whether an operation between chunks is a scan by numbers of what the keys of chunks write."""
    if scan.op != ops.Scan():
        return False
    operator, writes = (maker[x] for x in scan.operands)
    return operator.types[0][3:] == ("1", "1") and writes.op == ops.Dot(transpose_x=True)


def _reads(instruction: Instruction) -> bool:
    """Whether an instruction that has states as an operand multiplies queries by them."""
    return instruction.op == ops.Dot() and instruction.types[0][3][0] == "C"
