"""What is timed: one call of a spec, with its sizes, its dtype and its random inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.spec import Spec

Tensors = Mapping[str, Tensor]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

VECTORS = (Kind.KEY, Kind.VALUE, Kind.CHANNEL)
"""What has the dtype of the call; gates of a token, level weights and parameters stay in float32."""


@dataclass(frozen=True)
class Problem:
    """One call: B sequences of T tokens, in `dtype` on `device`."""

    spec: Spec
    shape: Shape
    dtype: torch.dtype
    device: str

    @classmethod
    def of(
        cls,
        spec: Spec,
        *,
        batch: int,
        length: int,
        heads: int,
        key: int,
        value: int,
        key_heads: int | None,
        dtype: torch.dtype,
        device: str,
    ) -> Problem:
        """The call with these sizes, as many level weights as it needs, and `key_heads` heads in every key input."""
        shared = key_heads or heads
        names = tuple((each.name, shared) for each in spec.inputs if each.kind is Kind.KEY)
        shape = Shape(batch, length, heads, key, value, max(1, needed_levels(spec, length)), names)
        return cls(spec, shape, dtype, device)

    @property
    def output(self) -> tuple[int, int, int, int]:
        """The shape of the output, [B, T, H, V]."""
        return self.shape.B, self.shape.T, self.shape.H, self.shape.V

    def inputs(self) -> dict[str, Tensor]:
        """Random inputs with mild decays; the same at every call."""
        drawn = random_inputs(self.spec, self.shape, device=self.device)
        vectors = {each.name for each in self.spec.inputs if each.kind in VECTORS}
        return {name: x.to(self.dtype) if name in vectors else x for name, x in drawn.items()}

    def rotations(self, inputs: Tensors, count: int) -> list[Tensors]:
        """`count` sets of inputs in memory of their own: the tokens of `inputs`, each time from another one on."""
        length = self.shape.T
        moving = {each.name for each in self.spec.inputs if "T" in each.kind.value}
        return [
            {n: x.roll(turn * length // count, dims=1) if n in moving else x for n, x in inputs.items()}
            for turn in range(count)
        ]
