"""Calls of kernels with states one after the other, for a process in which Triton is the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch
from agreement import compiled
from torch import Tensor
from variants import VARIANTS, chunk_of

import maskdsl
from maskdsl.diagnostics import CallError
from maskdsl.language.printer import to_text
from maskdsl.runtime import compiled as calls
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.folded import fold

LENGTH, LEVELS = 9, 7
"""Levels are enough for 64 positions."""

Outputs = list[dict[str, Tensor]]


def kernels(name: str) -> Attention:
    text = to_text(compiled(*VARIANTS[name]).spec.syntax)
    return maskdsl.compile(text, "triton", chunk=chunk_of(name))


def inputs(attention: Attention, batch: int, seed: int) -> dict[str, Tensor]:
    sizes = {"B": batch, "T": LENGTH, "H": 2, "Hk": 2, "K": 5, "V": 6, "L": LEVELS}
    generator = torch.Generator().manual_seed(seed)
    shapes = {each.name: [sizes[axis] for axis in each.kind.value] for each in attention.spec.inputs}
    return {n: torch.rand(shape, generator=generator).neg().requires_grad_() for n, shape in shapes.items()}


def in_a_row(name: str, batch: int, again: bool) -> tuple[Outputs, list[int], list[int]]:
    """Calls that go on from each other, or each by an attention of its own.

    What each makes, its gradients among it; how often a call was checked by then; how far states said they were.
    """
    attention, state = kernels(name), None
    found: Outputs = []
    checks: list[int] = []
    furthest: list[int] = []
    with mock.patch.object(calls, "sequences", wraps=calls.sequences) as check:
        for number in range(3):
            x = inputs(attention, batch, number)
            o, state = attention(**x, initial_state=state, output_final_state=True)
            kept = {f"{m}.{n}": t for m, held in fold(state, torch.float32).items() for n, t in held.items()}
            loss = torch.stack([t.square().sum() for t in (o, *kept.values())]).sum()
            gradients = dict(zip(x, torch.autograd.grad(loss, list(x.values())), strict=True))
            state = state.detach()
            found.append(
                {n: t.detach() for n, t in {"o": o, "positions": state.positions, **kept, **gradients}.items()}
            )
            checks.append(check.call_count)
            furthest.append(state.furthest)
            attention = attention if again else kernels(name)
    return found, checks, furthest


def refusals(name: str, again: bool) -> dict[str, str]:
    """What is said to wrong calls, each after a right one where there is one to go on from."""
    attention = kernels(name)
    x = inputs(attention, 2, 0)
    _, state = attention(**x, output_final_state=True)
    state = state.detach()

    def changed(**sizes: int) -> dict[str, Tensor]:
        return {n: t[:, :, :, : sizes[n]] if n in sizes else t for n, t in x.items()}

    far = state.clone()
    far.positions.fill_(60)
    wrong: dict[str, Callable[[Attention], object]] = {
        "no state": lambda a: a(**x, initial_state=3),  # type: ignore[call-overload]
        "another spec": lambda a: a(**x, initial_state=kernels("diagonal").init_state(2, heads=2, key=5, value=6)),
        "another device": lambda a: a(**x, initial_state=state.to("meta"), output_final_state=True),
        "sequences": lambda a: a(**x, initial_state=state.select([0]), output_final_state=True),
        "sizes": lambda a: a(**changed(v=5), initial_state=state, output_final_state=True),
        "keys": lambda a: a(**changed(k=4), initial_state=state, output_final_state=True),
        "missing": lambda a: a(**{n: t for n, t in x.items() if n != "v"}, initial_state=state),
        "given twice": lambda a: a(x["q"], **x, initial_state=state, output_final_state=True),
        "unknown": lambda a: a(**x, u=x["v"], initial_state=state, output_final_state=True),
        "float64": lambda a: a(**x, initial_state=state.to(torch.float64), output_final_state=True),
        "values": lambda a: a(**x | {"g": -x["g"]}, initial_state=state, output_final_state=True, check_inputs=True),
        "too far": lambda a: a(**x, initial_state=far, output_final_state=True),
        "bounds": lambda a: a(**_row(x), cu_seqlens=torch.tensor([0, 9, 7]), output_final_state=True),
    }
    if again:
        attention(**x, initial_state=state, output_final_state=True)
        attention(**_row(x), cu_seqlens=torch.tensor([0, 7, 9]), output_final_state=True)
    said = {}
    for case, call in wrong.items():
        try:
            call(attention if again else kernels(name))
            said[case] = "nothing"
        except CallError as error:
            said[case] = str(error)
    return said


def _row(x: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t[:1] for n, t in x.items()}
