"""One token of every sequence by a generated kernel, on the tensors of a state themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.steps.memory import SLOTS
from maskdsl.lowering.memory import POSITIONS
from maskdsl.runtime.arguments import result_dtype
from maskdsl.runtime.build import ratios_of
from maskdsl.runtime.state import State
from maskdsl.runtime.step import Token, advance
from maskdsl.runtime.triton.call import Form, Given
from maskdsl.runtime.triton.function import ALIGNMENT, dense
from maskdsl.runtime.triton.program import Program
from maskdsl.schedule.configuration import padded
from maskdsl.schedule.token import StepConfiguration
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Spec


def step_configuration(token: Token, state: State, slots: Tensor | None) -> StepConfiguration:
    """What the kernel of a step depends on. Raises Unsupported where an input or the state is of float64."""
    tensors, sizes = token.bound.tensors, token.bound.sizes
    wide = [f"Input '{name}'" for name, x in tensors.items() if x.dtype == torch.float64]
    wide += ["The state"] if state.dtype == torch.float64 else []
    if wide:
        raise Unsupported(f"{wide[0]} is of float64, for which there are no Triton kernels.")
    ratios = ratios_of(dict(sizes.key_heads), sizes.H)
    return StepConfiguration(ratios, sizes.K or 0, sizes.V or 0, padded(sizes.L or 0, 1), slots is not None)


def run_token(program: Program, given: Given, state: State, token: Token, slots: Tensor | None) -> Tensor:
    """The output [B, 1, H, V] or [B, H, V]; the state, or its `slots`, is one token further afterwards.

    It computes in float32 and writes no row of a state that does not change; rows that have moved on stay behind.
    """
    tensors = arguments(state, token, slots)
    output = program.step(given, tensors)
    with torch.no_grad():
        for name, x in (*state.named(), (POSITIONS, state.positions)):
            if tensors[name] is not x:
                x.copy_(tensors[name])
        advance(state, slots, program.module.COUNTS)
    state.leftovers = True
    return output.squeeze(1) if token.without_time else output


def given_of(spec: Spec, token: Token) -> Given:
    """What all steps with tokens like this one share."""
    bound = token.bound
    forms = {name: Form(x.shape, x.dtype) for name, x in bound.tensors.items()}
    return Given(bound.sizes.known, forms, result_dtype(spec, bound))


def arguments(state: State, token: Token, slots: Tensor | None) -> dict[str, Tensor]:
    """What a kernel is given: the inputs and, dense, all that the state has."""
    tensors = {name: dense(x) for name, x in token.bound.tensors.items()}
    tensors |= {name: _compact(x) for name, x in state.named()}
    tensors[POSITIONS] = _compact(state.positions)
    if slots is not None:
        tensors[SLOTS] = _compact(slots)
    return tensors


def _compact(x: Tensor) -> Tensor:
    """The same values without gaps and with an aligned start."""
    if x.is_contiguous() and x.data_ptr() % ALIGNMENT == 0:
        return x
    return x.clone(memory_format=torch.contiguous_format)
