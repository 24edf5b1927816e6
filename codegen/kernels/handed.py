"""The memories of sequences as they come in and go out: addresses, and the levels that a chunk reads of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place
from maskdsl.codegen.kernels.tree import Shape

STATE = ((0, "K"), (1, "V"))


def address(emit: Evaluator, name: str, level: str | None = None) -> str:
    """The addresses of the state of sequence b in a tensor [S, H, K, V], or of one of its levels in [S, H, M, K, V]."""
    steps = {"b": "b", "h": emit.head, **({} if level is None else {"l": f"({level} - 1)"})}
    first = " + ".join(
        f"{number} * {emit.kernel.parameter(f'{name}_{letter}', f'{name}.stride({dim})')}"
        for dim, (letter, number) in enumerate(steps.items())
    )
    key = emit.kernel.parameter(f"{name}_k", f"{name}.stride({len(steps)})")
    inner = emit.offsets(STATE, {0: f"{emit.lane('K')} * {key}", 1: emit.lane("V")})
    return f"{emit.kernel.pointer(name)} + ({first}) + {inner}"


def mask(emit: Evaluator) -> str:
    """Where a memory has entries, as an argument of a load or store."""
    inside = emit.masks(STATE, Place("n"), "KV")
    return f", mask={inside}" if inside else ""


def load(emit: Evaluator, name: str, level: str | None = None) -> str:
    """A state as it comes in."""
    where = mask(emit)
    return f"tl.load({address(emit, name, level)}{f'{where}, other=0.0' if where else ''}).to(tl.float32)"


def levels_read(emit: Evaluator, shape: Shape, initial: str, place: Place) -> AbstractContextManager[tuple[str, str]]:
    """A loop over the states that a chunk reads of what came before: the operand, and the level of every row's weight.

    The lowest ones, which have met since, are one and read first.
    """
    return (_strong_levels if shape.strong else _weak_levels)(emit, shape, initial, place)


@contextmanager
def _weak_levels(emit: Evaluator, shape: Shape, initial: str, place: Place) -> Iterator[tuple[str, str]]:
    """In the first chunk they meet row by row."""
    kernel, line, base = emit.kernel, emit.kernel.line, shape.base
    name, operand = emit.buffers.name(initial), emit.tiling.operand
    line(f"own = tiles.level_of({emit.lane('C')}, shift, {shape.nearest}, {shape.constants})")
    line(f"level = {shape.nearest - 1} + walks.apart({place.chunk} + past, past, {base})")
    line(f"level = tl.where({place.chunk} > 0, level, 1)")
    line(f"own = tl.where({place.chunk} > 0, 0, own)")
    line(f"last = walks.digits(position, {base})")
    line("last = tl.where(position > 0, tl.maximum(last, level), 0).to(tl.int32)")
    line("first = level")
    line(f"rest = walks.shifted(position, level - 1, {base})")
    with kernel.block("while level <= last:"):
        apart, met = load(emit, name, "level"), load(emit, f"{name}_sums", "level")
        with kernel.block("if level == first:"):
            line(f"state = {met}")
        with kernel.block("else:"):
            line(f"state = {apart}")
        line(f"state = state.to({operand})")
        yield "state", "tl.maximum(own, level)"
        line("level += 1")
        line(f"rest //= {base}")
        with kernel.block(f"while (level < last) & (rest % {base} == 0):"):
            line("level += 1")
            line(f"rest //= {base}")


@contextmanager
def _strong_levels(emit: Evaluator, shape: Shape, initial: str, place: Place) -> Iterator[tuple[str, str]]:
    """Of others that have met the sum is not known: they are read at the same level, one by one."""
    kernel, line, name = emit.kernel, emit.kernel.line, emit.buffers.name(initial)
    line(f"start = {_start(emit, place)}")
    line("last = walks.digits(position, 2)")
    line("first = tl.minimum(last, 1)")
    with kernel.block("while (first < last) & (tiles.met_at(position, first) <= start):"):
        line("first += 1")
    with kernel.block("for level in range(first, tl.where(position > 0, last + 1, first)):"):
        with kernel.block("if level == first:"):
            line(f"state = {load(emit, f'{name}_sums', 'level')}")
        with kernel.block("else:"):
            line(f"state = {load(emit, name, 'level')}")
        line(f"state = state.to({emit.tiling.operand})")
        line(f"own = {seen(emit, place, 'level')}")
        yield "state", "own"


def seen(emit: Evaluator, place: Place, level: str) -> str:
    """At which levels of strong admissibility the rows of a chunk see what a state has at a `level`."""
    return f"tiles.apart_at({_start(emit, place)} + {emit.lane('C')}, tiles.first_at(position, {level}))"


def _start(emit: Evaluator, place: Place) -> str:
    """The position at which a chunk begins, in 64 bits."""
    return f"(position // {emit.tiling.chunk} + {place.chunk}) * {emit.tiling.chunk}"
