"""The kernels of a spec on a GPU: what each makes, moves and computes, and the least time that takes."""

from __future__ import annotations

from rich.table import Table

from maskdsl.explain import costs
from maskdsl.explain.numbers import bytes_of, printed, si
from maskdsl.mask.levels import levels
from maskdsl.mask.nodes import Kind
from maskdsl.mask.normalize import normalize
from maskdsl.schedule.configuration import Configuration, padded
from maskdsl.schedule.plan import Direction
from maskdsl.schedule.report import BANDWIDTH, RATE, Report, Row, report
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Attend, Spec

LENGTH = 4096


def schedule(spec: Spec, sizes: costs.Sizes) -> str:
    """A row for every stage of both passes over a sequence of LENGTH tokens in bfloat16.

    A sentence where there are no kernels for the spec.
    """
    has = {each.kind.feature for each in spec.inputs}
    count = _levels(spec) if "L" in has else 0
    key, value = (size if axis in has else 0 for axis, size in (("K", sizes.key), ("V", sizes.value)))
    configuration = Configuration((), key, value, padded(count), "bf16")
    call = {"B": 1, "T": LENGTH, "H": sizes.heads, "K": sizes.key, "V": sizes.value, "L": count}
    try:
        found = report(spec, configuration, call)
    except Unsupported as error:
        return f"{error} PyTorch runs it."
    tables = printed(*(_table(direction, rows) for direction, rows in found.rows.items()))
    return "\n".join([*_head(found), tables, *_foot(found)])


def _levels(spec: Spec) -> int:
    """The level weights that a call needs."""
    hierarchies = [
        term.hierarchy
        for each in spec.definitions
        if isinstance(each.node, Attend)
        for term in normalize(each.node.mask).terms
        if term.hierarchy and term.hierarchy.lam.kind is Kind.LEVEL
    ]
    return max((levels(LENGTH, each.base, each.admissibility) for each in hierarchies), default=1)


def _head(found: Report) -> list[str]:
    heads = ", ".join(f"{count} in the {direction} pass" for direction, count in found.heads.items())
    return [
        f"One sequence of {LENGTH} tokens; vectors in bfloat16, all else in float32; every head has keys of its own.",
        f"Chunks of {found.chunk} tokens. Heads a program: {heads}.",
    ]


def _table(direction: Direction, rows: tuple[Row, ...]) -> Table:
    table = Table(title=f"{direction.capitalize()} pass", title_justify="left")
    for column in ("kernel", "makes"):
        table.add_column(column, overflow="fold")
    for column in ("programs", "bytes", "FLOPs", "µs at least"):
        table.add_column(column, justify="right")
    for row in rows:
        programs = "" if row.programs is None else str(row.programs)
        numbers = _numbers(row.bytes, row.flops, row.seconds)
        table.add_row(", ".join(row.kernels), ", ".join(row.made), programs, *numbers)
    table.add_section()
    total = (sum(row.bytes for row in rows), sum(row.flops for row in rows), sum(row.seconds for row in rows))
    table.add_row("sum", "", "", *_numbers(*total))
    return table


def _numbers(moved: int, computed: int, seconds: float) -> tuple[str, str, str]:
    return bytes_of(moved), si(computed), f"{1e6 * seconds:.1f}"


def _foot(found: Report) -> list[str]:
    stored = ", ".join(f"{value} {bytes_of(count)}" for value, count in found.stored.items())
    total = bytes_of(sum(found.stored.values()))
    return [
        f"Stored for the backward pass: {f'{stored}; {total} in all' if stored else 'nothing but the inputs'}.",
        f"The least time is bytes over {si(BANDWIDTH)}B/s or FLOPs over {si(RATE)}FLOP/s, whichever is more: what one "
        "H200 was measured to do.",
    ]
