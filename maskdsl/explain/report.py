"""All that `explain` says about a spec: recurrence, normal form, state, what it costs, and its kernels."""

from __future__ import annotations

from rich.table import Table

from maskdsl.explain import costs
from maskdsl.explain.memory import memory
from maskdsl.explain.numbers import bytes_of, printed, si
from maskdsl.explain.recurrence import normal_form, recurrence
from maskdsl.explain.schedule import schedule
from maskdsl.lowering.chunking import chunk_size
from maskdsl.mask.normal import NormalForm
from maskdsl.mask.normalize import normalize
from maskdsl.spec import Attend, Spec

LENGTHS = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20)


def normal_forms(spec: Spec) -> dict[str, NormalForm]:
    """The normal form of the mask of every attend, by the attend's name."""
    return {each.name: normalize(each.node.mask) for each in spec.definitions if isinstance(each.node, Attend)}


def explain(spec: Spec, sizes: costs.Sizes | None = None) -> str:
    """The recurrence, normal form, state, costs against softmax attention, and the GPU's kernels, as plain text."""
    sizes = sizes or costs.Sizes()
    forms = normal_forms(spec)
    layer = f"H = {sizes.heads}, K = {sizes.key}, V = {sizes.value}"
    parts = [
        f"{spec.name}\n{'=' * len(spec.name)}",
        *([spec.doc.strip()] if spec.doc.strip() else []),
        _titled("Recurrence", recurrence(spec, forms)),
        _titled("Normal form", normal_form(spec, forms)),
        _titled(f"State of one sequence in float32, {layer}", memory(spec, sizes)),
        _titled(f"Costs of one sequence, {layer}", _tables(spec, forms, sizes)),
        _titled("Schedule on a GPU", schedule(spec, sizes)),
    ]
    return "\n\n".join(parts) + "\n"


def _titled(title: str, body: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{body}"


def _tables(spec: Spec, forms: dict[str, NormalForm], sizes: costs.Sizes) -> str:
    return printed(_state(forms, sizes), _training(spec, forms, sizes), _decoding(spec, forms, sizes))


def _state(forms: dict[str, NormalForm], sizes: costs.Sizes) -> Table:
    title = "State against the key-value cache of softmax attention"
    table = _table(title, "state, bf16", "state, float32", "cache, bf16")
    for length in LENGTHS:
        state = sizes.heads * sum(costs.state_numbers(form, length, sizes) for form in forms.values())
        cache = sizes.heads * costs.cache_numbers(length, sizes)
        table.add_row(_length(length), bytes_of(2 * state), bytes_of(4 * state), bytes_of(2 * cache))
    return table


def _training(spec: Spec, forms: dict[str, NormalForm], sizes: costs.Sizes) -> Table:
    sizes_of_chunks = sorted({chunk_size(term) for form in forms.values() for term in form.terms})
    table = _comparison(f"Training, forward and backward, chunks of {' and '.join(map(str, sizes_of_chunks))}")
    for length in LENGTHS:
        own = costs.training(spec, tuple(forms.values()), length, sizes)
        _row(table, length, own, costs.softmax_training(length, sizes))
    return table


def _decoding(spec: Spec, forms: dict[str, NormalForm], sizes: costs.Sizes) -> Table:
    table = _comparison("Decoding, one token of the first T on average, states in float32")
    for length in LENGTHS:
        own = costs.decoding(spec, tuple(forms.values()), length, sizes)
        _row(table, length, own, costs.softmax_decoding(length, sizes))
    return table


def _comparison(title: str) -> Table:
    return _table(title, "FLOPs", "bytes moved", "softmax FLOPs", "softmax bytes", "FLOPs ratio", "bytes ratio")


def _row(table: Table, length: int, own: costs.Cost, softmax: costs.Cost) -> None:
    table.add_row(
        _length(length),
        si(own.flops),
        bytes_of(own.bytes),
        si(softmax.flops),
        bytes_of(softmax.bytes),
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
