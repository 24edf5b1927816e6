"""Sequences of many lengths in one batch row, timed beside a batch of as many tokens."""

from __future__ import annotations

import itertools
import random
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


def spread(count: int, total: int, longest: int) -> list[int]:
    """`count` lengths from 1 to `longest` that come to `total`, in an order without meaning, the same at every call.

    Their ranks to a power, so that there are more short ones than long ones where `total` asks for it. Raises
    ValueError where there are no such lengths.
    """
    if not count + longest - 1 <= total <= 1 + longest * (count - 1):
        raise ValueError(f"There are no {count} lengths from 1 to {longest} that come to {total}.")

    def lengths(power: float) -> list[int]:
        return [1 + round((longest - 1) * (rank / (count - 1)) ** power) for rank in range(count)]

    low, high = 0.0, 1e6  # the power at which all but the last one are 1
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(lengths(middle)) > total else (low, middle)
    found = lengths(high)
    for rank in itertools.cycle(range(count - 2, 0, -1)):
        if sum(found) == total:
            break
        found[rank] += found[rank] < longest
    random.Random(0).shuffle(found)
    return found


def packed_rows(attention: Attention, batch: Problem, lengths: list[int], bench: Bench) -> Iterator[Row]:
    """A row for the batch, then one for sequences of these lengths, none longer than those of the batch."""

    def single(x: Mapping[str, Any]) -> Tensor:
        return attention(**x)

    def packed(x: Mapping[str, Any]) -> Tensor:
        return attention(**x, cu_seqlens=bounds)

    yield bench.row(System("batch", single), batch, batch.inputs())
    levels = max(1, needed_levels(attention.spec, max(lengths)))
    row = replace(batch, shape=replace(batch.shape, B=1, T=sum(lengths), L=levels))
    bounds = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=batch.device)
    yield bench.row(System("packed", packed), row, row.inputs())
