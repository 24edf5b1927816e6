"""The systems of rank-one steps in a program: what is solved, what scans that solve make, and which digits count."""

from __future__ import annotations

from maskdsl.chunk import ops
from maskdsl.chunk.program import Program
from maskdsl.schedule.kinds import behind, is_pairs, solves_back


def solved_systems(program: Program) -> list[str]:
    """The inverses of systems, rounded where nothing reads them otherwise."""
    found = []
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Inverse):
            (inverse,) = instruction.results
            users = [i for i in program.instructions if inverse in i.operands]
            alone = len(users) == 1 and users[0].op == ops.Cast(wide=False)
            found.append(users[0].results[0] if alone else inverse)
    return found


def read_again(program: Program) -> list[str]:
    """What else the backward pass reads as it was: queries of walks that a path has rounded, decays of scans."""
    maker = {r: i for i in program.instructions for r in i.results}
    walks = [i.operands[0] for i in program.instructions if isinstance(i.op, ops.Walk)]
    scans = [i.operands[0] for i in program.instructions if isinstance(i.op, ops.SolvedScan)]
    found = [x for x in walks if maker[x].op == ops.Cast(wide=False)]
    return [*found, *(x for x in scans if not isinstance(maker[x].op, ops.Constant))]


def scan_factors(program: Program) -> frozenset[str]:
    """The vectors that scans that solve systems multiply by, or their states meet, and these before rows are scaled."""
    maker = {r: i for i in program.instructions for r in i.results}
    scans = [i for i in program.instructions if isinstance(i.op, ops.SolvedScan)]
    found = {x for i in scans for x in i.operands[1:3]}
    found |= {maker[x].operands[0] for i in scans for x in i.operands[5:] if isinstance(maker[x].op, ops.Dot)}
    states = {i.results[0] for i in scans}
    reading = [i for i in program.instructions if isinstance(i.op, ops.Dot) and i.operands[1] in states]
    found |= {i.operands[0] for i in reading if "K" in program.types[i.operands[0]]}
    wide = {x for value in found for x in maker[value].operands if program.types[x] == program.types[value]}
    return frozenset(found | {x for x in wide if isinstance(maker[x].op, ops.Map)})


def rounded_factors(program: Program, precise: frozenset[str]) -> frozenset[str]:
    """Those of them that are rounded: where systems are not, the factors of steps are not either."""
    scans = [i for i in program.instructions if isinstance(i.op, ops.SolvedScan) and i.operands[4] in precise]
    return scan_factors(program) - {x for i in scans for x in i.operands[1:3]}


def scanned(program: Program) -> frozenset[str]:
    """What follows from scans that solve systems."""
    return behind(program, lambda i: isinstance(i.op, ops.SolvedScan))


def answers(program: Program) -> frozenset[str]:
    """What follows from the gradients of scans that solve systems."""
    return behind(program, solves_back)


def precise_values(program: Program) -> frozenset[str]:
    """The values that are worked out in more than the precision of the call: between a cast to it and one back.

    But for the gradients of systems: they have been rounded, more digits are worth nothing.
    """
    found: set[str] = set()
    for instruction in program.instructions:
        wide = instruction.op.wide if isinstance(instruction.op, ops.Cast) else found & set(instruction.operands)
        if wide and not isinstance(instruction.op, ops.SolvedScan):  # which starts from what it is given anew
            found |= set(instruction.results)
    return frozenset(found) - of_systems(program)


def system_pairs(program: Program) -> frozenset[str]:
    """The gradients of systems that scans have solved: pairs of what they read and what they answer."""
    scans = [i for i in program.instructions if solves_back(i)]
    answers = {r for i in scans for r in i.results}
    found: set[str] = set()
    for instruction in program.instructions:
        operands = set(instruction.operands)
        if isinstance(instruction.op, ops.Cast) and operands <= answers:
            answers |= set(instruction.results)
        elif isinstance(instruction.op, ops.Dot | ops.Tril) and operands & (answers | found):
            found |= {r for r in instruction.results if is_pairs(program.types[r])}
    return frozenset(found)


def of_systems(program: Program) -> frozenset[str]:
    """What the gradients of systems that scans have solved lead to inside a path."""
    pairs, found = system_pairs(program), set[str]()
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Cast | ops.Tril):
            continue
        if set(instruction.operands) & (pairs | found):
            found |= set(instruction.results)
    return frozenset(found)
