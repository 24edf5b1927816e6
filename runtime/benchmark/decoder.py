"""Something that computes one token at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maskdsl.runtime.benchmark.meter import Work

WARMUP = 3
"""Steps before one is captured: what is compiled or allocated on the way is in no graph."""


@dataclass(frozen=True)
class Decoder:
    """`step` returns the output of a token and `reset` makes the next one stand where this one stood.

    `moved` are the bytes that a step cannot do without.
    """

    step: Callable[[], Tensor]
    moved: int
    reset: Callable[[], None] = lambda: None


def captured(decoder: Decoder) -> Work:
    """The replay of a step in a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP):
            decoder.reset()
            decoder.step()
    torch.cuda.current_stream().wait_stream(side)
    decoder.reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        decoder.step()
    return graph.replay
