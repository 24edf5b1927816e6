"""The order in which a kernel works its values out: products are used up before the next ones are made."""

from __future__ import annotations

import ast

import pytest
from compilation import library_spec

from maskdsl.codegen.kernels.chunks import ChunksKernel
from maskdsl.runtime.triton.build import text_of
from maskdsl.schedule.configuration import Configuration

CONFIGURATION = Configuration((), 128, 128, 16, "bf16")


def waiting(name: str) -> dict[str, int]:
    """For each kernel over chunks, the most products that wait at a time for what uses them."""
    module = ast.parse(text_of(library_spec(name), CONFIGURATION))
    kernels = [each for each in module.body if isinstance(each, ast.FunctionDef) and "_chunks" in each.name]
    return {kernel.name: _most(kernel) for kernel in kernels}


def _most(kernel: ast.FunctionDef) -> int:
    made: dict[str, int] = {}
    used: dict[str, int] = {}
    for place, line in enumerate(kernel.body):
        used |= {x.id: place for x in ast.walk(line) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Load)}
        match line:
            case ast.Assign(targets=[ast.Name(name)], value=value) if "tl.dot" in ast.unparse(value):
                made[name] = place
    alive = [sum(made[x] <= place < used.get(x, made[x]) for x in made) for place in range(len(kernel.body))]
    return max(alive, default=0)


@pytest.mark.parametrize(
    ("name", "most"), [("gated_deltanet", 1), ("kda", 1), ("rwkv7", 2), ("log_linear_gated_deltanet", 2)]
)
def test_few_products_wait(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = waiting(name)
    assert max(found.values()) == most

    def as_wanted(kernel: ChunksKernel, wanted: list[str]) -> None:
        for value in wanted:
            kernel._write(value)

    monkeypatch.setattr(ChunksKernel, "_write_in_order", as_wanted)
    unordered = waiting(name)
    assert all(found[kernel] <= unordered[kernel] for kernel in found)
    assert max(unordered.values()) > most
