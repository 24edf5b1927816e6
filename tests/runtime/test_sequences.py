"""Calls that begin or end with states, and packed sequences, against the dense oracle over whole sequences."""

from __future__ import annotations

import pytest
import torch
from agreement import compiled, inputs_of
from compilation import legal_chunks
from hypothesis import given, note, settings
from hypothesis import strategies as st
from segments import Corpus, assert_run, assert_whole, corpus, in_segments, packed, whole
from strategies import spec_texts
from torch import Tensor
from variants import VARIANTS, chunk_of

import maskdsl
from maskdsl import library
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
