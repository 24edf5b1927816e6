"""How fast compiled attention is on this machine, against the same recurrence walked token by token.

Forward and backward in float32. Everything counts with the best of three passes after a warm-up, so that other work on
the machine weighs little. Program and recurrence get the same inputs, and their outputs are compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import maskdsl
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.oracle import recurrent
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.spec import Spec

NAMES = ("log_linear_mamba2", "gated_deltanet")
SHORT, LONG = 4096, 16384
RUNS = 3


def main() -> None:
    """Print the table."""
    console = Console(width=100)
    console.print("Seconds of forward + backward, B = 1, H = 8, K = V = 64, float32", highlight=False)
    machine = f"{os.cpu_count()} CPU cores, torch {torch.__version__} with {torch.get_num_threads()} threads"
    console.print(machine, highlight=False)
    table = Table("attention", "T", "compiled", "recurrence", "ratio", "largest difference")
    for name in NAMES:
        for row in _rows(name):
            table.add_row(*row)
    console.print(table)


def _rows(name: str) -> list[tuple[str, ...]]:
    attention = maskdsl.compile(name)
    inputs, longer = _inputs(attention.spec, SHORT), _inputs(attention.spec, LONG)
    compiled, output = _measure(lambda: attention(**inputs), inputs)
    at_length, _ = _measure(lambda: attention(**longer), longer)
    walked, exact = _measure(lambda: recurrent(attention.spec, inputs), inputs)
    difference = f"{float((output - exact).abs().max() / exact.abs().max()):.1e}"
    return [
        (name, str(SHORT), f"{compiled:.3f}", f"{walked:.2f}", f"{walked / compiled:.0f} x faster", difference),
        (name, str(LONG), f"{at_length:.3f}", "", f"{at_length / compiled:.1f} x T = {SHORT}", ""),
    ]


def _inputs(spec: Spec, length: int) -> dict[str, Any]:
    shape = Shape(B=1, T=length, H=8, K=64, V=64, L=max(1, needed_levels(spec, length)))
    return {name: tensor.requires_grad_() for name, tensor in random_inputs(spec, shape).items()}


def _measure(attention: Callable[[], Tensor], inputs: dict[str, Any]) -> tuple[float, Tensor]:
    """Seconds of one forward and backward pass, the best of `RUNS` after a warm-up, and the output."""
    seconds = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        output = attention()
        torch.autograd.grad(output, list(inputs.values()), torch.ones_like(output))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]), output.detach()


if __name__ == "__main__":
    main()
