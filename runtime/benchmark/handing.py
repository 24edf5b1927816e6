"""Calls that go on from a state and end in one, timed beside the same calls without states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.benchmark.bench import Bench
from maskdsl.runtime.benchmark.measure import Row, System
from maskdsl.runtime.benchmark.problem import Problem
from maskdsl.runtime.compiled import Attention


def handed_rows(attention: Attention, problem: Problem, bench: Bench) -> Iterator[Row]:
    """A row for calls without states, then one for calls that go on from a state and end in one.

    The state is that of as many tokens but one, so that a call of 2^n tokens finds something at every level and begins
    inside a chunk. Gradients are those of the output.
    """
    seen = max(1, problem.shape.T - 1)
    levels = max(1, needed_levels(attention.spec, seen + problem.shape.T + 1))
    problem = replace(problem, shape=replace(problem.shape, L=levels))
    inputs = problem.inputs()
    by_token = {each.name for each in attention.spec.inputs if "T" in each.kind.value}
    with torch.no_grad():
        before: dict[str, Any] = {name: x[:, :seen] if name in by_token else x for name, x in inputs.items()}
        _, state = attention(**before, output_final_state=True)

    def alone(x: Mapping[str, Any]) -> Tensor:
        return attention(**x)

    def handed(x: Mapping[str, Any]) -> Tensor:
        return attention(**x, initial_state=state, output_final_state=True)[0]

    yield bench.row(System("alone", alone), problem, inputs)
    yield bench.row(System("from state to state", handed), problem, inputs)
