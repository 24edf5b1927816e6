"""The arguments of a call: how they may be given, and what is said of those that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from maskdsl.diagnostics import CallError, Source
from maskdsl.language.load import specs
from maskdsl.runtime.arguments import Sizes, bind, needed_levels
from maskdsl.spec import Spec

TEXT = """
attention test:
    q, k : key
    v    : value
    g    : token <= 0
    lam  : level >= 0
    p    : head in [0, 1]
    return p * attend(q, k, v, semiseparable(g) * fenwick(lam))
"""


def spec(text: str = TEXT) -> Spec:
    return specs(Source("<test>", text))[0]


def inputs(**changed: Any) -> dict[str, Any]:
    """Valid inputs with B=2 T=5 H=6 K=3 V=4 L=4, some of them replaced or, by None, left out."""
    valid = {
        "q": torch.zeros(2, 5, 3, 3),
        "k": torch.zeros(2, 5, 2, 3),
        "v": torch.zeros(2, 5, 6, 4),
        "g": torch.zeros(2, 5, 6),
        "lam": torch.zeros(2, 5, 6, 4),
        "p": torch.zeros(6),
    }
    return {name: value for name, value in (valid | changed).items() if value is not None}


def refused(*args: Any, text: str = TEXT, check_inputs: bool = False, **kwargs: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        bind(spec(text), args, kwargs, check_inputs)
    return caught.value


def test_inputs_by_name_come_back_in_declared_order() -> None:
    given = inputs()
    bound = bind(spec(), (), dict(reversed(given.items())))
    assert list(bound.tensors) == ["q", "k", "v", "g", "lam", "p"]
    assert all(bound.tensors[name] is given[name] for name in given)
    assert bound.sizes == Sizes(B=2, T=5, H=6, K=3, V=4, L=4, key_heads=(("q", 3), ("k", 2)))


def test_inputs_in_declared_order_and_by_name_together() -> None:
    given = inputs()
    bound = bind(spec(), tuple(given.values())[:3], {name: given[name] for name in ("p", "lam", "g")})
    assert all(bound.tensors[name] is given[name] for name in given)


def test_a_kind_never_declared_has_no_size() -> None:
    text = "attention test:\n    q : key\n    v : value\n    return attend(q, q, v, causal)\n"
    q, v = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5)
    sizes = bind(spec(text), (q, v), {}).sizes
    assert (sizes.L, sizes.Hk) == (None, 3)


def test_key_inputs_with_different_heads_have_no_common_head_count() -> None:
    assert bind(spec(), (), inputs()).sizes.Hk is None


def test_more_levels_than_needed_are_fine() -> None:
    assert bind(spec(), (), inputs(lam=torch.zeros(2, 5, 6, 9))).sizes.L == 9


@pytest.mark.parametrize(
    ("mask", "length", "expected"),
    [
        ("fenwick(lam)", 1, 1),
        ("fenwick(lam)", 64, 7),
        ("fenwick(lam)", 65, 8),
        ("fenwick(lam, base=4)", 65, 5),
        ("semiseparable(g) * (fenwick(lam, base=4) + fenwick(lam, base=3))", 81, 5),
        ("semiseparable(g) * fenwick(lam) + fenwick(1)", 2, 2),
        ("fenwick(lam, base=8) + fenwick(1)", 4096, 5),
    ],
)
def test_needed_levels(mask: str, length: int, expected: int) -> None:
    gate = "\n    g : token <= 0" if "(g)" in mask else ""
    text = f"attention test:\n    q : key\n    v : value\n    lam : level{gate}\n    return attend(q, q, v, {mask})\n"
    assert needed_levels(spec(text), length) == expected


MESSAGES: list[tuple[dict[str, Any], str, str]] = [
    ({"k": None}, "k", "Input 'k' is missing: a key input of shape [B, T, Hk, K]."),
    ({"p": None}, "p", "Input 'p' is missing: a head input of shape [H]."),
    (
        {"g": 0.5},
        "g",
        "Input 'g' is a float, not a tensor; a token input has shape [B, T, H].",
    ),
    (
        {"lam": torch.zeros(2, 5, 6)},
        "lam",
        "Input 'lam' has 3 axes, [2, 5, 6]; a level input has shape [B, T, H, L].",
    ),
    ({"g": torch.zeros(6)}, "g", "Input 'g' has 1 axis, [6]; a token input has shape [B, T, H]."),
    (
        {"k": torch.zeros(2, 7, 2, 3)},
        "k",
        "Input 'k' has shape [2, 7, 2, 3], but T = 7 differs from T = 5 of 'q'; a key input has shape [B, T, Hk, K].",
    ),
    (
        {"v": torch.zeros(1, 5, 6, 4)},
        "v",
        "Input 'v' has shape [1, 5, 6, 4], but B = 1 differs from B = 2 of 'q'; a value input has shape [B, T, H, V].",
    ),
    (
        {"g": torch.zeros(2, 5, 3)},
        "g",
        "Input 'g' has shape [2, 5, 3], but H = 3 differs from H = 6 of 'v'; a token input has shape [B, T, H].",
    ),
    (
        {"k": torch.zeros(2, 5, 4, 3)},
        "k",
        "Input 'k' has shape [2, 5, 4, 3], but Hk = 4 does not divide the 6 heads of 'v';"
        " a key input has shape [B, T, Hk, K].",
    ),
    (
        {"q": torch.zeros(2, 5, 12, 3)},
        "q",
        "Input 'q' has shape [2, 5, 12, 3], but Hk = 12 does not divide the 6 heads of 'v';"
        " a key input has shape [B, T, Hk, K].",
    ),
    (
        {"k": torch.zeros(2, 5, 2, 8)},
        "k",
        "Input 'k' has shape [2, 5, 2, 8], but K = 8 differs from K = 3 of 'q'; a key input has shape [B, T, Hk, K].",
    ),
    (
        {"v": torch.zeros(2, 5, 6, 0)},
        "v",
        "Input 'v' has shape [2, 5, 6, 0], but V = 0: every axis needs at least one entry;"
        " a value input has shape [B, T, H, V].",
    ),
    (
        {"q": torch.zeros(2, 5, 3, 3, dtype=torch.int64)},
        "q",
        "Input 'q' has dtype int64; convert it to one of float16, bfloat16, float32, float64.",
    ),
    (
        {"g": torch.zeros(2, 5, 6, dtype=torch.complex64)},
        "g",
        "Input 'g' has dtype complex64; convert it to one of float16, bfloat16, float32, float64.",
    ),
    (
        {"p": torch.zeros(6, device="meta")},
        "p",
        "Input 'p' is on 'meta', but 'q' is on 'cpu'; move one with .to('cpu').",
    ),
    (
        {"lam": torch.zeros(2, 5, 6, 3)},
        "lam",
        "Input 'lam' has 3 levels, but a sequence of T = 5 needs 4; give it a last axis L >= 4.",
    ),
    ({"gg": torch.zeros(2, 5, 6)}, "", "'test' has no input 'gg'. Did you mean 'g'?"),
    ({"weights": torch.zeros(2, 5, 6)}, "", "'test' has no input 'weights'. Its inputs are q, k, v, g, lam, p."),
]


@pytest.mark.parametrize(("changed", "name", "message"), MESSAGES, ids=[message for *_, message in MESSAGES])
def test_message(changed: dict[str, Any], name: str, message: str) -> None:
    error = refused(**inputs(**changed))
    assert str(error) == message
    assert error.input == (name or None)


def test_too_many_inputs() -> None:
    error = refused(*inputs().values(), torch.zeros(1))
    assert str(error) == "'test' takes 6 inputs (q, k, v, g, lam, p), but 7 were given."


def test_an_input_given_twice() -> None:
    given = inputs()
    error = refused(given.pop("q"), given["k"], **given)
    assert str(error) == "Input 'k' is given twice, by position and by name; leave one out."
    assert error.input == "k"


def test_an_empty_batch_and_an_empty_sequence() -> None:
    empty = {name: value[:0] if value.ndim > 1 else value for name, value in inputs().items()}
    assert "Input 'q' has shape [0, 5, 3, 3], but B = 0: every axis needs at least one entry" in str(refused(**empty))
    empty = {name: value[:, :0] if value.ndim > 1 else value for name, value in inputs().items()}
    assert "Input 'q' has shape [2, 0, 3, 3], but T = 0: every axis needs at least one entry" in str(refused(**empty))


def test_a_spec_that_computes_with_the_key_heads_needs_one_number_of_them() -> None:
    text = "attention test:\n    q, k : key\n    v : value\n    return attend(q, k, v, causal, scale=1/Hk)\n"
    given = {"q": torch.zeros(1, 2, 6, 1), "k": torch.zeros(1, 2, 3, 1), "v": torch.zeros(1, 2, 6, 1)}
    error = refused(text=text, **given)
    assert str(error) == "Input 'k' has Hk = 3, but 'q' has 6, and the spec computes with Hk."
    assert bind(spec(text), (), given | {"k": given["q"]}).sizes.Hk == 6


def test_independent_problems_are_reported_together_in_declared_order() -> None:
    changed = {"lam": torch.zeros(2, 5, 6, 2), "extra": 1, "k": torch.zeros(2, 5, 2, 9), "q": torch.zeros(1), "p": None}
    error = refused(**inputs(**changed))
    assert str(error).splitlines() == [
        "'test' has no input 'extra'. Its inputs are q, k, v, g, lam, p.",
        "Input 'q' has 1 axis, [1]; a key input has shape [B, T, Hk, K].",
        "Input 'lam' has 2 levels, but a sequence of T = 5 needs 4; give it a last axis L >= 4.",
        "Input 'p' is missing: a head input of shape [H].",
    ]
    assert error.input == "q"


def with_value(name: str, index: tuple[int, ...], value: float) -> dict[str, Tensor]:
    given = inputs()
    given[name][index] = value
    return given


VALUES = [
    ("g", 1e-3, "Input 'g' promises values <= 0, but 1 of 60 lies outside; the worst is 0.001 at [1, 2, 3]."),
    ("g", float("inf"), "Input 'g' promises values <= 0, but 1 of 60 lies outside; the worst is inf at [1, 2, 3]."),
    ("lam", -2, "Input 'lam' promises values >= 0, but 1 of 240 lies outside; the worst is -2 at [1, 2, 3, 1]."),
    ("p", 1.5, "Input 'p' promises values in [0, 1], but 1 of 6 lies outside; the worst is 1.5 at [1]."),
    ("p", -0.25, "Input 'p' promises values in [0, 1], but 1 of 6 lies outside; the worst is -0.25 at [1]."),
    ("q", float("nan"), "Input 'q' holds 1 NaN among 90 values."),
]


@pytest.mark.parametrize(("name", "value", "message"), VALUES, ids=[message for *_, message in VALUES])
def test_values_are_checked_on_request(name: str, value: float, message: str) -> None:
    given = inputs()
    index = (1, 2, 3, 1)[: given[name].ndim] if name != "q" else (1, 2, 0, 1)
    given = with_value(name, index, value)
    bind(spec(), (), given)
    error = refused(check_inputs=True, **given)
    assert str(error) == message
    assert error.input == name


def test_the_worst_of_several_values_is_named_and_nan_is_counted_apart() -> None:
    given = with_value("g", (0, 1, 2), 3.0)
    given["g"][1, 4, 5] = 7.0
    given["g"][0, 0, 0] = float("nan")
    assert str(refused(check_inputs=True, **given)).splitlines() == [
        "Input 'g' holds 1 NaN among 60 values.",
        "Input 'g' promises values <= 0, but 2 of 60 lie outside; the worst is 7 at [1, 4, 5].",
    ]


def test_the_ends_of_a_range_and_endless_decays_are_inside() -> None:
    given = with_value("g", (0, 0, 0), -float("inf")) | {"p": torch.tensor([0.0, 1, 0, 1, 0, 1])}
    assert bind(spec(), (), given, check_inputs=True).sizes.H == 6
