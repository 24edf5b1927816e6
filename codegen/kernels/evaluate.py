"""Values of the chunk IR as tiles of a kernel: one line an operation, made where they are first needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import sympy

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction, Program
from maskdsl.codegen.kernels.buffers import Buffers
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.memory import Memory
from maskdsl.codegen.kernels.precise import halves_products, precise_dot
from maskdsl.codegen.kernels.sizes import with_sizes
from maskdsl.codegen.kernels.tile import Parts, Place, Tile
from maskdsl.codegen.kernels.tiling import Dims, Tiling, at_chunk_level, tile_axes
from maskdsl.scalar.printers import to_triton
from maskdsl.scalar.symbols import symbol
from maskdsl.schedule.kinds import BETWEEN
from maskdsl.schedule.unsupported import SharedSum


class Evaluator(Memory):
    """Writes the values that a kernel needs."""

    def __init__(
        self, program: Program, tiling: Tiling, buffers: Buffers, kernel: Kernel, available: Iterable[str]
    ) -> None:
        super().__init__(program, tiling, buffers, kernel)
        self.maker = {r: i for i in program.instructions for r in i.results}
        self.available = frozenset(available)
        self.between: Callable[[Evaluator, Instruction, Place], None] | None = None
        self.sums_over_programs = self._shared_sums()
        self.precise = buffers.precise
        cast = {i.operands[0] for i in program.instructions if i.op == ops.Cast(wide=False)}
        self.rounded = {x for x in cast if isinstance(self.maker[x].op, ops.Dot)}
        """Products that memory has in half precision only."""
        self.targets: dict[str, tuple[str, tuple[str, ...]]] = {}
        """Tiles that are only ever added to a sum over heads: the name of the sum, and the values, from the summed one
        inwards, that scale the tile's rows on the way."""

    def _shared_sums(self) -> frozenset[str]:
        """The values that a program may have only a part of: sums over V or over heads, and what follows from them."""
        found: set[str] = set()
        for instruction in self.program.instructions:
            op, x = instruction.op, instruction.operands
            over_v = self.tiling.parts > 1 and (
                (isinstance(op, ops.Dot) and tile_axes(self.types[x[0]])[0 if op.transpose_x else 1] == "V")
                or (isinstance(op, ops.Sum) and "V" in {self.types[x[0]][dim] for dim in op.dims})
                or isinstance(op, ops.WalkAdjoint | ops.BandAdjoint | ops.LeftAdjoint)
            )
            if over_v or isinstance(op, ops.GroupSum) or found & set(x):
                found |= set(instruction.results)
        return frozenset(found)

    # -- what is asked for

    def value(self, value: str, place: Place) -> Tile:
        """The tile of a value at a place, its factors multiplied in."""
        tile = self.bare(value, place)
        if not tile.rows:
            return tile
        key = f"{value} whole"
        if key not in place.scaled:
            place.scaled[key] = self.assign(value, f"{tile.name} * {tile.rows}[:, None]")
        whole = dataclasses.replace(tile, name=place.scaled[key], operand=None, rows=None, given=False)
        if not (self.precise and tile.given):  # which products take as it is
            place.tiles[value] = whole
        return whole

    def bare(self, value: str, place: Place) -> Tile:
        """The tile of a value at a place, in float32 and beside its `rows`."""
        tile = self.tile(value, place)
        if not tile.name:
            assert tile.operand is not None
            name = self.assign(value, f"{tile.operand}.to(tl.float32)")
            tile = place.tiles[value] = dataclasses.replace(tile, name=name)
        return tile

    def operand(self, value: str, place: Place) -> str:
        """A value as an operand of a product."""
        tile = self.tile(value, place)
        return self.scaled(value, place, tile.rows) if tile.rows else self.plain(value, place)

    def narrow(self, value: str, place: Place) -> str:
        """A value in float32, widened where it is used: what is loaded in half precision takes half the registers."""
        tile = self.tile(value, place)
        if tile.operand is None or tile.rows:
            return self.value(value, place).name
        return f"{tile.operand}.to(tl.float32)"

    def plain(self, value: str, place: Place) -> str:
        """A value as an operand of a product, without its `rows`."""
        tile = self.tile(value, place)
        if tile.operand is None:
            if self.tiling.operand == "tl.float32":
                return tile.name
            name = self.assign(f"{value}_operand", f"{tile.name}.to({self.tiling.operand})")
            tile = place.tiles[value] = dataclasses.replace(tile, operand=name)
            return name
        return f"{tile.operand}.to({self.tiling.operand})"

    def scaled(self, value: str, place: Place, rows: str) -> str:
        """A value as an operand of a product, its rows times `rows` in place of its own."""
        key = f"{value} {rows}"
        if key not in place.scaled:
            tile = self.bare(value, place)
            text = f"({tile.name} * {rows}[:, None]).to({self.tiling.operand})"
            place.scaled[key] = self.assign(f"{value}_scaled", text)
        return place.scaled[key]

    def tile(self, value: str, place: Place) -> Tile:
        """The tile of a value, perhaps in the dtype of memory only."""
        if value not in place.tiles:
            loaded = isinstance(self.maker[value].op, ops.Load)
            if value in self.buffers.kept if loaded else value in self.available:
                place.tiles[value] = self.stored(value, place)
            else:
                self._make(self.maker[value], place)
        return place.tiles[value]

    def add(self, value: str, terms: list[str], place: Place) -> None:
        """Add the first of the terms of a sum that are left to what has been added up of it."""
        if value in place.tiles:
            return
        term, *rest = place.sums[value][1] if value in place.sums else terms
        name, before = self.value(term, place).name, place.sums[value][0] if value in place.sums else ""
        place.sums[value] = self.assign(value, f"{before} + {name}") if before else name, rest

    def column(self, weights: str, place: Place, level: str, by_row: bool = False) -> str:
        """The weights of one level, or where that is `by_row`, of one a row; loaded alone where they are an input."""
        value = self._input(weights)
        if value is None:
            levels = f"({level})[:, None]" if by_row else level
            return f"tiles.level_column({self.value(weights, place).name}, {levels})"
        base, steps = self.token(value, place)
        # a level that is read exists: a call with fewer is refused
        return f"tl.load({base} + {steps[0]} + {level}, mask={place.inside}, other=0.0).to(tl.float32)"

    def prepare_columns(self, weights: str, place: Place) -> None:
        """Write, before a loop, what `column` needs in it."""
        self.prepare(place)
        if self._input(weights) is None:
            self.value(weights, place)

    def _input(self, weights: str) -> str | None:
        """The input that level weights are, as they came."""
        maker = self.maker[weights]
        while isinstance(maker.op, ops.Chunk | ops.Repeat):
            maker = self.maker[maker.operands[0]]
        loaded = isinstance(maker.op, ops.Load) and len(maker.types[0]) == 4 and not at_chunk_level(maker.types[0])
        return maker.results[0] if loaded else None

    # -- operations

    def _make(self, instruction: Instruction, place: Place) -> None:
        op, x = instruction.op, instruction.operands
        result = instruction.results[0]
        match op:
            case ops.Load():
                place.tiles[result] = self.load(op, result, place)
            case ops.Align() | ops.Repeat() | ops.Chunk() | ops.Unchunk() | ops.GroupSum() | ops.Cast():
                source = self.tile(x[0], place)
                parts = source.parts | ({f"H/{op.ratio}"} if isinstance(op, ops.GroupSum) else set())
                place.tiles[result] = dataclasses.replace(source, dims=self._moved(source.dims, result), parts=parts)
            case ops.Shift(by):
                other = place.shifted.get(by)
                if other is None:
                    name = self.kernel.fresh(f"{place.chunk}_{'before' if by > 0 else 'after'}")
                    self.kernel.line(f"{name} = {place.chunk} - {by}" if by > 0 else f"{name} = {place.chunk} + {-by}")
                    other = place.shifted[by] = Place(name, beside=True)
                place.tiles[result] = self.value(x[0], other)
            case _ if isinstance(op, BETWEEN):
                assert self.between is not None
                self.between(self, instruction, place)
            case ops.Select() | ops.SelectAdjoint() | ops.DecayDotAdjoint() | ops.Inverse():
                self._library(instruction, place)
            case _:
                place.tiles[result] = self._tile(instruction, place)

    def _moved(self, dims: Dims, result: str) -> Dims:
        """The axes of a tile at their new positions."""
        return tuple((position, letter) for (position, _), (_, letter) in zip(self.dims(result), dims, strict=True))

    def _tile(self, instruction: Instruction, place: Place) -> Tile:
        op, result = instruction.op, instruction.results[0]
        if isinstance(op, ops.Map):
            return self._map(op.expr, instruction, place)
        if isinstance(op, ops.Dot):
            return self._dot(op, instruction, place)
        dims = self.dims(result)
        if isinstance(op, ops.Constant):
            expr, names = self._numbers(op.expr)
            text = f"tl.full({self.shape(dims) if dims else '()'}, {to_triton(expr, names)}, tl.float32)"
            dirty = "" if expr == 0 else "CKVL"
            return Tile(self.clean(result, text, dims, place, dirty), dims)
        if isinstance(op, ops.Sum):
            return self._sum(op, instruction, place)
        if isinstance(op, ops.Identity):
            lane = self.lane("K")
            text = f"tl.where({lane}[:, None] == {lane}[None, :], 1.0, 0.0)"
            return Tile(self.clean(result, text, dims, place, "K"), dims)
        x = self.value(instruction.operands[0], place)
        wide = "True" if self.tiling.mode == "fp32" else "False"
        match op:
            case ops.Expand():
                text = f"{x.among(dims)} + {self.zeros(dims)}" if dims else x.name
                new = "".join(letter for at, letter in dims if (at, letter) not in x.dims)
                return Tile(self.clean(result, text, dims, place, new), dims, x.parts)
            case ops.Transpose():
                flipped = tuple((1 - at, letter) for at, letter in reversed(x.dims))
                text = f"tl.trans({x.name})" if len(x.dims) == 2 else x.name
                return Tile(self.assign(result, text) if len(x.dims) == 2 else text, flipped, x.parts)
            case ops.Cumsum(reverse, exclusive):
                products = f", {wide}, {self.tiling.operand}" if len(dims) == 2 else ""
                text = f"tiles.cumsum({x.name}, {reverse}, {exclusive}{products})"
                # rows after the last token come to nothing from the end; those before the first one do not
                dirty = "C" if self.kernel.laid or not reverse else ""
                return Tile(self.clean(result, text, dims, place, dirty), dims, x.parts)
            case ops.Spans(_, row, column):
                return Tile(self.assign(result, f"tiles.spans({x.name}, {row}, {column}, {wide})"), dims, x.parts)
            case ops.SpansAdjoint(_, row, column):
                text = f"tiles.spans_adjoint({x.name}, {row}, {column}, {wide})"
                return Tile(self.assign(result, text), dims, x.parts)
            case ops.Tril(diagonal):
                return Tile(self.assign(result, f"tiles.tril({x.name}, {diagonal})"), dims, x.parts)
            case ops.Near(width):
                return Tile(self.assign(result, f"tiles.near({x.name}, {width})"), dims, x.parts)
        raise TypeError(f"{op} has no tile")

    def _numbers(self, expr: sympy.Expr) -> tuple[sympy.Expr, dict[str, str]]:
        return with_sizes(expr, {"K": self.tiling.key, "V": self.tiling.width}, self.kernel)

    def _map(self, expr: sympy.Expr, instruction: Instruction, place: Place) -> Tile:
        result, dims = instruction.results[0], self.dims(instruction.results[0])
        while result in place.sums and place.sums[result][1]:
            self.add(result, [], place)
        if result in place.sums:
            return Tile(place.sums[result][0], dims)
        factored = self._factored(instruction, place)
        if factored:
            return factored
        expr, sizes = self._numbers(expr)
        x = [self.value(operand, place) for operand in instruction.operands]
        names = sizes | {f"x{i}": tile.among(dims) for i, tile in enumerate(x)}
        parts = frozenset[str]().union(*(tile.parts for tile in x))
        dirty = "".join(
            letter
            for at, letter in dims
            if self._may_be_ragged(letter) and not self._vanishes(expr, x, instruction, at)
        )
        if parts:
            expr = self._once(expr, x, parts, names)
        return Tile(self.clean(result, to_triton(expr, names), dims, place, dirty), dims, parts)

    def _factored(self, instruction: Instruction, place: Place) -> Tile | None:
        """A product of a wide tile and of factors that only rows have, kept apart; None where it is none.

        So a product of matrices scales its narrow result, or the operand that is cheaper to scale.
        """
        operand = self.unscaled(instruction)
        if operand is None:
            return None
        tile = self.tile(operand, place)
        rows = self.row_factor(instruction.results[0], place)
        return dataclasses.replace(tile, rows=f"({tile.rows} * {rows})" if tile.rows else rows)

    def unscaled(self, instruction: Instruction) -> str | None:
        """The operand of which a value is a multiple, row by row; None for a value that is no such product."""
        found = self._product(instruction)
        return found[0] if found else None

    def _product(self, instruction: Instruction) -> tuple[str, sympy.Expr, dict[str, str]] | None:
        dims = self.dims(instruction.results[0])
        if not isinstance(instruction.op, ops.Map) or len(dims) != 2 or dims[0][1] != "C" or dims[1][1] == "C":
            return None
        expr, sizes = self._numbers(instruction.op.expr)
        wide = [ops.argument(i) for i, x in enumerate(instruction.operands) if self.dims(x)[-1:] == dims[-1:]]
        factors, rest = expr.as_independent(*wide, as_Add=False)
        if not wide or rest not in wide:
            return None
        operand = instruction.operands[int(rest.name[1:])]
        narrow = [instruction.operands[i] for i in _mentioned(factors)]
        if self.dims(operand) != dims or not any(self.dims(x) for x in narrow):
            return None
        # a factor that is itself a part of a sum would have to be whole first
        if any(x in self.sums_over_programs for x in narrow):
            return None
        return operand, factors, sizes

    def row_factor(self, value: str, place: Place) -> str:
        """The name of the factors of a value's rows: numbers also beyond the data, where the tile is zero."""
        instruction = self.maker[value]
        found = self._product(instruction)
        assert found is not None
        _, factors, sizes = found
        names = sizes | {f"x{i}": self.value(instruction.operands[i], place).name for i in _mentioned(factors)}
        dims = self.dims(value)[:1]
        return self.clean(f"{value}_rows", to_triton(factors, names), dims, place, "C")

    def target(self, value: str, place: Place) -> tuple[str, str] | None:
        """The sum over heads that a tile is added to as it is made, and the factors of its rows as text."""
        if value not in self.targets:
            return None
        name, scaling = self.targets[value]
        return name, "".join(f" * {self.row_factor(scaled, place)}" for scaled in scaling)

    def add_dot(self, name: str, value: str, scaling: tuple[str, ...], place: Place) -> Parts:
        """Add a product of matrices, its rows scaled, to a sum over heads."""
        instruction = self.maker[value]
        assert isinstance(instruction.op, ops.Dot)
        x, y = instruction.operands
        left, right = self.tile(x, place), self.tile(y, place)
        factors = [*([left.rows] if left.rows else []), *(self.row_factor(scaled, place) for scaled in scaling)]
        operand = self.scaled(x, place, f"({' * '.join(factors)})") if factors else self.plain(x, place)
        other = self.operand(y, place)
        self.kernel.line(
            f"{name} += {self.dot(operand, f'tl.trans({other})' if instruction.op.transpose_y else other)}"
        )
        shared = left.dims[1][1] == "V" and self.tiling.parts > 1
        return left.parts | right.parts | ({"V"} if shared else set())

    def _may_be_ragged(self, letter: str) -> bool:
        return letter == "C" or self.tiling.ragged(letter)

    def _vanishes(self, expr: sympy.Expr, x: list[Tile], instruction: Instruction, at: int) -> bool:
        """Whether an expression is zero beyond the data along an axis, given that its operands are."""
        zero = {
            ops.argument(i): sympy.S.Zero
            for i, (tile, operand) in enumerate(zip(x, instruction.operands, strict=True))
            if any(position == at for position, _ in tile.dims) and not isinstance(self.maker[operand].op, ops.Spans)
        }
        return bool(expr.xreplace(zero) == 0)

    def _once(self, expr: sympy.Expr, x: list[Tile], parts: Parts, names: dict[str, str]) -> sympy.Expr:
        """A sum in which only the first of the programs that share a part counts a term that is no such part."""
        held = {ops.argument(i): tile.parts for i, tile in enumerate(x) if tile.parts}
        for argument in held:
            if sympy.diff(expr, argument).free_symbols & set(held):
                raise SharedSum("An expression is not linear in a sum that several programs share.")
        terms: list[sympy.Expr] = []
        for term in sympy.Add.make_args(sympy.expand_mul(expr)):
            missing = parts.difference(*(held.get(s, frozenset()) for s in term.free_symbols))
            if missing:
                first = symbol(f"first_{len(terms)}")
                names[first.name] = self.buffers.first(missing)
                term *= first
            terms.append(term)
        return sympy.Add(*terms)

    def _joined(self, letter: str) -> Parts:
        """The parts of a sum along an axis."""
        if letter == "K" and self.tiling.key_parts > 1:
            raise SharedSum("A sum over channels is needed by several programs, each of which has some of them.")
        return Parts({"V"} if letter == "V" and self.tiling.parts > 1 else ())

    def _sum(self, op: ops.Sum, instruction: Instruction, place: Place) -> Tile:
        x = self.bare(instruction.operands[0], place)
        if x.rows and x.dims[1][0] not in {
            dim - 3 if len(self.types[instruction.operands[0]]) == 5 else dim - 2 for dim in op.dims
        }:
            x = self.value(instruction.operands[0], place)
        source = self.types[instruction.operands[0]]
        rows = x.rows
        lost = len(source) - len(tile_axes(source))
        chunked = lost == 3
        summed = {dim - lost if dim >= lost else 0 for dim in op.dims if dim >= lost or (not chunked and dim == 1)}
        if not chunked and len(source) > 2:
            # token level: the time axis is the first of the tile
            summed = {0 if dim == 1 else dim - 2 for dim in op.dims if dim == 1 or dim >= 3}
        text, kept = x.name, list(x.dims)
        for at in reversed(range(len(x.dims))):
            if x.dims[at][0] in summed:
                text, kept = f"tl.sum({text}, {at})", [d for d in kept if d != x.dims[at]]
            if rows and len(kept) == 1:
                text, rows = f"{text} * {rows}", None
        parts = x.parts.union(*(self._joined(letter) for at, letter in x.dims if at in summed))
        return Tile(self.assign(instruction.results[0], text), tuple(kept), parts)

    def _dot(self, op: ops.Dot, instruction: Instruction, place: Place) -> Tile:
        if halves_products(self, instruction):
            return precise_dot(self, op, instruction, place)
        result, (x, y) = instruction.results[0], instruction.operands
        left, right = self.tile(x, place), self.tile(y, place)
        contracted = left.dims[0 if op.transpose_x else 1][1]
        parts = left.parts | right.parts | self._joined(contracted)
        rows = columns = None
        if op.transpose_x and not op.transpose_y and (left.rows or right.rows):
            # both have a row for each term of the sum: the narrower one takes the factors of both
            factors = [each.rows for each in (left, right) if each.rows]
            factor = factors[0] if len(factors) == 1 else self.assign("factor", " * ".join(factors))
            narrow = self.tiling.extent(right.dims[1][1]) <= self.tiling.extent(left.dims[1][1])
            texts = [
                self.plain(x, place) if narrow else self.scaled(x, place, factor),
                self.scaled(y, place, factor) if narrow else self.plain(y, place),
            ]
        else:
            rows = None if op.transpose_x else left.rows
            make = self.operand if op.transpose_x else self.plain
            columns = right.rows if op.transpose_y and [x for _, x in self.dims(result)] == ["C", "C"] else None
            texts = [make(x, place), self.plain(y, place) if columns else self.operand(y, place)]
        flips = op.transpose_x, op.transpose_y
        left_text, right_text = (f"tl.trans({t})" if flip else t for t, flip in zip(texts, flips, strict=True))
        text = self.dot(left_text, right_text, result in self.precise)
        if columns:
            # fewer numbers than the operand has, and none of them rounded
            text += f" * {columns}[None, :]"
        return Tile(self.assign(result, text), self.dims(result), parts, rows=rows)

    def products(self, value: str) -> str:
        """The dtype and the precision of the products that make pairs: those of a path need more bits than bfloat16."""
        precise, tiling = value in self.precise, self.tiling
        operand = "tl.float16" if precise and tiling.mode == "bf16" else tiling.operand
        return f'{operand}, "{tiling.precise if precise else tiling.precision}"'

    def _library(self, instruction: Instruction, place: Place) -> None:
        op = instruction.op
        x = [self.value(operand, place) for operand in instruction.operands]
        names = [tile.name for tile in x]
        parts = frozenset[str]().union(*(tile.parts for tile in x))
        tiling = self.tiling
        match op:
            case ops.Inverse(wide):
                text = f'tiles.inverse({names[0]}, "{tiling.wide_products if wide else tiling.precise}")'
            case ops.Select(base, admissibility):
                text = f"tiles.select({names[0]}, {base}, {admissibility == 'strong'})"
            case ops.SelectAdjoint(base, admissibility):
                levels = self.tiling.levels
                text = f"tiles.select_adjoint({names[0]}, {levels}, {base}, {admissibility == 'strong'})"
            case ops.DecayDotAdjoint(_, row, column, diagonal):
                numbers = f"{row}, {column}, {diagonal}, {self.products(instruction.results[0])}"
                text = f"tiles.decay_dot_adjoint({', '.join(names)}, {numbers})"
        results = [self.kernel.fresh(self.buffers.name(r)) for r in instruction.results]
        self.kernel.line(f"{', '.join(results)} = {text}")
        for result, name in zip(instruction.results, results, strict=True):
            place.tiles[result] = Tile(name, self.dims(result), parts)


def _mentioned(expr: sympy.Expr) -> list[int]:
    """The operands that an expression mentions."""
    return sorted(int(s.name[1:]) for s in expr.free_symbols if s.name[1:].isdigit())
