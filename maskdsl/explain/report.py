"""All that `explain` says about a spec: its recurrence, its normal form and what it costs."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from maskdsl.explain import costs
from maskdsl.explain.recurrence import normal_form, recurrence
from maskdsl.mask.normal import NormalForm
from maskdsl.mask.normalize import normalize
from maskdsl.spec import Attend, Spec

LENGTHS = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20)
WIDTH = 110


def normal_forms(spec: Spec) -> dict[str, NormalForm]:
    """The normal form of the mask of every attend, by the attend's name."""
    return {each.name: normalize(each.node.mask) for each in spec.definitions if isinstance(each.node, Attend)}


def explain(spec: Spec, sizes: costs.Sizes | None = None) -> str:
    """The recurrence, the normal form, and costs against softmax attention, as plain text."""
    sizes = sizes or costs.Sizes()
    forms = normal_forms(spec)
    layer = f"H = {sizes.heads}, K = {sizes.key}, V = {sizes.value}"
    parts = [
        f"{spec.name}\n{'=' * len(spec.name)}",
        *([spec.doc.strip()] if spec.doc.strip() else []),
        _titled("Recurrence", recurrence(spec, forms)),
        _titled("Normal form", normal_form(spec, forms)),
        _titled(f"Costs of one sequence, {layer}", _tables(spec, forms, sizes)),
    ]
    return "\n\n".join(parts) + "\n"


def _titled(title: str, body: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{body}"


def _tables(spec: Spec, forms: dict[str, NormalForm], sizes: costs.Sizes) -> str:
    text = io.StringIO()
    console = Console(file=text, width=WIDTH, color_system=None)
    for table in _state(forms, sizes), _training(spec, forms, sizes), _decoding(spec, forms, sizes):
        console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _state(forms: dict[str, NormalForm], sizes: costs.Sizes) -> Table:
    title = "State against the key-value cache of softmax attention"
    table = _table(title, "state, bf16", "state, float32", "cache, bf16")
    for length in LENGTHS:
        state = sizes.heads * sum(costs.state_numbers(form, length, sizes) for form in forms.values())
        cache = sizes.heads * costs.cache_numbers(length, sizes)
        table.add_row(_length(length), _bytes(2 * state), _bytes(4 * state), _bytes(2 * cache))
    return table


def _training(spec: Spec, forms: dict[str, NormalForm], sizes: costs.Sizes) -> Table:
    table = _comparison(f"Training, forward and backward, chunks of {costs.CHUNK}")
    for length in LENGTHS:
        own = costs.training(spec, tuple(forms.values()), length, sizes)
        _row(table, length, own, costs.softmax_training(length, sizes))
    return table


def _decoding(spec: Spec, forms: dict[str, NormalForm], sizes: costs.Sizes) -> Table:
    table = _comparison("Decoding, one token at position T, states in float32")
    for length in LENGTHS:
        own = costs.decoding(spec, tuple(forms.values()), length, sizes)
        _row(table, length, own, costs.softmax_decoding(length, sizes))
    return table


def _comparison(title: str) -> Table:
    return _table(title, "FLOPs", "bytes moved", "softmax FLOPs", "softmax bytes", "FLOPs ratio", "bytes ratio")


def _row(table: Table, length: int, own: costs.Cost, softmax: costs.Cost) -> None:
    table.add_row(
        _length(length),
        _si(own.flops),
        _bytes(own.bytes),
        _si(softmax.flops),
        _bytes(softmax.bytes),
        f"{own.flops / softmax.flops:.3g}",
        f"{own.bytes / softmax.bytes:.3g}",
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("T", *columns):
        table.add_column(column, justify="right")
    return table


def _length(length: int) -> str:
    return f"{length >> 20} M" if length >= 1 << 20 else f"{length >> 10} k"


def _si(number: float) -> str:
    for power, unit in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {unit}"
    return f"{number:.3g}"


def _bytes(number: float) -> str:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << power:
            return f"{number / (1 << power):.4g} {unit}"
    return f"{number:.4g} B"
