"""`maskdsl run`: a spec on random inputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from maskdsl.cli.specs import chosen, located, spec_argument

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")


@click.command()
@spec_argument
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="B, the sequences.")
@click.option("--length", type=click.IntRange(1), default=1024, show_default=True, help="T, the tokens of each.")
@click.option("--heads", type=click.IntRange(1), default=4, show_default=True, help="H.")
@click.option("--key", type=click.IntRange(1), default=64, show_default=True, help="K, the size of a key.")
@click.option("--value", type=click.IntRange(1), default=64, show_default=True, help="V, the size of a value.")
def run(spec: str, name: str | None, batch: int, length: int, heads: int, key: int, value: int) -> None:
    """Compile SPEC and run it on random inputs, forward and backward; print shapes and times.

    \b
    Examples:
      maskdsl run gated_deltanet
      maskdsl run log_linear_mamba2 --length 16384 --heads 8
    """
    import maskdsl
    from maskdsl.runtime.arguments import needed_levels
    from maskdsl.runtime.sampling import Shape, random_inputs

    spec, name = located(spec, name)
    checked = chosen(spec, name)
    shape = Shape(batch, length, heads, key, value, max(1, needed_levels(checked, length)))
    inputs: dict[str, Any] = {each: tensor.requires_grad_() for each, tensor in random_inputs(checked, shape).items()}
    compiled, seconds = _timed(lambda: maskdsl.compile(spec, name=name))
    times = [("compile", seconds)]
    for label in ("forward, first call", "forward"):
        output, seconds = _timed(lambda: compiled(**inputs))
        times.append((label, seconds))
    for label in ("backward, first call", "backward"):
        _, seconds = _timed(lambda: output.sum().backward(retain_graph=True))
        times.append((label, seconds))
    _print(checked.name, {**inputs, "output": output}, times)


def _print(title: str, tensors: dict[str, Tensor], times: list[tuple[str, float]]) -> None:
    console = Console()
    shapes = Table("tensor", "shape", "dtype", title=title, title_justify="left")
    for name, tensor in tensors.items():
        shapes.add_row(name, str(list(tensor.shape)), str(tensor.dtype).removeprefix("torch."))
    console.print(shapes, markup=False)
    took = Table("step", "ms", title_justify="left")
    for label, seconds in times:
        took.add_row(label, f"{1000 * seconds:.2f}")
    console.print(took)


def _timed(action: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start
