"""Each operation of the chunk IR as a PyTorch expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.scalar.printers import to_torch


def expression(op: Operation, x: Sequence[str], types: Sequence[Axes], like: str, laid: bool = False) -> str:
    """The result of an operation on operands with these names and types; `like` is a tensor of the dtype and device.

    Where the program is `laid` out, its chunks are the slots of a `layout`.
    """
    match op:
        case ops.Constant(expr, axes):
            return f"{like}.new_full({_ones(axes)}, {to_torch(expr, {})}).expand({_shape(axes, laid)})"
        case ops.Identity():
            return f"torch.eye(K, dtype={like}.dtype, device={like}.device)[None, None, None]"
        case ops.Align(axes):
            return _align(x[0], types[0], axes)
        case ops.Expand(axes):
            return f"{x[0]}.expand({_shape(axes, laid)})"
        case ops.Repeat(dim):
            return f"{x[0]}.repeat_interleave({ax.ratio(types[0][dim])}, {dim})"
        case ops.GroupSum(ratio, dim):
            return f"{x[0]}.unflatten({dim}, (-1, {ratio})).sum({dim + 1})"
        case ops.Cast(wide):
            return f"{x[0]}.double()" if wide else f"{x[0]}.to({like}.dtype)"
        case ops.Unchunk():
            return f"torch_ops.unchunk({x[0]}, T)"
        case ops.Transpose():
            return f"{x[0]}.mT"
        case ops.Weave(dim):
            return f"torch.stack(({', '.join(x)}), {dim + 1}).flatten({dim}, {dim + 1})"
        case ops.Pick(offset, stride, dim):
            return f"{x[0]}[{':, ' * dim}{offset}::{stride}]"
        case ops.Map(expr):
            return to_torch(expr, {f"x{i}": name for i, name in enumerate(x)})
        case ops.Sum(dims):
            return f"{x[0]}.sum({dims}, keepdim=True)"
        case ops.Dot(transpose_x, transpose_y):
            return f"{x[0]}{'.mT' if transpose_x else ''} @ {x[1]}{'.mT' if transpose_y else ''}"
        case ops.Tril(diagonal):
            return f"{x[0]}.tril({diagonal})"
        case ops.Near(width):
            return f"{x[0]}.triu({1 - width})"
        case ops.SelectAdjoint(base, admissibility):
            return f'torch_ops.select_adjoint({x[0]}, L, {base}, "{admissibility}")'
        case ops.Split(dim):
            return f"{x[0]}.split((1, L - 1), {dim})"
        case ops.Band() | ops.BandAdjoint() if len(x) == (4 if isinstance(op, ops.Band) else 5):
            return _call(op, [*x, "None"], types)
        case ops.Lay(size) | ops.Unlay(size):
            return f"torch_ops.{_FUNCTIONS[type(op)]}({x[0]}, {_slots(size)})"
        case ops.Relay() | ops.RelayAdjoint() | ops.Slide() | ops.SlideAdjoint():
            return _call(op, [_slots(ax.chunk_size(types[0][3])), *_every_operand(op, x)], types)
        case ops.SolvedScan(final=final) if laid:
            slots = f"slots={_slots(ax.chunk_size(types[3][3]))}"
            return _call(op, [*x[:5], *(each or "None" for each in op.rest(x)), f"final={final}", slots], types)
    return _call(op, x, types)


_FUNCTIONS: Mapping[type[Operation], str] = {
    ops.Chunk: "chunk",
    ops.Shift: "shift",
    ops.Place: "place",
    ops.Cumsum: "cumsum",
    ops.Inverse: "inverse",
    ops.Spans: "spans",
    ops.SpansAdjoint: "spans_adjoint",
    ops.DecayDot: "decay_dot",
    ops.DecayDotAdjoint: "decay_dot_adjoint",
    ops.Select: "select",
    ops.Scan: "scan",
    ops.SolvedScan: "solved_scan",
    ops.Tree: "tree",
    ops.TreeAdjoint: "tree_adjoint",
    ops.Walk: "walk",
    ops.WalkAdjoint: "walk_adjoint",
    ops.Band: "band",
    ops.BandAdjoint: "band_adjoint",
    ops.Regroup: "regroup",
    ops.Enter: "enter",
    ops.SelectSlots: "select_slots",
    ops.Lay: "lay",
    ops.Unlay: "unlay",
    ops.Relay: "relay",
    ops.RelayAdjoint: "relay_adjoint",
    ops.Slide: "slide",
    ops.SlideAdjoint: "slide_adjoint",
}
"""Operations that are a call of `maskdsl.codegen.torch_ops`: operands first, then the constants by name."""

_BETWEEN_CHUNKS = (ops.Scan, ops.Tree, ops.TreeAdjoint, ops.Walk, ops.WalkAdjoint, ops.Band, ops.BandAdjoint)
"""Those whose functions are told that operators are matrices: a matrix of one channel looks like a number."""


def constants_of(op: Operation) -> dict[str, object]:
    """What functions are told of an operation: not what only kernels ask for.

    States of all chunks are there, in all their digits, and blocks of all levels; programs that hand states on are laid
    out.
    """
    names = ["every", "wide", "initial", "final"]
    if isinstance(op, ops.Tree | ops.TreeAdjoint):
        names.append("admissibility")
    return {name: value for name, value in vars(op).items() if name not in names}


def _call(op: Operation, operands: Sequence[str], types: Sequence[Axes]) -> str:
    constants = [f"{name}={value!r}" for name, value in constants_of(op).items()]
    if isinstance(op, _BETWEEN_CHUNKS) and ops.matrices(types):
        constants.append("matrix=True")
    return f"torch_ops.{_FUNCTIONS[type(op)]}({', '.join([*operands, *constants])})"


def _slots(size: int) -> str:
    """The slots of a laid-out program, as source."""
    return f"layout.slots({size})"


def _every_operand(op: Operation, x: Sequence[str]) -> list[str]:
    """The operands with `None` for those that are not there."""
    adjoint = isinstance(op, ops.RelayAdjoint | ops.SlideAdjoint)
    least, results = ops.HANDING[ops.Relay if isinstance(op, ops.Relay | ops.RelayAdjoint) else ops.Slide]
    fixed = least + (results if adjoint else 0)
    return [*x[:fixed], *(each or "None" for each in ops.optional(x[fixed:]))]


def _ones(axes: Axes) -> str:
    return f"({', '.join('1' for _ in axes)},)"


def _shape(axes: Axes, laid: bool) -> str:
    return ", ".join(_extent(axis, laid) for axis in axes)


def _extent(axis: str, laid: bool) -> str:
    """The number of elements of an axis, as source."""
    match axis[0]:
        case "N" if laid:
            return f"{_slots(ax.chunk_size(axis))}.count"
        case "S":
            return "layout.positions.shape[1]"
        case "H" if axis != "H":
            return f"H // {ax.ratio(axis)}"
        case "N":
            return f"-(-T // {ax.chunk_size(axis)})"
        case "C":
            return str(ax.chunk_size(axis) * ax.rows(axis))
        case "M":
            return "L - 1"
        case "R":
            return axis[1:]
    return axis


def _align(x: str, before: Axes, after: Axes) -> str:
    """Axes of one element dropped, then inserted."""
    ones = tuple(i for i, axis in enumerate(before) if axis == "1")
    squeezed = f"{x}.squeeze({ones})" if ones else x
    if "1" not in after:
        return squeezed
    return f"{squeezed}[{', '.join('None' if axis == '1' else ':' for axis in after)}]"
