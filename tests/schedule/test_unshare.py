"""One tree for each walk, and one tensor of writes for each scan."""

from __future__ import annotations

import maskdsl
from maskdsl.chunk import ops
from maskdsl.chunk.program import Program, verify
from maskdsl.lowering.hand import Hand
from maskdsl.lowering.lower import lower
from maskdsl.schedule.unshare import unshare


def lowered(mask: str) -> Program:
    text = f"attention test:\n    q, k : key\n    v : value\n    lam, mu : level\n    return attend(q, k, v, {mask})\n"
    return lower(maskdsl.compile(text).spec)


def trees_read(program: Program) -> list[tuple[str, ...]]:
    return [i.operands[1:3] for i in program.instructions if isinstance(i.op, ops.Walk)]


def test_two_walks() -> None:
    before = lowered('fenwick(lam) + fenwick(mu, admissibility="strong")')
    assert len(trees_read(before)) == 2
    assert len(set(trees_read(before))) == 1
    after = verify(unshare(before))
    assert len(set(trees_read(after))) == 2
    trees = [i for i in after.instructions if isinstance(i.op, ops.Tree)]
    assert len({tree.results for tree in trees}) == 2
    assert len({(tree.op, tree.operands) for tree in trees}) == 1


def test_no_change() -> None:
    program = lowered("fenwick(lam * mu)")
    assert unshare(program) == program


def test_scans_from_two_states() -> None:
    declared = "attention test:\n    q, k, p : key\n    v : value\n"
    text = f"{declared}    return attend(q, k, v, causal) + attend(p, k, v, causal)\n"
    before = lower(maskdsl.compile(text).spec, hand=Hand(initial=True, final=True))
    scans = [i for i in before.instructions if isinstance(i.op, ops.Scan)]
    assert len(scans) == 2
    assert len({scan.operands[1] for scan in scans}) == 1
    after = verify(unshare(before))
    assert len({i.operands[1] for i in after.instructions if isinstance(i.op, ops.Scan)}) == 2
