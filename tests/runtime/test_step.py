"""Token by token against the oracles: any spec, any gates, sequences of different ages in one batch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import pytest
import torch
from agreement import FLOOR, compiled, inputs_of
from hypothesis import given, note, settings
from hypothesis import strategies as st
from strategies import spec_texts
from tokens import assert_same_state, part, sequences, start, steps
from torch import Tensor
from variants import VARIANTS

import maskdsl
from maskdsl import library
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.oracle import dense, recurrent, recurrent_with_state
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs, regimes, shapes

ROUNDING = 30
"""How many times the error of the float32 recurrence counts as unavoidable, where that is more than the tolerance."""


def error(found: Tensor, wanted: Tensor) -> float:
    """How far an output is from the right one, relative to that; infinite where it is not finite."""
    assert found.shape == wanted.shape
    if not found.isfinite().all():
        return float("inf")
    return (found.double() - wanted).norm().item() / max(wanted.norm().item(), FLOOR)


def assert_steps_right(attention: Attention, inputs: Mapping[str, Tensor]) -> None:
    """Float64 within 1e-10 of the dense oracle, state and all; float32 within 1e-5, but for digits that cancel."""
    single = {name: x.float().clamp(max=60) for name, x in inputs.items()}
    double = {name: x.double() for name, x in single.items()}
    truth, (again, final) = dense(attention.spec, double), recurrent_with_state(attention.spec, double)
    state = start(attention, double)
    # the oracles themselves agree to this
    assert error(steps(attention, state, double), truth) <= max(1e-10, ROUNDING * error(again, truth))
    assert_same_state(state.memories, final, 1e-10)
    allowed = max(1e-5, ROUNDING * error(recurrent(attention.spec, single), truth))
    assert error(steps(attention, start(attention, single, torch.float32), single), truth) <= allowed


@settings(max_examples=40)
@given(st.data(), spec_texts(), regimes())
def test_random_specs(data: st.DataObject, text: str, regime: Regime) -> None:
    attention = maskdsl.compile(text)
    shape = data.draw(shapes(attention.spec, longest=20))
    note(f"{text}{shape}")
    assert_steps_right(attention, random_inputs(attention.spec, shape, dtype=torch.float64, regime=regime))


@pytest.mark.parametrize("regime", ["mild", "mixed"])
@pytest.mark.parametrize("name", library.names())
def test_the_library(name: str, regime: Regime) -> None:
    attention = maskdsl.compile(name)
    keys = [each.name for each in attention.spec.inputs if each.kind.label == "key"]
    shape = Shape(B=2, T=18, H=6, K=5, V=3, L=7, key_heads=tuple(zip(keys, (2, 3), strict=False)))
    assert_steps_right(attention, random_inputs(attention.spec, shape, dtype=torch.float64, regime=regime))


@pytest.mark.parametrize("name", [name for name in VARIANTS if "hierarchy" in name or "window" in name])
def test_through_many_levels_and_around_the_ring(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    inputs = inputs_of(attention, 130)
    state = start(attention, inputs)
    truth, final = recurrent_with_state(attention.spec, inputs)
    assert error(steps(attention, state, inputs), truth) <= 1e-10
    assert_same_state(state.memories, final, 1e-10)


@pytest.mark.parametrize("base", [2, 3, 4, 5])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_last_token_that_the_levels_allow(base: int, levels: int) -> None:
    attention = compiled(
        "q, k : key",
        "v : value",
        "lam : level",
        "g : token <= 0",
        f"return attend(q, k, v, fenwick(lam, base={base}) * semiseparable(g))",
    )
    inputs = inputs_of(attention, base ** (levels - 1))
    assert inputs["lam"].shape[-1] == levels
    state = start(attention, inputs)
    assert error(steps(attention, state, inputs), dense(attention.spec, inputs)) <= 1e-10
    with pytest.raises(maskdsl.CallError, match=f"'lam' has {levels} levels?, but a sequence at position"):
        attention.step(state, **part(attention.spec, inputs, 0, 1))


# -- gates ----------------------------------------------------------------------------------------------------------

MASKS = {
    "number": "semiseparable(log(w))",
    "weak": "semiseparable(log(w)) * fenwick(lam)",
    "strong": 'semiseparable(log(w)) * fenwick(lam, admissibility="strong")',
    "window": "semiseparable(log(w)) * window(5)",
    "window and levels": 'semiseparable(log(w)) * window(5) * fenwick(lam, admissibility="strong")',
    "operator": "semiseparable(log(w)) * delta(l2norm(k), 1) * fenwick(lam, base=3)",
}


@pytest.mark.parametrize("log_decay", [0, -1e-4, -20, -1e3, -torch.inf, "mixed"])
@pytest.mark.parametrize("kind", ["token", "channel"])
@pytest.mark.parametrize("mask", MASKS)
def test_gates_of_every_strength(mask: str, kind: str, log_decay: float | str) -> None:
    path = MASKS[mask].replace("* delta", "@ delta")
    lam = ["lam : level"] if "lam" in path else []
    attention = compiled("q, k : key", "v : value", f"w : {kind} in [0, 1]", *lam, f"return attend(q, k, v, {path})")
    inputs = inputs_of(attention, 40)
    strengths = torch.tensor([0, -1e-4, -20, -1e3, -torch.inf] if log_decay == "mixed" else [log_decay])
    chosen = torch.randint(len(strengths), inputs["w"].shape, generator=torch.Generator().manual_seed(1))
    inputs["w"] = strengths.double()[chosen].exp()
    truth = recurrent(attention.spec, inputs)
    assert error(steps(attention, start(attention, inputs), inputs), truth) <= 1e-10
    single = {name: x.float() for name, x in inputs.items()}
    truth = recurrent(attention.spec, {name: x.double() for name, x in single.items()})
    assert error(steps(attention, start(attention, inputs, torch.float32), single), truth) <= 1e-5


def test_small_decays_add_up_over_many_tokens() -> None:
    """What a float32 sum of logs would lose: 3000 times the same small decay, each rounded alike."""
    attention = compiled(
        "q, k : key",
        "v : value",
        "g : head <= 0",
        "lam : level",
        "return attend(q, k, v, semiseparable(g) * fenwick(lam))",
    )
    inputs = {name: x.float() for name, x in inputs_of(attention, 3000, H=1, K=1, V=1).items()}
    inputs["g"] = torch.tensor([-0.01])
    inputs["lam"] = (torch.arange(13) == 12).float().expand(1, 3000, 1, 13)
    truth = recurrent(attention.spec, {name: x.double() for name, x in inputs.items()})
    found = steps(attention, start(attention, inputs, torch.float32), inputs)
    assert error(found[:, -1:], truth[:, -1:]) <= 1e-5


def test_kernels_need_a_gpu() -> None:
    attention = maskdsl.compile("retention", "triton")
    inputs = {name: x.float() for name, x in inputs_of(attention, 1).items()}
    with pytest.raises(maskdsl.CallError, match="Input 'q' is on 'cpu', but Triton needs a GPU"):
        attention.step(start(attention, inputs, torch.float32), **inputs)


# -- sequences of different ages -----------------------------------------------------------------------------------

every_variant = pytest.mark.parametrize("name", VARIANTS)


@every_variant
def test_sequences_of_different_ages_in_one_batch(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    spec, inputs = attention.spec, inputs_of(attention, 45, B=4)
    ages, further = [1, 22, 31, 8], 14
    pool = start(attention, inputs)
    for t in range(max(ages)):
        rows = [row for row, age in enumerate(ages) if t < age]
        attention.step(pool, **part(spec, sequences(spec, inputs, rows), t, t + 1), slots=torch.tensor(rows))
    assert pool.positions.tolist() == ages
    order = [2, 0, 3]
    state = pool.select(order)
    tokens = [part(spec, sequences(spec, inputs, [row]), ages[row], ages[row] + further) for row in order]
    by_token = {each.name for each in spec.inputs if "T" in each.kind.value}
    together = {n: torch.cat([x[n] for x in tokens]) if n in by_token else x for n, x in tokens[0].items()}
    output, truth = steps(attention, state, together), recurrent(spec, inputs)
    for place, row in enumerate(order):
        assert error(output[[place]], truth[[row], ages[row] : ages[row] + further]) <= 1e-10
    assert pool.positions.tolist() == ages


@every_variant
def test_slots_touch_no_other_sequence(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    spec, inputs = attention.spec, inputs_of(attention, 9, B=4)
    pool = start(attention, inputs)
    steps(attention, pool, part(spec, inputs, 0, 8))
    before, alone = pool.clone(), pool.select([3, 1])
    token = part(spec, sequences(spec, inputs, [3, 1]), 8, 9)
    for dtype in (torch.int64, torch.int32):
        pool = before.clone()
        output = attention.step(pool, **token, slots=torch.tensor([3, 1], dtype=dtype))
        assert pool.positions.tolist() == [8, 9, 8, 9]
        for memory, buffer, x in pool.buffers():
            assert x[[0, 2]].equal(before.memories[memory][buffer][[0, 2]])
    torch.testing.assert_close(output, attention.step(alone, **token), rtol=1e-12, atol=1e-12)
    assert_same_state(pool.select([3, 1]).memories, alone.memories, 1e-12)


# -- dtypes, layouts, gradients --------------------------------------------------------------------------------------


def test_a_state_in_bfloat16_is_rounded_after_every_token() -> None:
    attention = compiled(*VARIANTS["diagonal, weak hierarchy"])
    inputs = {name: x.float() for name, x in inputs_of(attention, 20).items()}
    half, single = (start(attention, inputs, dtype) for dtype in (torch.bfloat16, torch.float32))
    for t in range(20):
        token = part(attention.spec, inputs, t, t + 1)
        assert attention.step(half, **token).equal(attention.step(single, **token))
        single = single.to(torch.bfloat16).to(torch.float32)
    buffers = {name: x.dtype for _, name, x in half.buffers()}
    assert buffers == {"states": torch.bfloat16, "logs": torch.float64}
    assert (
        error(steps(attention, start(attention, inputs, torch.bfloat16), inputs), dense(attention.spec, inputs)) < 1e-2
    )


@pytest.mark.parametrize(
    ("dtypes", "state", "result"),
    [
        ({"q": torch.bfloat16, "k": torch.bfloat16, "v": torch.bfloat16}, torch.float32, torch.bfloat16),
        ({"q": torch.bfloat16, "k": torch.float32, "v": torch.bfloat16}, torch.float32, torch.float32),
        ({"q": torch.float16, "k": torch.float16, "v": torch.float16}, torch.bfloat16, torch.float16),
        ({"g": torch.float64, "beta": torch.bfloat16}, torch.float32, torch.float32),
        ({}, torch.float64, torch.float32),
    ],
)
def test_mixed_dtypes(dtypes: dict[str, torch.dtype], state: torch.dtype, result: torch.dtype) -> None:
    attention = compiled(*VARIANTS["operator, weak hierarchy"])
    inputs = {name: x.to(dtypes.get(name, torch.float32)) for name, x in inputs_of(attention, 12).items()}
    kept, outputs = start(attention, inputs, state), []
    for t in range(12):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs.append(attention.step(kept, **part(attention.spec, inputs, t, t + 1)))
    output = torch.cat(outputs, 1)
    assert output.dtype == result
    truth = dense(attention.spec, {name: x.double() for name, x in inputs.items()})
    allowed = 1e-2 if torch.bfloat16 in (state, result) else 1e-3 if result == torch.float16 else 1e-5
    assert error(output, truth) <= allowed


def test_the_time_axis_may_be_left_out() -> None:
    attention = compiled(
        "D : head",
        *VARIANTS["operator, weak hierarchy"][:-1],
        "return D * attend(q, k, v, fenwick(lam) * semiseparable(g) * delta(k, beta))",
    )
    inputs = inputs_of(attention, 6)
    with_time, without = (start(attention, inputs) for _ in range(2))
    expected = steps(attention, with_time, inputs)
    for t in range(6):
        token = {name: x[:, t] if x.ndim > 1 else x for name, x in inputs.items()}
        assert attention.step(without, **token).equal(expected[:, t])
        assert attention.step(without.clone(), *token.values()).shape == expected[:, t].shape


def test_layouts_do_not_matter() -> None:
    attention = compiled(*VARIANTS["diagonal, window"])
    inputs = inputs_of(attention, 25)
    expected = steps(attention, start(attention, inputs), inputs)
    strided = {name: torch.stack([x, x * torch.nan], -1)[..., 0] for name, x in inputs.items()}
    assert steps(attention, start(attention, inputs), strided).equal(expected)
    same = {name: x[:, :1].expand_as(x) for name, x in inputs.items()}
    whole = {name: x.contiguous() for name, x in same.items()}
    assert steps(attention, start(attention, inputs), same).equal(steps(attention, start(attention, inputs), whole))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_step_is_in_place_and_has_no_gradient(mode: type) -> None:
    attention = compiled(*VARIANTS["number, weak hierarchy"])
    inputs = {name: x.requires_grad_() for name, x in inputs_of(attention, 5).items()}
    with mode():
        state = start(attention, inputs)
        places = [x.data_ptr() for _, _, x in state.buffers()] + [state.positions.data_ptr()]
        output = steps(attention, state, inputs)
    assert not output.requires_grad
    assert places == [x.data_ptr() for _, _, x in state.buffers()] + [state.positions.data_ptr()]
    assert not any(x.requires_grad for _, _, x in state.buffers())
    assert error(output.detach().clone(), dense(attention.spec, inputs).detach()) <= 1e-10


def test_inputs_may_have_any_name() -> None:
    names = ("self", "args", "state", "states", "logs", "positions", "step", "spec", "sizes", "torch", "attend_1_1")
    text = f"attention any:\n    {', '.join(names)} : key\n    v : value\n    lam : level\n    g : token <= 0\n"
    attention = maskdsl.compile(
        f"{text}    return attend({' + '.join(names)}, self, v, fenwick(lam) * semiseparable(g) + window(3))\n"
    )
    inputs = inputs_of(attention, 9)
    assert error(steps(attention, start(attention, inputs), inputs), dense(attention.spec, inputs)) <= 1e-10


@every_variant
def test_nothing_is_read_back_from_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device without numbers any such reading is an error; a position is read at the last level only."""
    monkeypatch.setattr("maskdsl.runtime.step.exact", lambda device: contextlib.nullcontext())
    attention = compiled(*VARIANTS[name])
    inputs = inputs_of(attention, 7)
    state = start(attention, inputs).to("meta")
    inputs = {each: x.to("meta") for each, x in inputs.items()}
    assert steps(attention, state, part(attention.spec, inputs, 0, 6)).device.type == "meta"
    attention.step(state, **part(attention.spec, inputs, 6, 7), slots=torch.tensor([0], device="meta"))
    assert state.furthest == 7
    if name == "number, weak hierarchy":
        attention.step(state, **part(attention.spec, inputs, 6, 7))
        with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
            attention.step(state, **part(attention.spec, inputs, 6, 7))
