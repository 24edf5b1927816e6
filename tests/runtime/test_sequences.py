"""Calls that begin or end with states, and packed sequences, against the dense oracle over whole sequences."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from agreement import compiled, inputs_of
from compilation import assert_near, legal_chunks
from hypothesis import given, note, settings
from hypothesis import strategies as st
from segments import Corpus, assert_run, assert_whole, corpus, gradients, in_segments, packed, whole
from strategies import spec_texts
from torch import Tensor
from variants import VARIANTS, chunk_of

import maskdsl
from maskdsl import library
from maskdsl.diagnostics import CallError
from maskdsl.language.printer import to_text
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.folded import fold
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import regimes
from maskdsl.runtime.state import State

every_variant = pytest.mark.parametrize("name", VARIANTS)


# -- one sequence -------------------------------------------------------------------------------------------------


@every_variant
def test_two_segments_are_the_whole_wherever_they_meet(name: str) -> None:
    """Split before the first token, at edges of chunks, inside them, and after the last token (fla#285, fla#1176)."""
    chunk = chunk_of(name)
    attention = compiled(*VARIANTS[name], chunk=chunk)
    tokens = corpus(attention.spec, [27])
    for split in (0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 21, 26, 27):
        assert_whole(attention, tokens, [[split], [27]])


@every_variant
@pytest.mark.parametrize("split", [63, 64, 128])
def test_chunks_of_the_usual_size(name: str, split: int) -> None:
    """Powers of two times 64, where levels change at once (fla#494)."""
    attention = compiled(*VARIANTS[name])
    tokens = corpus(attention.spec, [130], H=1)
    expected = whole(tokens)
    made, _ = in_segments(attention, tokens, [[split], [130]])
    torch.testing.assert_close(made, expected, rtol=1e-10, atol=1e-11)


@every_variant
def test_token_by_token(name: str) -> None:
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    tokens = corpus(attention.spec, [12])
    assert_whole(attention, tokens, [[t + 1] for t in range(12)])


@every_variant
def test_batch_rows_go_on_from_positions_of_their_own(name: str) -> None:
    """Unpacked rows whose states were made by prefills of different lengths (sglang#33450)."""
    chunk = chunk_of(name)
    attention = compiled(*VARIANTS[name], chunk=chunk)
    starts, more = (0, 5, chunk, 2 * chunk + 1), 11
    tokens = corpus(attention.spec, [start + more for start in starts])

    def run(given: Corpus) -> list[Tensor]:
        first, state = in_segments(attention, given, [starts])
        parts = [given.tokens(number, start, start + more) for number, start in enumerate(starts)]
        batch = {n: torch.cat([p[n] for p in parts]) if given.by_token(n) else x for n, x in given.tensors.items()}
        o = attention(**batch, initial_state=state)
        return [torch.cat([before, after]) for before, after in zip(first, o, strict=True)]

    assert_run(run, tokens)


# -- packed sequences ---------------------------------------------------------------------------------------------

PACKED: dict[str, tuple[list[int], list[int]]] = {
    "leading empty": ([0, 0, 9], [0, 13, 17]),
    "middle empty": ([5, 0, 8], [12, 0, 9]),
    "trailing empty": ([7, 0, 0], [16, 1, 0]),
    "first call empty": ([0, 0, 0], [3, 19, 8]),
    "second call empty": ([9, 1, 10], [9, 1, 10]),
    "all empty": ([0, 0, 0], [0, 0, 0]),
    "one grows": ([8, 16, 3], [8, 31, 3]),
}


@pytest.mark.parametrize("case", PACKED)
@every_variant
def test_packed_sequences_are_those_alone(name: str, case: str) -> None:
    """Empty sequences anywhere, in a capacity with NaN beyond them, and both dtypes of indices (fla#1088, fla#892)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    first, second = PACKED[case]
    tokens = corpus(attention.spec, second)
    assert_whole(attention, tokens, [first, second], capacity=5, dtype=torch.int32)


@every_variant
def test_tokens_of_no_sequence_are_zero_and_have_no_gradient(name: str) -> None:
    """Whatever they hold, and whatever gradient is handed in for them (fla#967)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    tokens = corpus(attention.spec, [5, 9])
    inputs, bounds = packed(tokens, [(0, 5), (0, 9)], capacity=4)
    leaves = {n: x.detach().requires_grad_() for n, x in inputs.items()}
    o, state = attention(**leaves, cu_seqlens=bounds, output_final_state=True)
    assert o[:, 14:].count_nonzero() == 0
    cotangent = torch.randn_like(o)
    cotangent[:, 14:] = torch.nan
    kept = [x for _, buffer, x in state.buffers() if buffer != "logs"]
    given = [cotangent, *(torch.randn_like(x) for x in kept)]
    grads = torch.autograd.grad([o, *kept], list(leaves.values()), given)
    for n, gradient in zip(leaves, grads, strict=True):
        assert gradient.isfinite().all()
        assert not tokens.by_token(n) or gradient[:, 14:].count_nonzero() == 0


# -- any spec -----------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.data(), spec_texts(), regimes())
def test_random_specs_in_random_segments(data: st.DataObject, text: str, regime: Regime) -> None:
    attention = maskdsl.compile(text, chunk=data.draw(legal_chunks(maskdsl.compile(text).spec)))
    lengths = data.draw(st.lists(st.integers(0, 14), min_size=1, max_size=3))
    calls = data.draw(st.integers(1, 3))
    cuts = [sorted(data.draw(st.lists(st.integers(0, n), min_size=calls - 1, max_size=calls - 1))) for n in lengths]
    ends = [*([own[call] for own in cuts] for call in range(calls - 1)), lengths]
    note(f"{text}{ends}")
    tokens = corpus(attention.spec, lengths, regime=regime)
    assert_whole(attention, tokens, ends, capacity=data.draw(st.integers(0, 3)))


@pytest.mark.parametrize("name", library.names())
def test_library_definitions_with_grouped_heads(name: str) -> None:
    attention = maskdsl.compile(name)
    keys = [each.name for each in attention.spec.inputs if each.kind.label == "key"]
    heads = tuple(zip(keys, (2, 3), strict=False))
    tokens = corpus(attention.spec, [70, 33], H=6, key_heads=heads)
    assert_whole(attention, tokens, [[31, 0], [70, 33]])


@pytest.mark.parametrize(("base", "admissibility"), [(2, "weak"), (3, "weak"), (5, "weak"), (2, "strong")])
@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_hierarchies(base: int, admissibility: str, exponent: int) -> None:
    """Chunks of a single token, of one digit and of two."""
    mask = f'semiseparable(c) @ delta(l2norm(k), 0.5) * fenwick(lam, {base}, "{admissibility}")'
    chunk = base**exponent
    declared = "q, k : key", "v : value", "c : channel <= 0", "lam : level"
    attention = compiled(*declared, f"return attend(q, k, v, {mask})", chunk=chunk)
    lengths = [3 * chunk + 2, chunk + 3]
    assert_whole(attention, corpus(attention.spec, lengths), [[chunk + 1, 1], lengths])


@pytest.mark.parametrize("width", [1, 2, 4, 5, 9, 30])
@pytest.mark.parametrize("path", ["causal", "semiseparable(g) * delta(k, b)", 'fenwick(lam, admissibility="strong")'])
def test_windows(width: int, path: str) -> None:
    """Narrower and wider than chunks and segments; a window of one token keeps nothing."""
    kinds = {"g": "g : token <= 0", "b": "b : token in [0, 1]", "lam": "lam : level"}
    declared = [text for name, text in kinds.items() if f"({name}" in path or f" {name})" in path]
    output = f"return attend(q, k, v, {path} * window({width}))"
    attention = compiled("q, k : key", "v : value", *declared, output, chunk=4)
    assert_whole(attention, corpus(attention.spec, [19, 7, 13]), [[6, 0, 13], [7, 2, 13], [19, 7, 13]])


# -- losses -------------------------------------------------------------------------------------------------------


@every_variant
def test_a_loss_on_what_comes_later_alone(name: str) -> None:
    """Gradients of the first segment pass through the state only: that of its output is zero (fla#1141)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    tokens = corpus(attention.spec, [25, 30])
    assert_whole(attention, tokens, [[13, 21], [25, 30]], chosen=[slice(13, None), slice(21, None)])


def test_a_loss_on_the_final_state_alone() -> None:
    """Against the recurrence S <- exp(g) S + k v', written out (engine of fla#1142: dropped at a ragged chunk)."""
    attention = compiled(*VARIANTS["number"], chunk=8)
    x = {name: t.requires_grad_() for name, t in inputs_of(attention, 13).items()}
    _, final = attention(**x, output_final_state=True)
    state = torch.zeros(1, 2, 4, 3, dtype=torch.float64)
    for t in range(13):
        state = x["g"][:, t, :, None, None].exp() * state + x["k"][:, t, :, :, None] * x["v"][:, t, :, None, :]
    made = final.memories["attend_1_1"]["state"]
    torch.testing.assert_close(made, state, rtol=1e-12, atol=1e-13)
    cotangent = torch.randn_like(state)
    expected = torch.autograd.grad(state, list(x.values()), cotangent, allow_unused=True)
    for gradient, wanted in zip(torch.autograd.grad(made, list(x.values()), cotangent), expected, strict=True):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient) if wanted is None else wanted)


@every_variant
def test_the_state_is_that_of_single_steps(name: str) -> None:
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    tokens = corpus(attention.spec, [21])
    levels = tokens.tensors["lam"].shape[-1] if "lam" in tokens.tensors else None
    state = attention.init_state(1, heads=2, key=4, value=3, levels=levels, dtype=torch.float64)
    for t in range(21):
        attention.step(state, **tokens.tokens(0, t, t + 1))
    _, final = attention(**tokens.tensors, output_final_state=True)
    assert final.positions.tolist() == state.positions.tolist() == [21]
    for memory, kept in state.memories.items():
        assert list(kept) == list(final.memories[memory])
    stepped, made = (fold(each, torch.float64) for each in (state, final))
    for memory, kept in made.items():
        for buffer, x in kept.items():
            assert_near(x, stepped[memory][buffer], 1e-12)
    after = {n: x[:, :4] if tokens.by_token(n) else x for n, x in tokens.tensors.items()}
    torch.testing.assert_close(attention(**after, initial_state=state), attention(**after, initial_state=final))
    outputs = [attention.step(final, **tokens.tokens(0, t, t + 1)) for t in range(4)]
    torch.testing.assert_close(torch.cat(outputs, 1), attention(**after, initial_state=state))


def test_gradients_of_a_state_with_logs() -> None:
    """A state that steps have left decays in: gradients reach its buffers and the logs."""
    attention = compiled(*VARIANTS["number, weak hierarchy"], chunk=8)
    tokens = corpus(attention.spec, [20])
    state = attention.init_state(1, heads=2, key=4, value=3, levels=6, dtype=torch.float64)
    for t in range(13):
        attention.step(state, **tokens.tokens(0, t, t + 1))
    kept = state.memories["attend_1_1"]
    assert kept["logs"].count_nonzero() > 0
    leaves = [x.requires_grad_() for x in kept.values()]
    loss = attention(**tokens.tokens(0, 13, 20), initial_state=state).square().sum()
    d_states, d_logs = torch.autograd.grad(loss, leaves)
    assert d_states.count_nonzero() > 0
    torch.testing.assert_close(d_logs, (d_states * kept["states"]).sum((-2, -1)))


# -- numbers ------------------------------------------------------------------------------------------------------

TAILS = (
    "q, k : key",
    "v, z : value",
    "a : token",
    "p : token in [0.1, 1]",
    "n : token <= 0",
    "s : level >= 0",
    "A_log, c, d : head",
    "g = -exp(A_log) * softplus(a) + exp(A_log) * log(p)",
    "return attend(l2norm(q), k, v, semiseparable(g) * fenwick(c * log(s))) * silu(z) + d * log(-n) * v / z",
)
"""Parameters beside numbers that are infinite at 0, or beyond what inputs promise."""


def test_what_lies_beyond_does_not_leak_into_parameters() -> None:
    """Zeros would do where NaN does, in the logs and roots of gates: 0 * inf in gradients summed over tokens."""
    attention = compiled(*TAILS, chunk=4)
    tokens = corpus(attention.spec, [6, 0, 9])
    assert_whole(attention, tokens, [[3, 0, 9], [6, 0, 9]], capacity=3)


@every_variant
@pytest.mark.parametrize("regime", ["mild", "mixed", "strong20"])
def test_single_precision(name: str, regime: Regime) -> None:
    attention = compiled(*VARIANTS[name])
    tokens = corpus(attention.spec, [100, 0, 71], H=1, K=16, V=8, regime=regime, dtype=torch.float32)
    wide = tokens.with_tensors({n: x.double() for n, x in tokens.tensors.items()})
    made, state = in_segments(attention, tokens, [[64, 0, 3], [100, 0, 71]])
    expected = torch.cat(whole(wide))
    assert all(x.dtype == (torch.float64 if n == "logs" else torch.float32) for _, n, x in state.buffers())
    assert torch.cat(made).dtype == torch.float32
    assert (torch.cat(made) - expected).norm() <= 1e-5 * expected.norm()


def test_half_precision_inputs_and_states() -> None:
    """Outputs are bfloat16, states float32; a state may be kept in bfloat16 or go on in float64."""
    attention = compiled(*VARIANTS["number, weak hierarchy"], chunk=8)
    tokens = corpus(attention.spec, [30], dtype=torch.float32)
    half = {n: x.bfloat16() if n in "qkv" else x for n, x in tokens.tensors.items()}
    exact = {n: x.double() for n, x in half.items()}
    expected = whole(tokens.with_tensors(exact))[0]
    made, state = in_segments(attention, tokens.with_tensors(half), [[13]])
    assert (made[0].dtype, state.dtype) == (torch.bfloat16, torch.float32)
    after = tokens.with_tensors(half).tokens(0, 13, 30)
    for dtype, tolerance in ((torch.float32, 1e-2), (torch.bfloat16, 2e-2), (torch.float64, 1e-2)):
        o = attention(**after, initial_state=state.to(dtype))
        assert o.dtype == torch.bfloat16
        assert (o[0] - expected[13:]).norm() <= tolerance * expected[13:].norm()


def test_two_runs_give_the_same_bits() -> None:
    attention = compiled(*VARIANTS["number, strong hierarchy"], chunk=8)
    tokens = corpus(attention.spec, [19, 0, 33], dtype=torch.float32)
    runs = [gradients(lambda x: in_segments(attention, x, [[9, 0, 2], [19, 0, 33]])[0], tokens) for _ in range(2)]
    for one, other in zip(*(o + list(grads.values()) for o, grads in runs), strict=True):
        assert torch.equal(one, other)


@every_variant
def test_nothing_is_read_back_from_a_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without numbers: whoever asks for a length, a position or a level of one gets an error."""
    monkeypatch.setattr("maskdsl.runtime.function.exact", lambda _: nullcontext())
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    tokens = corpus(attention.spec, [20, 9])
    x = {n: t.to("meta").requires_grad_() for n, t in tokens.tensors.items()}
    cu_seqlens = torch.empty(3, dtype=torch.int32, device="meta")
    _, state = attention(**x, cu_seqlens=cu_seqlens, output_final_state=True)
    o, state = attention(**x, cu_seqlens=cu_seqlens, initial_state=state, output_final_state=True)
    (o.sum() + sum(t.sum() for _, _, t in state.buffers())).backward()
    assert all(t.grad is not None for t in x.values())
    assert state.furthest == 2 * 29


# -- the call -----------------------------------------------------------------------------------------------------


def one() -> tuple[Attention, dict[str, Tensor]]:
    attention = compiled(*VARIANTS["number, weak hierarchy"], chunk=4)
    return attention, corpus(attention.spec, [9]).tensors


def test_the_result_is_a_pair_where_a_state_is_asked_for() -> None:
    attention, x = one()
    plain = attention(**x)
    o, state = attention(**x, output_final_state=True)
    assert isinstance(state, State)
    assert (state.positions.tolist(), state.furthest, state.dtype) == ([9], 9, torch.float64)
    torch.testing.assert_close(o, plain)
    torch.testing.assert_close(attention(**x, cu_seqlens=torch.tensor([0, 9])), plain)
    assert "layout" in attention.source()
    assert "layout" in attention.source("backward")


def test_an_initial_state_is_not_changed() -> None:
    attention, x = one()
    _, state = attention(**{n: t[:, :3] for n, t in x.items()}, output_final_state=True)
    before = state.clone()
    attention(**{n: t[:, 3:] for n, t in x.items()}, initial_state=state, output_final_state=True)
    assert torch.equal(state.positions, before.positions)
    assert all(torch.equal(a, b) for (_, _, a), (_, _, b) in zip(state.buffers(), before.buffers(), strict=True))


def test_states_may_go_on_before_the_backward_pass() -> None:
    """Step by step, the one that came in as the one that came out; and bounds may be filled anew."""
    attention, x = one()
    leaves = {n: t.detach().requires_grad_() for n, t in x.items()}
    _, prefix = attention(**{n: t[:, :3] for n, t in x.items()}, output_final_state=True)

    def run(change: bool) -> tuple[Tensor, ...]:
        state, cu_seqlens = prefix.clone(), bounds(0, 5)
        segment = {n: t[:, 3:8] for n, t in leaves.items()}
        o, final = attention(**segment, initial_state=state, cu_seqlens=cu_seqlens, output_final_state=True)
        loss = o.square().sum() + final.memories["attend_1_1"]["states"].sum()
        if change:
            for each in (state, final):
                attention.step(each, **{n: t[:, 8:].detach() for n, t in leaves.items()})
            cu_seqlens.fill_(0)
        return torch.autograd.grad(loss, list(leaves.values()))

    for changed, kept in zip(run(True), run(False), strict=True):
        assert torch.equal(changed, kept)


def test_a_spec_without_an_attend_has_an_empty_state() -> None:
    attention = compiled("v, z : value", "return v * silu(z)")
    x = inputs_of(attention, 5)
    o, state = attention(**x, cu_seqlens=torch.tensor([0, 2, 4]), output_final_state=True)
    torch.testing.assert_close(o[:, :4], attention(**x)[:, :4])
    assert o[:, 4:].count_nonzero() == 0
    assert (state.positions.tolist(), list(state.buffers())) == ([2, 2], [])


def test_values_are_checked_where_there_are_sequences_only() -> None:
    attention, x = one()
    x["v"][:, 7:] = torch.nan
    assert attention(**x, cu_seqlens=torch.tensor([0, 7]), check_inputs=True).isfinite().all()
    with pytest.raises(CallError, match="Input 'v' holds 6 NaN"):
        attention(**x, cu_seqlens=torch.tensor([0, 8]), check_inputs=True)


def bounds(*numbers: int, **kwargs: Any) -> Tensor:
    return torch.tensor(numbers, **kwargs)


WRONG_BOUNDS = {
    "a list": ([0, 9], "'cu_seqlens' is a list, not a tensor; cu_seqlens says where the sequences"),
    "dtype": (bounds(0, 9, dtype=torch.int16), "'cu_seqlens' has dtype int16; convert it to int32 or int64."),
    "axes": (bounds(0, 9)[None], "'cu_seqlens' has shape [1, 2]; cu_seqlens says where"),
    "no sequence": (bounds(0), "'cu_seqlens' has shape [1]; cu_seqlens says where"),
    "device": (bounds(0, 9, device="meta"), "'cu_seqlens' is on 'meta', but the inputs are on 'cpu'"),
    "beginning": (bounds(1, 9), "'cu_seqlens' begins with 1, not with 0."),
    "falling": (bounds(0, 5, 3, 9), "'cu_seqlens' falls from 5 to 3 at entry 2; it has to rise or stay."),
    "end": (bounds(0, 5, 10), "'cu_seqlens' ends with 10, but the inputs have T = 9 tokens."),
}


@pytest.mark.parametrize("case", WRONG_BOUNDS)
def test_wrong_bounds(case: str) -> None:
    attention, x = one()
    given, message = WRONG_BOUNDS[case]
    with pytest.raises(CallError, match="^" + re.escape(message)):
        attention(**x, cu_seqlens=given)  # type: ignore[arg-type]


def test_packed_sequences_lie_in_one_row() -> None:
    attention, x = one()
    twice = {n: t.repeat(2, *(1,) * (t.ndim - 1)) for n, t in x.items()}
    with pytest.raises(CallError, match=r"but the inputs have B = 2; concatenate the rows along T\."):
        attention(**twice, cu_seqlens=bounds(0, 9))


def test_a_wrong_state() -> None:
    attention, x = one()
    _, state = attention(**x, output_final_state=True)
    other = compiled(*VARIANTS["number"])
    wrong: list[tuple[object, str]] = [
        (3, "'initial_state' is a int, not a state of 'test'."),
        (other.init_state(1, heads=2, key=4, value=3), "'initial_state' is one of another 'test', not of this"),
        (state.to("meta"), "'initial_state' is on 'meta', but the inputs are on 'cpu'; move one with .to()."),
        (state.select([0, 0]), "'initial_state' has 2 sequences, but the call has 1."),
        (
            attention.init_state(1, heads=2, key=5, value=3, levels=8),
            "'attend_1_1.states' of 'initial_state' has shape [1, 2, 7, 5, 3], but for these inputs it is "
            "[1, 2, 4, 4, 3] ([B, H, M, K, V]; M = L - 1).",
        ),
    ]
    for state_given, message in wrong:
        with pytest.raises(CallError, match="^" + re.escape(message)):
            attention(**x, initial_state=state_given)  # type: ignore[call-overload]


def test_too_few_levels_for_where_sequences_have_come() -> None:
    """A state that goes on needs levels for the next position; packed sequences need those of the longest one."""
    attention, x = one()
    x = {n: t[:, :8] for n, t in x.items()}
    few = x | {"lam": x["lam"][..., :4]}
    attention(**few)
    message = "Input 'lam' has 4 levels, but a sequence that comes to position 8 needs 5; give it a last axis L >= 5."
    with pytest.raises(CallError, match=re.escape(message)):
        attention(**few, output_final_state=True)
    fewer = x | {"lam": x["lam"][..., :3]}
    attention(**fewer, cu_seqlens=bounds(0, 4, 8))
    _, state = attention(**fewer, cu_seqlens=bounds(0, 3, 6), output_final_state=True)
    with pytest.raises(CallError, match="comes to position 4 needs 4"):
        attention(**fewer, cu_seqlens=bounds(0, 1, 3), initial_state=state)


def test_kernels_need_a_gpu_for_states_too() -> None:
    attention, x = one()
    kernels = maskdsl.compile(to_text(attention.spec.syntax), backend="triton")
    with pytest.raises(CallError, match="but Triton needs a GPU"):
        kernels(**x, output_final_state=True)
