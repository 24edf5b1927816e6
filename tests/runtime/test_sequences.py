"""Calls that begin or end with states, and packed sequences, against the dense oracle over whole sequences."""

from __future__ import annotations

import pytest
import torch
from agreement import compiled, inputs_of
from compilation import assert_near, legal_chunks
from hypothesis import given, note, settings
from hypothesis import strategies as st
from segments import Corpus, assert_run, assert_whole, corpus, in_segments, packed, whole
from strategies import spec_texts
from torch import Tensor
from variants import VARIANTS, chunk_of

import maskdsl
from maskdsl import library
from maskdsl.runtime.folding import folded
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import regimes

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
    for (n, x), gradient in zip(leaves.items(), grads, strict=True):
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
    attention = maskdsl.compile(name, chunk=None)
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
    attention = compiled("q, k : key", "v : value", "c : channel <= 0", "lam : level", f"return attend(q, k, v, {mask})", chunk=chunk)
    lengths = [3 * chunk + 2, chunk + 3]
    assert_whole(attention, corpus(attention.spec, lengths), [[chunk + 1, 1], lengths])


@pytest.mark.parametrize("width", [1, 2, 4, 5, 9, 30])
@pytest.mark.parametrize("path", ["causal", "semiseparable(g) * delta(k, b)", 'fenwick(lam, admissibility="strong")'])
def test_windows(width: int, path: str) -> None:
    """Narrower and wider than chunks and segments; a window of one token keeps nothing."""
    kinds = {"g": "g : token <= 0", "b": "b : token in [0, 1]", "lam": "lam : level"}
    declared = [text for name, text in kinds.items() if f"({name}" in path or f" {name})" in path]
    attention = compiled("q, k : key", "v : value", *declared, f"return attend(q, k, v, {path} * window({width}))", chunk=4)
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
    stepped, made = (folded(attention.spec, each, 1) for each in (state, final))
    for buffer, x in made.items():
        assert_near(x, stepped[buffer], 1e-12)
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
