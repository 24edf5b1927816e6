"""States as values: what they hold, how they are copied and chosen from, and what is said of steps that do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from agreement import compiled, inputs_of
from tokens import assert_same_state, part, start, steps
from torch import Tensor
from variants import VARIANTS

import maskdsl
from maskdsl import CallError
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.oracle import recurrent_with_state
from maskdsl.runtime.state import State


def attention() -> Attention:
    return compiled(
        "q, k : key",
        "v : value",
        "g : token <= 0",
        "lam : level",
        "p : head",
        "y = attend(q, k, p * v, semiseparable(g) * fenwick(lam))",
        "return attend(q, k, y, window(5))",
    )


def empty(batch: int = 2) -> State:
    return attention().init_state(batch, heads=6, key=3, value=4, levels=5)


def token(batch: int = 2, **changed: Any) -> dict[str, Any]:
    """A valid token for `empty()`, some of its inputs replaced or, by None, left out."""
    valid = {
        "q": torch.ones(batch, 1, 3, 3),
        "k": torch.ones(batch, 1, 2, 3),
        "v": torch.ones(batch, 1, 6, 4),
        "g": torch.zeros(batch, 1, 6),
        "lam": torch.ones(batch, 1, 6, 5),
        "p": torch.ones(6),
    }
    return {name: x for name, x in (valid | changed).items() if x is not None}


# -- what it holds --------------------------------------------------------------------------------------------------


def test_an_empty_state() -> None:
    state = empty()
    shapes = {f"{memory}.{name}": (x.dtype, tuple(x.shape)) for memory, name, x in state.buffers()}
    assert shapes == {
        "y_1.states": (torch.float32, (2, 6, 4, 3, 4)),
        "y_1.logs": (torch.float64, (2, 6, 4)),
        "attend_1_1.keys": (torch.float32, (2, 6, 4, 3)),
        "attend_1_1.values": (torch.float32, (2, 6, 4, 4)),
    }
    assert not any(x.any() for _, _, x in state.buffers())
    assert state.memories["y_1"]["logs"].shape == (2, 6, 4)
    assert (state.batch, state.dtype, state.device.type, state.furthest) == (2, torch.float32, "cpu", 0)
    assert (state.positions.dtype, state.positions.tolist()) == (torch.int64, [0, 0])
    assert state.nbytes == 2 * 8 + 2 * 6 * 4 * (4 * 12 + 8 + 12 + 16)


@pytest.mark.parametrize(
    ("mask", "declared", "sizes"),
    [
        ("causal", [], {"heads": 2, "key": 3, "value": 4}),
        ("window(1)", [], {}),
        ("window(1) * fenwick(lam)", ["lam : level"], {}),
        ("window(2) * fenwick(lam)", ["lam : level"], {"heads": 2, "key": 3, "value": 4}),
        ("fenwick(lam)", ["lam : level"], {"heads": 2, "key": 3, "value": 4, "levels": 1}),
        ("fenwick(lam)", ["lam : token"], {"heads": 2, "key": 3, "value": 4}),
    ],
)
def test_only_the_sizes_that_a_spec_needs(mask: str, declared: list[str], sizes: dict[str, int]) -> None:
    made = compiled("q, k : key", "v : value", *declared, f"return attend(q, k, v, {mask})")
    assert made.init_state(3, **sizes).batch == 3  # type: ignore[arg-type]
    every = {"heads": 2, "key": 3, "value": 4, "levels": 5}
    for name in every:
        wrong = {n: size for n, size in sizes.items() if n != name} if name in sizes else sizes | {name: every[name]}
        with pytest.raises(CallError, match=f"{name}="):
            made.init_state(3, **wrong)  # type: ignore[arg-type]


def test_everything_wrong_with_the_sizes_is_said_at_once() -> None:
    with pytest.raises(CallError) as caught:
        attention().init_state(0, heads=2.5, value=True, levels=-1, dtype=torch.float16)  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == [
        "'batch' is the number of sequences, a whole number of at least 1, not 0.",
        "'heads' is the number of value heads, a whole number of at least 1, not 2.5.",
        "A state of 'test' needs 'key', the size of a key: pass key=.",
        "'value' is the size of a value, a whole number of at least 1, not True.",
        "'levels' is how many level weights its inputs have, a whole number of at least 1, not -1.",
        "A state has one of the dtypes float32, bfloat16, float64, not float16.",
    ]
    with pytest.raises(
        CallError, match=r"^A state of 'mamba2' has nothing that 'levels' decides: leave levels= out\.$"
    ):
        maskdsl.compile("mamba2").init_state(1, heads=2, key=3, value=4, levels=5)


def test_repr() -> None:
    state = empty()
    attention().step(state, **token())
    assert repr(state) == (
        "<state of 'test' at positions [1, 1]: y_1 (states [2, 6, 4, 3, 4], logs [2, 6, 4]),"
        " attend_1_1 (keys [2, 6, 4, 3], values [2, 6, 4, 4]); float32, cpu, 4,048 bytes>"
    )
    assert "[0, 0, 0, 0, 0, 0, 0, 0, ...]" in repr(empty(9))
    nothing = compiled("q, k : key", "v : value", "return attend(q, k, v, window(1))").init_state(1)
    assert repr(nothing) == "<state of 'test' at positions [0]: nothing kept; cpu, 8 bytes>"


# -- copies and choices ---------------------------------------------------------------------------------------------


def aged(tokens: int = 3, batch: int = 3) -> State:
    """A state that differs by sequence."""
    made = attention()
    inputs = inputs_of(made, tokens, B=batch, H=6, K=3, V=4, dtype=torch.float32)
    inputs["lam"] = torch.ones(batch, tokens, 6, 5)
    state = made.init_state(batch, heads=6, key=3, value=4, levels=5)
    steps(made, state, inputs)
    return state


def same(left: State, right: State) -> bool:
    pairs = zip(left.buffers(), right.buffers(), strict=True)
    return left.positions.equal(right.positions) and all(a[:2] == b[:2] and a[2].equal(b[2]) for a, b in pairs)


@pytest.mark.parametrize("copied", [State.clone, lambda state: state.select(range(3))])
def test_a_copy_lives_on_its_own(copied: Callable[[State], State]) -> None:
    state = aged()
    before, copy = state.clone(), copied(state)
    assert same(copy, state)
    attention().step(copy, **token(3))
    assert same(state, before)
    assert (state.furthest, copy.furthest) == (3, 4)


@pytest.mark.parametrize("indices", [[2, 0, 0, 1], torch.tensor([2, 0, 0, 1]), torch.tensor([2, 0, 0, 1]).int()])
def test_a_beam_goes_on_from_sequences_that_it_chooses(indices: list[int] | Tensor) -> None:
    made, state = attention(), aged()
    chosen = state.select(indices)
    assert (chosen.batch, chosen.positions.tolist()) == (4, [3, 3, 3, 3])
    given = token(4, v=torch.randn(4, 1, 6, 4))
    output = made.step(chosen, **given)
    for place, row in enumerate([2, 0, 0, 1]):
        alone = state.select([row])
        by_itself = made.step(alone, **{name: x[[place]] if name != "p" else x for name, x in given.items()})
        torch.testing.assert_close(output[[place]], by_itself)
        assert_same_state(chosen.select([place]).memories, alone.memories, 1e-6)


@pytest.mark.parametrize("index", [3, -4])
def test_a_choice_that_is_not_there(index: int) -> None:
    with pytest.raises(IndexError):
        aged().select([index])


def test_putting_sequences_into_a_pool() -> None:
    pool, state = empty(5), aged()
    pool.put([4, 0], state.select([0, 2]))
    assert (pool.positions.tolist(), pool.furthest) == ([3, 0, 0, 0, 3], 3)
    assert same(pool.select([4, 0]), state.select([0, 2]))
    assert same(pool.select([1, 2, 3]), empty(3))
    pool.put(torch.tensor([4]), empty(1))
    assert same(pool.select([4]), empty(1))
    half = empty(5).to(torch.bfloat16)
    half.put([1], state.select([1]))
    assert half.dtype == torch.bfloat16
    other = compiled(*VARIANTS["number"]).init_state(1, heads=6, key=3, value=4)
    with pytest.raises(ValueError, match="The state of 'test' cannot go into one of 'test'"):
        pool.put([0], other)


def test_another_dtype() -> None:
    state = aged()
    half = state.to(torch.bfloat16)
    dtypes = {name: x.dtype for _, name, x in half.buffers()}
    assert dtypes == {"states": torch.bfloat16, "logs": torch.float64, "keys": torch.bfloat16, "values": torch.bfloat16}
    assert (half.dtype, half.positions.tolist()) == (torch.bfloat16, [3, 3, 3])
    assert state.to("cpu", torch.float64).dtype == torch.float64
    assert same(state.to(torch.device("cpu")), state)
    with pytest.raises(ValueError, match="not int64"):
        state.to(torch.int64)


def test_detached_from_its_past() -> None:
    state = aged()
    factor = torch.ones((), requires_grad=True)
    grown = {memory: {name: x * factor for name, x in kept.items()} for memory, kept in state.memories.items()}
    cut = State(state.spec, grown, state.positions).detach()
    assert not any(x.requires_grad for _, _, x in cut.buffers())
    assert (cut.furthest, same(cut, state)) == (3, True)


def test_gradients_flow_through_copies_of_a_state() -> None:
    state = aged()
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    grown = {memory: {name: x * factor for name, x in kept.items()} for memory, kept in state.memories.items()}
    chosen = State(state.spec, grown, state.positions).select([1, 1]).clone().to(torch.float64)
    total = torch.stack([x.sum() for _, _, x in chosen.buffers()]).sum()
    expected = sum(2 * x[1].double().sum() for _, _, x in state.buffers())
    torch.testing.assert_close(torch.autograd.grad(total, factor)[0], expected, rtol=1e-6, atol=1e-6)


def test_the_state_of_the_oracle_is_one_to_step_from() -> None:
    made = compiled(*VARIANTS["number, strong hierarchy"])
    inputs = inputs_of(made, 20)
    expected, _ = recurrent_with_state(made.spec, inputs)
    _, kept = recurrent_with_state(made.spec, part(made.spec, inputs, 0, 13))
    rest = {name: torch.zeros_like(x) for name, x in start(made, inputs).memories["attend_1_1"].items()}
    state = State(made.spec, {"attend_1_1": rest | kept["attend_1_1"]}, torch.tensor([13]))
    assert state.furthest == 13
    torch.testing.assert_close(steps(made, state, part(made.spec, inputs, 13, 20)), expected[:, 13:])


# -- what does not fit ----------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str | None, list[str]]] = [
    ({"v": None}, "v", ["Input 'v' is missing: a value input of shape [B, T, H, V]."]),
    ({"w": torch.ones(6)}, None, ["'test' has no input 'w'. Its inputs are q, k, v, g, lam, p."]),
    ({"q": 3}, "q", ["Input 'q' is a int, not a tensor; a key input has shape [B, T, Hk, K]."]),
    (
        {"q": torch.ones(2, 1, 3, 7), "k": torch.ones(2, 1, 2, 7)},
        "q",
        ["Input 'q' has K = 7, but the state has K = 3."],
    ),
    ({"v": torch.ones(2, 1, 6, 9)}, "v", ["Input 'v' has V = 9, but the state has V = 4."]),
    (
        {"v": torch.ones(2, 1, 12, 4), "g": torch.ones(2, 1, 12), "lam": torch.ones(2, 1, 12, 5), "p": torch.ones(12)},
        "v",
        ["Input 'v' has H = 12, but the state has H = 6."],
    ),
    ({"lam": torch.ones(2, 1, 6, 6)}, "lam", ["Input 'lam' has L = 6, but the state was made for levels = 5."]),
    (
        {"q": torch.ones(2, 3, 3)},
        "q",
        [
            "The time axis is left out of 'q' only; leave it out of every input by token or none.",
            "Input 'q' has 3 axes, [2, 3, 3]; a key input has shape [B, T, Hk, K].",
        ],
    ),
    (
        {"k": torch.ones(2, 1, 2, 2), "p": torch.ones(5)},
        "k",
        [
            "Input 'k' has shape [2, 1, 2, 2], but K = 2 differs from K = 3 of 'q'; a key input has",
            "Input 'p' has shape [5], but H = 5 differs from H = 6 of 'v'; a head input has shape [H].",
        ],
    ),
    (
        {"slots": [0, 1]},
        None,
        ["'slots' is a tensor [B] of integers, the sequence of the state for each row of the batch."],
    ),
    ({"slots": torch.tensor([0.0, 1.0])}, None, ["'slots' is a tensor [B] of integers, the sequence of the state for"]),
    ({"slots": torch.tensor([[0, 1]])}, None, ["'slots' is a tensor [B] of integers, the sequence of the state for"]),
    ({"slots": torch.tensor([0, 2])}, None, ["'slots' names sequence 2, but the state has those from 0 to 1."]),
    ({"slots": torch.tensor([0, -1])}, None, ["'slots' names sequence -1, but the state has those from 0 to 1."]),
    ({"slots": torch.tensor([1, 1])}, None, ["'slots' names a sequence twice; a step gives each of them one token."]),
    (
        {"slots": torch.tensor([1])},
        "q",
        ["Input 'q' has B = 2, but the step is one of 1 sequences; choose them by slots=."],
    ),
    (
        {"slots": torch.tensor([0, 1], device="meta")},
        None,
        ["'slots' is on 'meta', but the state is on 'cpu'; move it with .to('cpu')."],
    ),
]


@pytest.mark.parametrize(("changed", "name", "messages"), WRONG)
def test_a_wrong_step_says_what_is_wrong_and_changes_nothing(
    changed: dict[str, Any], name: str | None, messages: list[str]
) -> None:
    state = empty()
    before = state.clone()
    with pytest.raises(CallError) as caught:
        attention().step(state, **token(**changed))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages), lines
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(message)
    assert caught.value.input == name
    assert same(state, before)
    assert state.furthest == 0


def test_a_batch_of_another_size_or_several_tokens() -> None:
    with pytest.raises(CallError, match=re.escape("Input 'q' has B = 3, but the step is one of 2 sequences")):
        attention().step(empty(), **token(3))
    longer = {name: x.repeat(1, 2, *[1] * (x.ndim - 2)) if x.ndim > 1 else x for name, x in token().items()}
    with pytest.raises(CallError, match=re.escape("Input 'q' has T = 2, but a step takes one token a sequence")):
        attention().step(empty(), **longer)


def test_a_state_of_another_spec_or_none() -> None:
    other = compiled(*VARIANTS["number"])
    with pytest.raises(
        CallError, match=r"The state is that of another spec, 'test'; make one of 'test' with init_state"
    ):
        other.step(empty(), **token(lam=None, p=None))
    with pytest.raises(CallError, match="A step takes a state first, not a Tensor; make one with init_state"):
        attention().step(torch.ones(2), **token())  # type: ignore[arg-type]
    # the same text compiled twice is the same spec
    assert attention().step(empty(), **token()).shape == (2, 1, 6, 4)


def test_a_position_beyond_the_levels() -> None:
    made, state = attention(), empty()
    given = token()
    for _ in range(16):
        made.step(state, **given)
    before = state.clone()
    with pytest.raises(CallError, match="Input 'lam' has 5 levels, but a sequence at position 16 needs 6") as caught:
        made.step(state, **given)
    assert caught.value.input == "lam"
    assert same(state, before)
    pool = empty(3)
    pool.put([1, 2], state)
    # the sequence that is still young goes on
    for _ in range(3):
        made.step(pool, **token(1), slots=torch.tensor([0]))
    assert pool.positions.tolist() == [3, 16, 16]
    with pytest.raises(CallError, match="a sequence at position 16 needs 6"):
        made.step(pool, **token(2), slots=torch.tensor([2, 0]))


def test_levels_of_a_window_are_counted_by_position_too() -> None:
    made = compiled("q, k : key", "v : value", "lam : level", "return attend(q, k, v, window(3) * fenwick(lam))")
    inputs = inputs_of(made, 8)
    state = start(made, inputs)
    steps(made, state, inputs)
    with pytest.raises(CallError, match="Input 'lam' has 4 levels, but a sequence at position 8 needs 5"):
        made.step(state, **part(made.spec, inputs, 0, 1))


@pytest.mark.parametrize("name", ["number, weak hierarchy", "number, strong hierarchy", "operator, weak hierarchy"])
def test_what_a_kernel_leaves_behind_is_never_seen(name: str) -> None:
    made = compiled(*VARIANTS[name])
    inputs = inputs_of(made, 9, B=2)
    clean = start(made, inputs)
    steps(made, clean, part(made.spec, inputs, 0, 6))
    empty_rows = (clean.memories["attend_1_1"]["states"] == 0).flatten(3).all(-1)
    assert empty_rows.any()

    def littered() -> State:
        state = clean.clone()
        state.held["attend_1_1"]["states"][empty_rows] = torch.nan
        state.leftovers = True
        return state

    filled = start(made, inputs)
    filled.put([0, 1], littered())
    copies = [littered().clone(), littered().select([0, 1]), littered().to(torch.float64), littered().detach(), filled]
    assert all(copy.leftovers and same(copy, clean) for copy in (littered(), *copies))
    token = part(made.spec, inputs, 6, 7)
    o, final = made(**token, initial_state=littered(), output_final_state=True)
    assert o.equal(made(**token, initial_state=clean))
    assert all(x.isfinite().all() for _, _, x in final.buffers())
    assert made.step(littered(), **token).equal(made.step(clean, **token))
