"""The kernels that the schedule's report counts are those that calls launch."""

from __future__ import annotations

import pytest
import torch
from compilation import library_spec

from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import bind, needed_levels
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.triton.build import load
from maskdsl.runtime.triton.call import Form, Given
from maskdsl.runtime.triton.offline import Kernels
from maskdsl.runtime.triton.program import record
from maskdsl.schedule.plan import Direction
from maskdsl.schedule.report import report

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


def stored_bytes(kernels: Kernels) -> int:
    """The size of the tensors that a call keeps for its backward pass."""
    dtypes = {Kind.KEY: torch.bfloat16, Kind.VALUE: torch.bfloat16}
    tensors = {
        each.name: torch.empty(kernels.shape.of(each), dtype=dtypes.get(each.kind, torch.float32), device="meta")
        for each in kernels.spec.inputs
    }
    module = load(kernels.spec, kernels.configuration).module
    forms = {name: Form(x.shape, x.dtype) for name, x in tensors.items()}
    sizes = bind(kernels.spec, (), tensors).sizes.known
    given = Given(sizes, forms, torch.bfloat16)
    (_, stored), _ = record(module, "forward", given, [tensors[x] for x in module.FORWARD])
    return sum(x.nbytes for x in stored)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("name", ["gla", "log_linear_gla", "log_linear_mamba2", "two_timescale", "windowed_decay"])
def test_names_programs_and_stored_bytes(name: str, heads: int) -> None:
    spec = library_spec(name)
    keys = tuple((each.name, heads) for each in spec.inputs if each.kind is Kind.KEY)
    shape = Shape(1, 1024, 4, 128, 256, max(1, needed_levels(spec, 1024)), keys)
    kernels = Kernels(spec, shape, "bf16", "sm_90")
    sizes = {"B": shape.B, "T": shape.T, "H": shape.H, "K": shape.K, "V": shape.V, "L": shape.L}
    found, launched = report(spec, kernels.configuration, sizes), kernels.launches()
    for direction in DIRECTIONS:
        programs = {each.kernel.__name__: each.programs for each in launched[direction]}
        assert set(programs) == {kernel for row in found.rows[direction] for kernel in row.kernels}
        for row in found.rows[direction]:
            assert row.programs in (None, programs[row.kernels[0]])
    assert sum(found.stored.values()) == stored_bytes(kernels)
