"""The adjoint of every operation of the chunk IR: from the gradients of its results to those of its operands."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Builder, Instruction
from maskdsl.differentiation.energy import row_energy
from maskdsl.scalar.derivative import derivative


class Adjoints:
    """Appends the adjoints of instructions to a builder that already holds them."""

    def __init__(self, build: Builder) -> None:
        self.build = build
        self.systems: dict[str, str] = {}
        for each in build.instructions:
            if isinstance(each.op, ops.Inverse):
                self.systems[each.results[0]] = each.operands[0]
            elif isinstance(each.op, ops.Cast | ops.Repeat) and each.operands[0] in self.systems:
                self.systems[each.results[0]] = self.systems[each.operands[0]]

    def sources(self, instruction: Instruction) -> Sequence[str]:
        """The values whose gradients an instruction has: its operands, but a system in the place of its inverse."""
        if not self._solves(instruction) and not isinstance(instruction.op, ops.SolvedScan):
            return instruction.operands
        return [self.systems.get(x, x) for x in instruction.operands]

    def of(self, instruction: Instruction, grads: Sequence[str]) -> Sequence[str | None]:
        """The gradients of the sources, in order, from those of the results; None where there is none."""
        build, x = self.build, instruction.operands
        dy = grads[0]
        match instruction.op:
            case ops.Map(expr):
                return [self._map(expr, instruction, dy, i) for i in range(len(x))]
            case ops.Dot() if self._solves(instruction):
                return self._solve(instruction.op, x, instruction.results[0], dy)
            case ops.Dot():
                dx, dz = self._of_left(instruction.op, x, dy), self._of_right(instruction.op, x, dy)
                return [self.reduce(dx, build.types[x[0]]), self.reduce(dz, build.types[x[1]])]
            case ops.Align():
                return [build(ops.Align(build.types[x[0]]), dy, name=f"d_{x[0]}")]
            case ops.Expand() | ops.GroupSum() | ops.Repeat() | ops.Sum():
                return [self._broadcast(instruction.op, x[0], dy)]
            case ops.Chunk(size):
                return [build(ops.Unchunk(size), dy, name=f"d_{x[0]}")]
            case ops.Unchunk(size):
                return [build(ops.Chunk(size), dy, name=f"d_{x[0]}")]
            case ops.Lay(size):
                return [build(ops.Unlay(size), dy, name=f"d_{x[0]}")]
            case ops.Unlay(size):
                return [build(ops.Lay(size), dy, name=f"d_{x[0]}")]
            case ops.Cast(wide):
                return [build(ops.Cast(not wide), dy, name=f"d_{x[0]}")]
            case ops.Shift(by):
                return [build(ops.Shift(-by), dy, name=f"d_{x[0]}")]
            case ops.Transpose() | ops.Tril() | ops.Near():
                return [build(instruction.op, dy, name=f"d_{x[0]}")]
            case ops.Weave(dim):
                return [build(ops.Pick(i, len(x), dim), dy, name=f"d_{v}") for i, v in enumerate(x)]
            case ops.Pick(offset, stride, dim):
                return [build(ops.Place(offset, stride, dim), dy, name=f"d_{x[0]}")]
            case ops.Place(offset, stride, dim):
                return [build(ops.Pick(offset, stride, dim), dy, name=f"d_{x[0]}")]
            case ops.Cumsum(reverse, exclusive):
                return [build(ops.Cumsum(not reverse, exclusive), dy, name=f"d_{x[0]}")]
            case ops.Inverse():
                return [self._inverse(x[0], instruction.results[0], dy)]
            case ops.Scan(reverse=False):
                return self._scan(instruction, grads)
            case ops.SolvedScan(reverse=False):
                return self._solved_scan(instruction, grads)
            case ops.Spans(steps, row, column):
                return [build(ops.SpansAdjoint(steps, row, column), dy, name=f"d_{x[0]}")]
            case ops.Select(base, admissibility):
                return [build(ops.SelectAdjoint(base, admissibility), dy, name=f"d_{x[0]}")]
            case ops.DecayDot(steps, row, column, diagonal):
                return build.apply(ops.DecayDotAdjoint(steps, row, column, diagonal), dy, *x, name="d_pairs")
            case ops.Tree():
                return self._tree(instruction, grads)
            case ops.Walk(base, admissibility, initial):
                return build.apply(ops.WalkAdjoint(base, admissibility, initial), dy, *x, name="d_walked")
            case ops.Band(lags, width, base, admissibility, initial):
                return build.apply(ops.BandAdjoint(lags, width, base, admissibility, initial), dy, *x, name="d_banded")
            case ops.Keep(width, initial):
                return build.apply(ops.KeepAdjoint(width, initial), *grads, *x, name="d_kept")
            case ops.Relay(base, admissibility):
                return build.apply(ops.RelayAdjoint(base, admissibility), *grads, *x, name="d_relayed")
            case ops.Slide(width, base, admissibility):
                return build.apply(ops.SlideAdjoint(width, base, admissibility), *grads, *x, name="d_recent")
        raise TypeError(f"{instruction.op} has no adjoint")

    def _map(self, expr: sympy.Expr, instruction: Instruction, dy: str, index: int) -> str | None:
        x = instruction.operands
        slope = derivative(expr, ops.argument(index))
        if slope == 0:
            return None
        if slope == expr and self._summed(self.build.types[dy], self.build.types[x[index]]) == (4,):
            # the exponent of a row of vectors
            energy = row_energy(self.build, dy, instruction.results[0], f"d_{x[index]}")
            if energy:
                return energy
        used = [i for i in range(len(x)) if ops.argument(i) in slope.free_symbols]
        moved = {ops.argument(i): ops.argument(n + 1) for n, i in enumerate(used)}
        # term by term, so that a gradient of 0 meets each factor before an overflowing sum of them could
        term = sympy.Add(*(ops.argument(0) * part for part in sympy.Add.make_args(slope.xreplace(moved))))
        grad = dy if slope == 1 else self.build(ops.Map(term), dy, *(x[i] for i in used), name=f"d_{x[index]}")
        return self.reduce(grad, self.build.types[x[index]])

    def _of_left(self, op: ops.Dot, operands: Sequence[str], dy: str) -> str:
        x, y = operands
        if op.transpose_x:
            return self.build(ops.Dot(op.transpose_y, True), y, dy, name=f"d_{x}")
        return self.build(ops.Dot(False, not op.transpose_y), dy, y, name=f"d_{x}")

    def _of_right(self, op: ops.Dot, operands: Sequence[str], dy: str) -> str:
        x, y = operands
        if op.transpose_y:
            return self.build(ops.Dot(True, op.transpose_x), dy, x, name=f"d_{y}")
        return self.build(ops.Dot(not op.transpose_x, False), x, dy, name=f"d_{y}")

    def _broadcast(self, op: ops.Operation, x: str, dy: str) -> str:
        before = self.build.types[x]
        match op:
            case ops.Sum():
                return self.build(ops.Expand(before), dy, name=f"d_{x}")
            case ops.Repeat(dim):
                return self.build(ops.GroupSum(ax.ratio(before[dim]), dim), dy, name=f"d_{x}")
            case ops.GroupSum(_, dim):
                return self.build(ops.Repeat(dim), dy, name=f"d_{x}")
        return self.reduce(dy, before)

    def _solves(self, instruction: Instruction) -> bool:
        """Whether an instruction is a product with the inverse of a system whose solution has a gradient of its own."""
        x = instruction.operands
        if instruction.op == ops.Dot() and x[1] in self.systems:
            return x[0] not in self.systems
        return instruction.op in (ops.Dot(), ops.Dot(True, False)) and x[0] in self.systems

    def _solve(self, op: ops.Dot, operands: Sequence[str], y: str, dy: str) -> Sequence[str | None]:
        """A product with Z = (I - L)^-1: the gradient of the other factor, and of L the part below the diagonal.

        Y = Z X gives dX = Z' dY and dL = dX Y'; Y = Z' X gives dX = Z dY and dL = Y dX'; Y = X Z gives dX = dY Z' and
        dL = Y' dX. Source: Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
        differentiation" (2008), section 2.3.1.
        """
        build, left = self.build, operands[0] in self.systems
        inverse, x = operands if left else operands[::-1]
        system = self.systems[inverse]
        dx = self._of_right(op, operands, dy) if left else self._of_left(op, operands, dy)
        first, second = (y, dx) if op.transpose_x or not left else (dx, y)
        full = build(ops.Dot(not left, left), first, second, name=f"d_{system}_full")
        d_system, dx = self._below_diagonal(full, system), self.reduce(dx, build.types[x])
        return [d_system, dx] if left else [dx, d_system]

    def _below_diagonal(self, full: str, system: str) -> str:
        """The part of a gradient that a system has, summed over the heads that share it."""
        build, axes = self.build, self.build.types[system]
        found = build(ops.Tril(-1), full, name=f"d_{system}")
        if axes[1] not in ("1", build.types[found][1]):
            found = build(ops.GroupSum(ax.ratio(axes[1]), 1), found, name=f"{found}_group")
        return self.reduce(found, axes)

    def _inverse(self, system: str, inverse: str, dy: str) -> str:
        """X = (I - L)^-1 gives dL = X' dX X', of which L has the part below the diagonal."""
        half = self.build(ops.Dot(True, False), inverse, dy, name=f"d_{inverse}_half")
        full = self.build(ops.Dot(False, True), half, inverse, name=f"d_{system}_full")
        return self.build(ops.Tril(-1), full, name=f"d_{system}")

    def _scan(self, instruction: Instruction, grads: Sequence[str]) -> Sequence[str | None]:
        """The same scan from the end, which goes from the gradient of the final state to that of the initial one."""
        op, (operator, writes, *initial) = instruction.op, instruction.operands
        assert isinstance(op, ops.Scan)
        back = ops.Scan(reverse=True, initial=op.final, final=op.initial)
        after, *first = self.build.apply(back, operator, *grads, name=f"d_{writes}")
        found = [self._of_operator(operator, instruction.results[0], after)]
        found.append(self.reduce(after, self.build.types[writes]))
        return [*found, *(self.reduce(d, self.build.types[x]) for d, x in zip(first, initial, strict=True))]

    def _of_operator(self, operator: str, states: str, after: str) -> str:
        """The gradient of a chunk's operator, from the states before it and the gradients of those after it."""
        build, axes = self.build, self.build.types[operator]
        if ops.matrices([axes]):
            return self.reduce(build(ops.Dot(False, True), after, states, name=f"d_{operator}"), axes)
        products = build(ops.Map(ops.argument(0) * ops.argument(1)), after, states, name=f"d_{operator}_all")
        slope = ops.Map(ops.argument(0) * sympy.exp(ops.argument(1)))
        return build(slope, self.reduce(products, axes), operator, name=f"d_{operator}")

    def _solved_scan(self, instruction: Instruction, grads: Sequence[str]) -> Sequence[str | None]:
        """The same scan from the end: dW enters as values do, dS as writes do, and it answers dv, as in `_solve`."""
        build, types, op = self.build, self.build.types, instruction.op
        assert isinstance(op, ops.SolvedScan)
        operator, a, b, v, inverse, *_ = instruction.operands
        writes, initial = op.rest(instruction.operands)
        states, answers, *_ = instruction.results
        d_states, d_answers, *d_final = grads
        back = ops.SolvedScan(reverse=True, initial=op.final, final=op.initial)
        after, d_v, *first = build.apply(
            back, operator, a, b, d_answers, inverse, d_states, *d_final, name=f"d_{answers}"
        )
        found = [self._of_operator(operator, states, after)]
        for factor, left, right in ((a, answers, after), (b, d_v, states)):
            gradient = build(ops.Dot(False, True), left, right, name=f"d_{factor}")
            found.append(self.reduce(gradient, types[factor]))
        system, pairs = self.systems[inverse], [d_v, answers]
        if self._is_rounded(inverse):
            pairs = [build(ops.Cast(wide=True), x, name=f"{x}_double") for x in pairs]
        full = build(ops.Dot(False, True), *pairs, name=f"d_{system}_full")
        d_system = self._below_diagonal(full, system)
        found += [self.reduce(d_v, types[v]), d_system]
        if writes is not None:
            found.append(self.reduce(after, types[writes]))
        return [*found, *(self.reduce(d, types[x]) for d, x in zip(first, [initial] if initial else [], strict=True))]

    def _is_rounded(self, inverse: str) -> bool:
        """Whether a scan takes an inverse in the precision of the call."""
        maker = self.build.makers[inverse]
        while not isinstance(maker.op, ops.Inverse):
            if maker.op == ops.Cast(wide=False):
                return True
            maker = self.build.makers[maker.operands[0]]
        return False

    def _tree(self, instruction: Instruction, grads: Sequence[str]) -> Sequence[str | None]:
        build, op = self.build, instruction.op
        assert isinstance(op, ops.Tree)
        operator, _, *keys_and_initial = instruction.operands
        keys, strong = keys_and_initial[:2], op.admissibility == "strong"
        ends = [operator, *keys_and_initial[0 if strong else 2 :]] if op.final else []
        adjoint = ops.TreeAdjoint(op.base, op.initial, op.final, op.admissibility)
        d_operator, d_writes, *d_initial = build.apply(
            adjoint, *instruction.results[:2], *grads, *ends, name="d_leaves"
        )
        moved = [operator] if strong else []
        left = ops.LeftAdjoint(op.base, op.admissibility)
        d_keys = build.apply(left, grads[2], *moved, *keys, name="d_left") if op.final else ()
        return [d_operator, d_writes, *d_keys, *d_initial]

    def reduce(self, grad: str, target: Axes) -> str:
        """A gradient summed over the axes along which its value was broadcast."""
        dims = self._summed(self.build.types[grad], target)
        return self.build(ops.Sum(dims), grad, name=f"{grad}_sum") if dims else grad

    @staticmethod
    def _summed(axes: Axes, target: Axes) -> tuple[int, ...]:
        return tuple(i for i, (have, want) in enumerate(zip(axes, target, strict=True)) if want == "1" != have)
