"""Steps by generated kernels, for a process in which Triton is the interpreter."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from agreement import FLOOR
from tokens import Memories, distance, part, sequences, start, steps
from torch import Tensor

import maskdsl
from maskdsl.lowering.memory import LOGS, STATES, memories
from maskdsl.mask.levels import level
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.oracle import recurrent_with_state
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.runtime.state import State
from maskdsl.runtime.verification import verify
from maskdsl.spec import Spec

Errors = dict[str, float]
"""How far outputs and memories are from the right ones, relative to these."""


def inputs_of(
    spec: Spec, T: int, *, B: int = 2, H: int = 2, K: int = 5, V: int = 3, key_heads: int = 1, regime: Regime = "mild"
) -> dict[str, Tensor]:
    """A call in float32 with as many levels as the token after it needs."""
    keys = tuple((each.name, key_heads) for each in spec.inputs if each.kind is Kind.KEY)
    shape = Shape(B, T, H, K, V, max(1, needed_levels(spec, T + 1)), keys)
    drawn = random_inputs(spec, shape, dtype=torch.float32, regime=regime)
    return {name: x.clamp(max=60) for name, x in drawn.items()}


def error(found: Tensor, wanted: Tensor) -> float:
    """How far an output is from the right one, relative to that; infinite where it is not finite."""
    if found.shape != wanted.shape or not found.isfinite().all():
        return float("inf")
    return (found.double() - wanted).norm().item() / max(wanted.norm().item(), FLOOR)


def step_errors(text: str, T: int, sizes: Mapping[str, int], regime: Regime = "mild") -> Errors:
    """All tokens of a call one after the other, against the recurrence."""
    attention = maskdsl.compile(text, "triton")
    inputs = inputs_of(attention.spec, T, regime=regime, **sizes)
    truth, final = recurrent_with_state(attention.spec, {name: x.double() for name, x in inputs.items()})
    state = start(attention, inputs, torch.float32)
    found = {"o": error(steps(attention, state, inputs), truth)}
    assert "tl.program_id" in attention.source("step")
    return found | _errors(state.memories, final)


def random_step_errors(text: str, positions: list[int], sizes: Mapping[str, int], levels: int = 40) -> Errors:
    """One token of sequences far along, whose levels hold anything, and NaN where they are empty."""
    attention, reference = maskdsl.compile(text, "triton"), maskdsl.compile(text, "torch")
    inputs = inputs_of(attention.spec, 1, B=len(positions), **sizes)
    for each in attention.spec.inputs:
        if each.kind is Kind.LEVEL:
            inputs[each.name] = torch.rand(*inputs[each.name].shape[:3], levels)
    state = _anything(attention, inputs, positions)
    wide = state.to(torch.float64)
    for memory in memories(attention.spec):
        if STATES in state.held[memory.name] and memory.term.hierarchy is not None:
            base, admissibility = memory.term.hierarchy.base, memory.term.hierarchy.admissibility
            for row, pos in enumerate(positions):
                # the farthest and the nearest that a level may hold bound all of it
                held = {level(pos, s, base, admissibility) for s in _witnesses(pos, base)}
                empty = [j for j in range(1, levels) if j not in held]
                state.held[memory.name][STATES][row, :, [j - 1 for j in empty]] = torch.nan
                wide.held[memory.name][STATES][row, :, [j - 1 for j in empty]] = 0
    truth = reference.step(wide, **{name: x.double() for name, x in inputs.items()})
    found = {"o": error(attention.step(state, **inputs), truth)}
    return found | _errors(state.memories, wide.memories)


def pooled_step_errors(text: str, T: int, sizes: Mapping[str, int]) -> Errors:
    """Sequences that join one after the other, in slots of a pool of which the last is never used."""
    attention = maskdsl.compile(text, "triton")
    inputs = inputs_of(attention.spec, T, B=3, **sizes)
    truth, _ = recurrent_with_state(attention.spec, {name: x.double() for name, x in inputs.items()})
    state = start(attention, {name: torch.cat([x, x[:1]]) if x.shape[0] == 3 else x for name, x in inputs.items()})
    state, places, worst = state.to(torch.float32), torch.tensor([2, 0, 1]), 0.0
    untouched = {name: x[3].clone() for _, name, x in state.buffers()}
    for t in range(T + 2):
        rows = [row for row in range(3) if 0 <= t - row < T]
        tokens = [part(attention.spec, sequences(attention.spec, inputs, [row]), t - row, t - row + 1) for row in rows]
        by_token = {each.name for each in attention.spec.inputs if "T" in each.kind.value}
        given = {
            name: torch.cat([token[name] for token in tokens]) if name in by_token else x for name, x in inputs.items()
        }
        o = attention.step(state, slots=places[rows], **given)
        wanted = torch.cat([truth[row : row + 1, t - row : t - row + 1] for row in rows])
        worst = max(worst, error(o, wanted))
    assert state.positions.tolist() == [T, T, T, 0]
    assert all(x[3].equal(untouched[name]) for _, name, x in state.buffers())
    return {"o": worst}


def alternating_step_errors(text: str, T: int, dtype: torch.dtype = torch.float32) -> Errors:
    """Tokens by kernel and by PyTorch in turn, on one state; and by kernel on states with gaps and at odd addresses."""
    kernels, plain = maskdsl.compile(text, "triton"), maskdsl.compile(text, "torch")
    inputs = inputs_of(plain.spec, T)
    truth, final = recurrent_with_state(plain.spec, {name: x.double() for name, x in inputs.items()})
    mixed, spread, odd = (start(plain, inputs, dtype) for _ in range(3))
    for kept in spread.held.values():
        kept |= {name: torch.stack([x, x], -1)[..., 0] for name, x in kept.items()}
    for kept in odd.held.values():
        kept |= {name: x.new_zeros(x.numel() + 1)[1:].view(x.shape) for name, x in kept.items()}
    tokens = [part(plain.spec, inputs, t, t + 1) for t in range(T)]
    found = torch.cat([(plain, kernels)[t % 2].step(mixed, **token) for t, token in enumerate(tokens)], 1)
    errors = {"o": error(found, truth), **_errors(mixed.memories, final)}
    for name, state in {"spread": spread, "odd": odd}.items():
        places = [x.data_ptr() for _, x in state.named()]
        again = torch.cat([kernels.step(state, **token) for token in tokens], 1)
        errors[f"o, {name}"] = error(again, truth)
        errors |= {f"{each}, {name}": e for each, e in _errors(state.memories, final).items()}
        assert places == [x.data_ptr() for _, x in state.named()]
    assert not any(x.is_contiguous() for _, x in spread.named() if x.numel() > 1)
    return errors


def short_call_errors(text: str, dtype: torch.dtype = torch.float32) -> Errors:
    """Calls of a few tokens that go on from each other, and from a state that they leave as it is."""
    attention = maskdsl.compile(text, "triton")
    inputs = inputs_of(attention.spec, 12)
    truth, final = recurrent_with_state(attention.spec, {name: x.double() for name, x in inputs.items()})
    first, state = attention(**part(attention.spec, inputs, 0, 5), output_final_state=True)
    state = state.to(dtype)
    rest = part(attention.spec, inputs, 5, 12)
    again = attention(**rest, initial_state=state)
    second, state = attention(**rest, initial_state=state, output_final_state=True)
    assert again.equal(second)
    assert (state.dtype, state.furthest) == (torch.float32, 12)
    return {"o": error(torch.cat([first, second], 1), truth), **_errors(state.memories, final)}


def long_calls(text: str) -> list[str]:
    """What a backend of kernels says of calls with states that it has none for."""
    attention = maskdsl.compile(text, "triton")
    inputs = inputs_of(attention.spec, 33)
    short = part(attention.spec, inputs, 0, 3)
    said = []
    for given in (inputs, {name: x.requires_grad_() for name, x in short.items()}):
        try:
            attention(**given, output_final_state=True)
        except maskdsl.CallError as refusal:
            said.append(str(refusal))
    return said


def refusals(text: str) -> list[str]:
    """What a backend of kernels says of float64, in the state and in an input; nothing of either state has changed."""
    attention = maskdsl.compile(text, "triton")
    inputs = inputs_of(attention.spec, 1)
    said = []
    for dtype, given in ((torch.float64, inputs), (torch.float32, inputs | {"g": inputs["g"].double()})):
        state = start(attention, inputs, dtype)
        try:
            attention.step(state, **given)
        except maskdsl.CallError as refusal:
            said.append(str(refusal))
        assert not any(x.any() for _, _, x in state.buffers())
        assert not state.positions.any()
    return said


def verified(text: str) -> dict[str, bool]:
    """Whether what `maskdsl verify` compares is right, by the way that it is computed."""
    report = verify(maskdsl.compile(text).spec, 2, backend="triton")
    ways = {check.way for check in report.checks}
    return {way: all(check.passed for check in report.checks if check.way == way) for way in ways}


def _errors(found: Memories, wanted: Memories) -> Errors:
    """The terms of a sum may be in another order."""
    return {name: min(distance(memory, wanted[other]) for other in wanted) for name, memory in found.items()}


def _anything(attention: Attention, inputs: Mapping[str, Tensor], positions: list[int]) -> State:
    state = start(attention, inputs, torch.float32)
    for _, name, x in state.buffers():
        x.copy_(-torch.rand_like(x) if name == LOGS else torch.randn_like(x))
    return State(attention.spec, state.held, torch.tensor(positions))


def _witnesses(pos: int, base: int) -> set[int]:
    """Positions before `pos` among which every level that any of them has is found: beside ends of blocks."""
    ends = {pos // base**p * base**p - n * base**p for p in range(64) if base**p <= pos for n in range(4)}
    return {s for end in ends for s in (end - 1, end) if 0 <= s < pos}
