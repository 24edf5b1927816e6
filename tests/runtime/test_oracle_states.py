"""States of the recurrent oracle: by hand, and a sequence cut anywhere is the whole."""

from __future__ import annotations

import math

import pytest
import torch
from compilation import attention, inputs_of, library_spec, masked, small_shape, spec_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import spec_texts
from tokens import assert_same_state, part, sequences
from torch import Tensor
from variants import VARIANTS

from maskdsl import library
from maskdsl.runtime.oracle import dense, recurrent_with_state
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import regimes, shapes
from maskdsl.spec import Spec

HALF, QUARTER = math.log(1 / 2), math.log(1 / 4)


def column(*values: float) -> Tensor:
    """One batch, one head, one feature: [1, T, 1, 1]."""
    return torch.tensor(values, dtype=torch.float64)[None, :, None, None]


# k v = (1, -10, 200), g = (any, log 1/2, log 1/4)
INPUTS = {"q": column(1, 1, 1), "k": column(1, -1, 2), "v": column(1, 10, 100)}
GATE = {"g": column(-7, HALF, QUARTER)[..., 0]}
WEIGHTS = {"lam": torch.ones(1, 3, 1, 3, dtype=torch.float64)}

BY_HAND = [
    ("causal", {}, {"state": [191]}),
    ("semiseparable(g)", GATE, {"state": [1 / 8 - 10 / 4 + 200]}),
    # seen from position 3, token 2 is at level 1, tokens 0 and 1 are at level 2 in base 2 and token 0 to 2 in base 3
    ("fenwick(lam)", WEIGHTS, {"states": [200, -9]}),
    ("semiseparable(g) * fenwick(lam)", GATE | WEIGHTS, {"states": [200, 1 / 8 - 10 / 4]}),
    ("fenwick(lam, base=3)", WEIGHTS, {"states": [0, 191]}),
    ('fenwick(lam, admissibility="strong")', WEIGHTS, {"states": [200, -9]}),
    # token s lies in slot s mod (w - 1)
    ("window(2)", {}, {"keys": [2], "values": [100]}),
    ("window(3)", {}, {"keys": [2, -1], "values": [100, 10]}),
    ("window(5)", {}, {"keys": [1, -1, 2, 0], "values": [1, 10, 100, 0]}),
    ("semiseparable(g) * window(3)", GATE, {"keys": [2, -1 / 4], "values": [100, 10]}),
    ("window(1)", {}, {}),
]


@pytest.mark.parametrize(("mask", "given", "expected"), BY_HAND, ids=[case[0] for case in BY_HAND])
def test_states_by_hand(mask: str, given: dict[str, Tensor], expected: dict[str, list[float]]) -> None:
    declared = [{"g": "g : token <= 0", "lam": "lam : level"}[name] for name in given]
    _, state = recurrent_with_state(masked(mask, *declared), INPUTS | given)
    found = {name: x.flatten().tolist() for name, x in state["attend_1_1"].items()}
    assert found == {name: pytest.approx(values, rel=1e-14) for name, values in expected.items()}


def test_logs_of_a_state_are_multiplied_in() -> None:
    spec = masked("semiseparable(g) * fenwick(lam)", "g : token <= 0", "lam : level")
    later = {name: x[:, 2:] for name, x in (INPUTS | GATE | WEIGHTS).items()}
    plain = {"states": torch.tensor([3.0, 4.0]).double().view(1, 1, 2, 1, 1)}
    logged = {"states": plain["states"] * 8, "logs": torch.full((1, 1, 2), 1 / 8).double().log()}
    outputs = [recurrent_with_state(spec, later, {"attend_1_1": x}, [2])[0].item() for x in (plain, logged)]
    # seen from position 2 both tokens before it are at level 2
    assert outputs == pytest.approx([4 / 4 + 200, 4 / 4 + 200], rel=1e-14)


def test_attends_are_named_as_the_spec_names_them() -> None:
    spec = attention(
        "q, k, attend_1 : key",
        "v : value",
        "inner = attend(q, k, v, causal + window(3))",
        "return attend(q, attend_1, attend(k, q, inner, window(2)), causal) + inner",
    )
    _, state = recurrent_with_state(spec, inputs_of(spec, small_shape(spec)))
    assert {name: [*buffers] for name, buffers in state.items()} == {
        "inner_1": ["state"],
        "inner_2": ["keys", "values"],
        "attend_2_1": ["keys", "values"],
        "attend_3_1": ["state"],
    }


def assert_split_is_whole(spec: Spec, inputs: dict[str, Tensor], at: int) -> None:
    """Outputs, final state and all gradients through both, of a sequence and of its two parts one after the other."""
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    batch, length = next(leaves[each.name].shape[:2] for each in spec.inputs if "T" in each.kind.value)
    whole, final = recurrent_with_state(spec, leaves)
    first, middle = recurrent_with_state(spec, part(spec, leaves, 0, at))
    second, last = recurrent_with_state(spec, part(spec, leaves, at, length), middle, [at] * batch)
    split = torch.cat([first, second], 1)
    assert_near(split, whole)
    assert final.keys() == last.keys()
    pairs = [(last[name][buffer], x) for name, kept in final.items() for buffer, x in kept.items()]
    for found, wanted in pairs:
        assert_near(found, wanted)
    generator = torch.Generator().manual_seed(3)
    ends = [(split, whole), *(pair for pair in pairs if pair[1].requires_grad)]
    cotangents = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for _, x in ends]
    by_parts, at_once = (
        torch.autograd.grad([pair[n] for pair in ends], list(leaves.values()), cotangents, allow_unused=True)
        for n in (0, 1)
    )
    largest = max((x.abs().max().item() for x in at_once if x is not None), default=0.0)
    for found, wanted, leaf in zip(by_parts, at_once, leaves.values(), strict=True):
        zero = torch.zeros_like(leaf)
        assert_near(zero if found is None else found, zero if wanted is None else wanted, largest)


def assert_near(found: Tensor, wanted: Tensor, rounding: float = 0.0) -> None:
    """Within 1e-10 of the largest number there is; a gradient whose parts cancel is exact to their rounding only."""
    assert found.shape == wanted.shape
    largest = wanted.abs().max().item() if wanted.numel() else 0.0
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10 * largest + 1e-13 * rounding)


@settings(max_examples=30)
@given(st.data(), spec_texts(), regimes())
def test_a_random_spec_cut_anywhere_is_the_whole(data: st.DataObject, text: str, regime: Regime) -> None:
    spec = spec_of(text)
    shape = data.draw(shapes(spec, longest=20))
    assume(shape.T > 1)
    assert_split_is_whole(spec, inputs_of(spec, shape, regime=regime), data.draw(st.integers(1, shape.T - 1)))


@pytest.mark.parametrize("at", [1, 8, 16])
@pytest.mark.parametrize("name", library.names())
def test_a_library_definition_cut_anywhere_is_the_whole(name: str, at: int) -> None:
    spec = library_spec(name)
    assert_split_is_whole(spec, inputs_of(spec, small_shape(spec, length=17, batch=1)), at)


@pytest.mark.parametrize("name", VARIANTS)
def test_sequences_need_not_stand_at_one_position(name: str) -> None:
    spec = attention(*VARIANTS[name])
    inputs = inputs_of(spec, small_shape(spec, length=30, batch=3))
    starts, length = [4, 23, 4], 7
    wholes, befores = [], []
    for row, start in enumerate(starts):
        own = sequences(spec, inputs, [row])
        wholes.append(recurrent_with_state(spec, part(spec, own, 0, start + length)))
        befores.append(recurrent_with_state(spec, part(spec, own, 0, start))[1])
    state = {m: {b: torch.cat([each[m][b] for each in befores]) for b in kept} for m, kept in befores[0].items()}
    tokens = [part(spec, sequences(spec, inputs, [row]), s, s + length) for row, s in enumerate(starts)]
    by_token = {each.name for each in spec.inputs if "T" in each.kind.value}
    together = {n: torch.cat([x[n] for x in tokens]) if n in by_token else x for n, x in tokens[0].items()}
    output, final = recurrent_with_state(spec, together, state, starts)
    for row, (whole, kept) in enumerate(wholes):
        assert_near(output[row], whole[0, -length:])
        assert_same_state({m: {b: x[[row]] for b, x in each.items()} for m, each in final.items()}, kept, 1e-10)


def test_token_by_token_is_the_whole() -> None:
    spec = attention(*VARIANTS["operator, weak hierarchy"])
    inputs = inputs_of(spec, small_shape(spec, length=19))
    output, state = recurrent_with_state(spec, part(spec, inputs, 0, 1))
    outputs = [output]
    for t in range(1, 19):
        output, state = recurrent_with_state(spec, part(spec, inputs, t, t + 1), state, [t, t])
        outputs.append(output)
    assert_near(torch.cat(outputs, 1), dense(spec, inputs))
