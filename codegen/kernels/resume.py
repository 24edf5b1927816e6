"""Queries of two neighbouring chunks that read the same state: the one before both."""

from __future__ import annotations

from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place, Tile


def resume(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """R[n] S[n], for odd n R[n] (exp(A[n-1]) S[n-1] + P[n-1]' w[n-1]), without the factors of R's rows."""
    queries, operator, pushed, v, states = instruction.operands
    (result,) = instruction.results
    kernel, line, operand = emit.kernel, emit.kernel.line, emit.tiling.operand
    read = emit.plain(queries, place)
    even = Place(kernel.fresh("even"))
    line(f"{even.chunk} = {place.chunk} // 2 * 2")
    out = emit.assign(result, emit.dot(read, emit.operand(states, even)))
    with kernel.block(f"if {place.chunk} > {even.chunk}:"):
        decay = emit.assign("decay", f"tiles.exp({emit.value(operator, even).name})")
        # keys and values have a row for each term of the sum: the values take the factors of both
        rows = [each.rows for each in (emit.tile(pushed, even), emit.tile(v, even)) if each.rows]
        values = emit.scaled(v, even, emit.assign("factor", " * ".join(rows))) if rows else emit.plain(v, even)
        scores = emit.assign("scores", emit.dot(read, f"tl.trans({emit.plain(pushed, even)})"))
        line(f"{out} = {decay} * {out} + {emit.dot(f'{scores}.to({operand})', values)}")
    place.tiles[result] = Tile(out, emit.dims(result), rows=place.tiles[queries].rows)
