"""Bands of neighbouring chunks: a loop over lags inside a kernel over chunks, and what the decays between are owed."""

from __future__ import annotations

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.lags import Lags, shares_of
from maskdsl.codegen.kernels.tile import Place, Tile


def band(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """o of a chunk, from the chunks before it."""
    queries, (result,) = instruction.operands[0], instruction.results
    lags = Lags(emit, instruction)
    lags.evaluate(place, queries)
    out = emit.assign(result, emit.zeros(emit.dims(result)))
    for loop in lags.backwards(place):
        with loop as other:
            weights = lags.weights(place, other)
            pulled = lags.operand(f"{emit.value(queries, place).name} * {lags.decay}")
            scores = lags.weighted(emit.dot(pulled, f"tl.trans({other.keys()})"), place, other.place, weights)
            emit.kernel.line(f"{out} += {emit.dot(lags.operand(scores), other.values())}")
    place.tiles[result] = Tile(out, emit.dims(result))


def band_adjoint(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """dR and dlam from the chunks before, dP and dv from those after; shares of the decays between stay in memory."""
    _looking_back(emit, instruction, place)
    _looking_ahead(emit, instruction, place)


def _looking_back(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    gradient, queries, *_ = instruction.operands
    d_queries, d_operator = instruction.results[:2]
    lags = Lags(emit, instruction)
    lags.evaluate(place, queries, gradient)
    out = emit.assign(d_queries, emit.zeros(emit.dims(d_queries)))
    d_lam = instruction.results[4] if lags.lam else None
    d_weights = emit.assign(d_lam, emit.zeros(emit.dims(d_lam))) if d_lam else ""
    shares = emit.buffers.kept.get(f"{d_operator}.shares")
    line, parts = emit.kernel.line, frozenset({"V"} if emit.tiling.parts > 1 else ())
    total = emit.assign("total", lags.between.nothing) if shares is not None and lags.op.initial else ""
    for loop in lags.backwards(place):
        with loop as other:
            weights = lags.weights(place, other)
            pulled = emit.assign("far", f"{emit.value(queries, place).name} * {lags.decay}")
            keys = other.keys()
            met = emit.dot(emit.operand(gradient, place), f"tl.trans({other.values()})")
            met = emit.assign("met", lags.near(met))
            if d_lam:
                scores = emit.dot(lags.operand(pulled), f"tl.trans({keys})")
                lags.add_weights_adjoint(d_weights, f"{met} * {scores}", place, other)
            found = lags.operand(lags.weighted(met, place, other.place, weights))
            found = emit.assign("found", emit.dot(found, keys))
            line(f"{out} += {found} * {lags.decay}")
            if shares is not None:
                share = f"tl.sum({found} * {pulled}, 0)"
                share = share if lags.between.diagonal else f"tl.sum({share}, 0)"
                if other.before:
                    line(f"{total} += {share}")
                else:
                    line(f"tl.store({lags.share_at(shares, f'{lags.lag} - 1')}, {share})")
    if total and shares is not None:
        line(f"tl.store({lags.share_at(shares, str(lags.op.lags))}, {total})")
    place.tiles[d_queries] = Tile(out, emit.dims(d_queries), parts)
    if d_lam:
        place.tiles[d_lam] = Tile(d_weights, emit.dims(d_lam), parts)


def _looking_ahead(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    gradient, queries, _, pushed, v, *_ = instruction.operands
    _, _, d_pushed, d_v, *_ = instruction.results
    lags = Lags(emit, instruction)
    lags.evaluate(place, pushed, v)
    keys = emit.assign(d_pushed, emit.zeros(emit.dims(d_pushed)))
    values = emit.assign(d_v, emit.zeros(emit.dims(d_v)))
    line = emit.kernel.line
    with lags.after(place) as other:
        pulled = emit.assign("far", lags.operand(f"{emit.value(queries, other).name} * {lags.decay}"))
        d = emit.operand(gradient, other)
        met = lags.weighted(emit.dot(d, f"tl.trans({emit.operand(v, place)})"), other, place)
        line(f"{keys} += {emit.dot(f'tl.trans({lags.operand(met)})', pulled)}")
        scores = lags.weighted(emit.dot(pulled, f"tl.trans({emit.operand(pushed, place)})"), other, place)
        line(f"{values} += {emit.dot(f'tl.trans({lags.operand(scores)})', d)}")
    parts = frozenset({"V"} if emit.tiling.parts > 1 else ())
    place.tiles[d_pushed] = Tile(keys, emit.dims(d_pushed), parts)
    place.tiles[d_v] = Tile(values, emit.dims(d_v))


def passed(emit: Evaluator, instruction: Instruction, shares: Buffer) -> None:
    """The gradient of each chunk's log decay: the shares of all pairs of chunks that it lies between.

    What came before the call lies before all chunks.
    """
    assert isinstance(instruction.op, ops.BandAdjoint)
    kernel, buffers, line, lags = emit.kernel, emit.buffers, emit.kernel.line, instruction.op.lags
    result, count = instruction.results[1], shares_of(instruction.op)
    diagonal = emit.types[result][-2] == "K"
    lanes = f" + {emit.lane('K')}" if diagonal else ""
    line(f"total = {emit.zeros(((0, 'K'),)) if diagonal else 'tl.zeros((), tl.float32)'}")

    def add(rank: str) -> None:
        with kernel.block(f"for part in range({shares.count}):"):
            step = buffers.part_step(kernel, shares)
            address = buffers.address(kernel, shares, f"(late * {count} + {rank})", emit.head)
            line(f"total += tl.load({address} + part * {step}{lanes})")

    with (
        kernel.block(f"for late in range(n + 1, tl.minimum(n + {lags}, {kernel.size('N')})):"),
        kernel.block(f"for lag in range(late - n + 1, tl.minimum(late, {lags}) + 1):"),
    ):
        add("lag - 1")
    if instruction.op.initial:
        with kernel.block(f"for late in range(n + 1, tl.minimum({lags + 1}, {kernel.size('N')})):"):
            add(str(lags))
    line(f"tl.store({buffers.base(kernel, result, 'n', emit.head)}{lanes}, total)")
