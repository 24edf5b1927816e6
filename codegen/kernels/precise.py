"""Products in the part of a path that is worked out in more than the precision of the call.

Where triangular systems of nearly parallel keys are solved, what is added up cancels. Products of pairs of positions
with each other lose most there, and cost least: they are computed as three products of halves, or as two if half
precision holds one of them exactly. It does so with an input: its product with pairs takes two, with another input one.
Vectors are taken in two halves until they are rounded on their way to memory, which costs no more than rounding what a
path leaves there. Factors of rows stay outside, where they are not rounded.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.tile import Place, Tile

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.evaluate import Evaluator


def halves_products(emit: Evaluator, instruction: Instruction) -> bool:
    """Whether a product is one of those whose operands are taken in halves."""
    return instruction.results[0] in emit.precise and emit.tiling.mode == "bf16"


def precise_dot(emit: Evaluator, op: ops.Dot, instruction: Instruction, place: Place) -> Tile:
    """The tile of such a product."""
    x, y = instruction.operands
    left, right = emit.tile(x, place), emit.tile(y, place)
    # factors along the axis that is summed over go into the pairs, the others into the result
    summed = [tile.rows for tile, inner in ((left, op.transpose_x), (right, not op.transpose_y)) if inner and tile.rows]
    factor = emit.assign("factor", " * ".join(summed)) if len(summed) > 1 else "".join(summed)
    takes = x if _is_pairs(emit, x) else y
    at_rows = op.transpose_x if takes == x else not op.transpose_y
    scaled = f" * {factor}{'[:, None]' if at_rows else '[None, :]'}" if factor else ""

    texts = [
        _operand(emit, x, place, scaled if x == takes else "", _halves(emit, x, y, right)),
        _operand(emit, y, place, scaled if y == takes else "", _halves(emit, y, x, left)),
    ]
    first = [f"tl.trans({each})" if op.transpose_x else each for each in texts[0]]
    second = [f"tl.trans({each})" if op.transpose_y else each for each in texts[1]]
    text = product(emit, first, second)
    if op.transpose_y and right.rows:
        text += f" * {right.rows}[None, :]"
    rows = None if op.transpose_x else left.rows
    parts = left.parts | right.parts
    return Tile(emit.assign(instruction.results[0], text), emit.dims(instruction.results[0]), parts, rows=rows)


def product(emit: Evaluator, left: list[str], right: list[str]) -> str:
    """The product of two operands, each in one or two halves, the smaller first."""
    text = ""
    for one, other in itertools.product(left, right):
        # two smaller halves make less than what float32 rounds off
        if one == left[-1] or other == right[-1]:
            text = f"tl.dot({one}, {other}, {text})" if text else emit.dot(one, other)
    return text


def halves(emit: Evaluator, name: str, about: str = "") -> list[str]:
    """A tile of float32 in two halves, the smaller first; `about` begins their names."""
    operand = emit.tiling.operand
    high = emit.assign(f"{about}high", f"{name}.to({operand})")
    return [emit.assign(f"{about}low", f"({name} - {high}.to(tl.float32)).to({operand})"), high]


def _halves(emit: Evaluator, value: str, other: str, beside: Tile) -> bool:
    """Whether a value is taken in two halves: it is rounded nowhere else, and what it meets is held as exactly."""
    if _rounded(emit, value):
        return False
    if _is_pairs(emit, value):
        return _is_pairs(emit, other) or not _rounded(emit, other)
    return _is_pairs(emit, other) or _rounded(emit, other) or beside.given


def _operand(emit: Evaluator, value: str, place: Place, scaled: str, two: bool) -> list[str]:
    """A value without its rows in half precision, the smaller half first where it is taken in two."""
    if emit.tile(value, place).given or not (two or scaled):
        return [emit.plain(value, place)]
    key = f"{value} in halves{scaled}{two}"
    if key not in place.scaled:
        name = emit.bare(value, place).name
        whole = emit.assign(f"{value}_scaled", f"{name}{scaled}") if scaled else name
        narrow = f"{whole}.to({emit.tiling.operand})"
        made = halves(emit, whole, f"{value}_") if two else [emit.assign(f"{value}_high", narrow)]
        place.scaled[key] = " ".join(made)
    return place.scaled[key].split()


def _is_pairs(emit: Evaluator, value: str) -> bool:
    return [letter for _, letter in emit.dims(value)] == ["C", "C"]


def _rounded(emit: Evaluator, value: str) -> bool:
    """Whether a value is rounded to half precision in any case, here or by the kernel that has left it."""
    if value in emit.rounded:
        return True
    current = value
    while isinstance(emit.maker[current].op, ops.Cast) and current not in emit.available:
        if emit.maker[current].op == ops.Cast(wide=False):
            return True
        (current,) = emit.maker[current].operands
    left = current in emit.available or isinstance(emit.maker[current].op, ops.Load)
    return left and current in emit.buffers.kept and emit.buffers.kept[current].state
