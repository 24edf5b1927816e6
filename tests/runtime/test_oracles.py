"""The two oracles: each against the definition worked by hand, and against each other on random specs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import spec_texts
from torch import Tensor

from maskdsl.diagnostics import Source
from maskdsl.language.load import specs
from maskdsl.runtime.oracle import dense, recurrent
from maskdsl.runtime.sampling import Shape, random_inputs, regimes, shapes
from maskdsl.spec import Spec

Oracle = Callable[[Spec, Mapping[str, Tensor]], Tensor]
oracles = pytest.mark.parametrize("oracle", [dense, recurrent])
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def spec(text: str) -> Spec:
    return specs(Source("<test>", text))[0]


def attention(*lines: str) -> Spec:
    return spec("attention test:\n" + "".join(f"    {line}\n" for line in lines))


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tokens(*values: object) -> Tensor:
    """One batch and one head: [1, T, 1] from numbers, [1, T, 1, F] from lists."""
    return tensor(*values).unsqueeze(0).unsqueeze(2)


Q, K, V = tokens([1.0], [2.0], [3.0]), tokens([1.0], [-1.0], [2.0]), tokens([1.0], [10.0], [100.0])
HALF, QUARTER = math.log(1 / 2), math.log(1 / 4)
GATE = {"g": ("token <= 0", tokens(-7, HALF, QUARTER))}
WEIGHTS = {"lam": ("level >= 0", tokens([2, 900, 900], [3, 5, 900], [7, 11, 13]))}
STEP = {"w": ("key", tokens([9.0], [1.0], [2.0])), "beta": ("token", tokens(9, 0.5, 0.125))}
RANK1 = {"a": ("key", tokens([9.0], [1.0], [-0.25])), "b": ("key", tokens([9.0], [2.0], [2.0]))}

# o[t] = q[t] * sum of M[t, s] k[s] v[s], with k v = (1, -10, 200) and q = (1, 2, 3).
BY_HAND = [
    ("causal", {}, (1, 2 * (1 - 10), 3 * (1 - 10 + 200))),
    ("window(1)", {}, (1, -20, 600)),
    ("window(2)", {}, (1, 2 * (1 - 10), 3 * (-10 + 200))),
    ("window(9)", {}, (1, 2 * (1 - 10), 3 * (1 - 10 + 200))),
    ("semiseparable(g)", GATE, (1, 2 * (1 / 2 - 10), 3 * (1 / 8 - 10 / 4 + 200))),
    ("semiseparable(g) * semiseparable(2 * g)", GATE, (1, 2 * (1 / 8 - 10), 3 * (1 / 512 - 10 / 64 + 200))),
    ("semiseparable(g) * window(2)", GATE, (1, 2 * (1 / 2 - 10), 3 * (-10 / 4 + 200))),
    ("delta(w, beta)", STEP, (1, 2 * (1 / 2 - 10), 3 * (1 / 4 - 10 / 2 + 200))),
    ("semiseparable(g) @ delta(w, beta)", GATE | STEP, (1, 2 * (1 / 4 - 10), 3 * (1 / 32 - 10 / 8 + 200))),
    ("semiseparable(g) * delta(w, beta)", GATE | STEP, (1, 2 * (1 / 4 - 10), 3 * (1 / 32 - 10 / 8 + 200))),
    ("rank1(a, b)", RANK1, (1, 2 * (3 - 10), 3 * (3 / 2 - 10 / 2 + 200))),
    ("rank1(a, b) * window(2)", RANK1, (1, 2 * (3 - 10), 3 * (-10 / 2 + 200))),
    ("fenwick(lam)", WEIGHTS, (2, 2 * (5 - 3 * 10), 3 * (13 - 13 * 10 + 7 * 200))),
    ("fenwick(lam, 3)", WEIGHTS, (2, 2 * (5 - 3 * 10), 3 * (11 - 11 * 10 + 7 * 200))),
    ('fenwick(lam, admissibility="strong")', WEIGHTS, (2, 2 * (5 - 3 * 10), 3 * (13 - 11 * 10 + 7 * 200))),
    ("fenwick(lam) * window(2)", WEIGHTS, (2, 2 * (5 - 3 * 10), 3 * (-13 * 10 + 7 * 200))),
    ("fenwick(lam) * fenwick(lam)", WEIGHTS, (4, 2 * (25 - 9 * 10), 3 * (169 - 169 * 10 + 49 * 200))),
    ("fenwick(2)", {}, (2, 2 * (2 - 20), 3 * (2 - 20 + 400))),
    (
        "fenwick(lam) * delta(w, beta)",
        WEIGHTS | STEP,
        (2, 2 * (5 / 2 - 3 * 10), 3 * (13 / 4 - 13 * 10 / 2 + 7 * 200)),
    ),
    (
        "(causal + semiseparable(g)) * fenwick(lam)",
        GATE | WEIGHTS,
        (4, 2 * (5 * 3 / 2 - 3 * 20), 3 * (13 * 9 / 8 - 13 * 10 * 5 / 4 + 7 * 400)),
    ),
]


@oracles
@pytest.mark.parametrize(("mask", "given", "expected"), BY_HAND, ids=[case[0] for case in BY_HAND])
def test_masks_by_hand(
    oracle: Oracle, mask: str, given: dict[str, tuple[str, Tensor]], expected: tuple[float, ...]
) -> None:
    declared = [f"{name} : {kind}" for name, (kind, _) in given.items()]
    built = attention("q, k : key", "v : value", *declared, f"return attend(q, k, v, {mask})")
    inputs = {"q": Q, "k": K, "v": V} | {name: value for name, (_, value) in given.items()}
    torch.testing.assert_close(oracle(built, inputs).flatten(), tensor(*expected))


@oracles
@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        # X = I + e1 e2' and Y = I + e2 e1'; X Y e1 = (2, 1) and Y X e1 = (1, 1), read by q = (1, 10).
        ("rank1(x, y) @ rank1(y, x)", 12),
        ("rank1(y, x) @ rank1(x, y)", 11),
        # The decay of channel 1 by 1/2 before and after Y, which copies channel 1 to channel 2.
        ("rank1(y, x) @ semiseparable(c)", 5.5),
        ("semiseparable(c) @ rank1(y, x)", 10.5),
        ("semiseparable(c) * semiseparable(c)", 0.25),
        ("semiseparable(c) + rank1(y, x)", 11.5),
        ("causal + semiseparable(c)", 1.5),
    ],
)
def test_order_of_step_operators(oracle: Oracle, mask: str, expected: float) -> None:
    kinds = {"x": "key", "y": "key", "c": "channel <= 0"}
    names = [name for name in kinds if name in re.findall(r"\w+", mask)]
    declared = [f"{name} : {kinds[name]}" for name in names]
    built = attention("q, k : key", "v : value", *declared, f"return attend(q, k, v, {mask})")
    given = {"x": tokens([1, 0], [1, 0]), "y": tokens([0, 1], [0, 1]), "c": tokens([0, 0], [HALF, 0])}
    inputs = {"q": tokens([0, 0], [1, 10]), "k": tokens([1, 0], [0, 0]), "v": tokens([1.0], [0.0])}
    output = oracle(built, inputs | {name: given[name].double() for name in names})
    torch.testing.assert_close(output.flatten(), tensor(0, expected))


@oracles
def test_step_operators_of_later_tokens_act_last(oracle: Oracle) -> None:
    # A[1] = I + e2 e1' takes e1 to (1, 1), A[2] = I + e1 e2' takes that to (2, 1).
    built = attention("q, k, a, b : key", "v : value", "return attend(q, k, v, rank1(a, b))")
    a, b = tokens([0.0, 0.0], [0.0, 1.0], [1.0, 0.0]), tokens([0.0, 0.0], [1.0, 0.0], [0.0, 1.0])
    q, k = tokens([0.0, 0.0], [0.0, 0.0], [1.0, 10.0]), tokens([1.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    output = oracle(built, {"q": q, "k": k, "a": a, "b": b, "v": tokens([1.0], [0.0], [0.0])})
    torch.testing.assert_close(output.flatten(), tensor(0, 0, 12))


@oracles
def test_a_decay_may_forget_everything(oracle: Oracle) -> None:
    built = attention("q, k : key", "v : value", "w : token in [0, 1]", "return attend(q, k, v, semiseparable(log(w)))")
    output = oracle(built, {"q": Q, "k": K, "v": V, "w": tokens(1.0, 0.0, 0.5)})
    torch.testing.assert_close(output.flatten(), tensor(1, -20, 3 * (-10 / 2 + 200)))


@oracles
def test_a_key_head_serves_consecutive_value_heads(oracle: Oracle) -> None:
    built = attention("q, k : key", "v : value", "return attend(q, k, v, causal)")
    inputs = {"q": tensor(1, 10).view(1, 1, 2, 1), "k": tensor(3).view(1, 1, 1, 1), "v": tensor(1, 2, 3, 4)}
    output = oracle(built, inputs | {"v": inputs["v"].view(1, 1, 4, 1)})
    assert output.flatten().tolist() == [3, 6, 90, 120]


@oracles
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("exp(x)", math.exp(-1.5)),
        ("log(-x)", math.log(1.5)),
        ("sqrt(-x)", math.sqrt(1.5)),
        ("sigmoid(x)", 1 / (1 + math.exp(1.5))),
        ("logsigmoid(x)", -math.log1p(math.exp(1.5))),
        ("softplus(x)", math.log1p(math.exp(-1.5))),
        ("softplus(-20 * x)", 30 + math.log1p(math.exp(-30))),
        ("silu(x)", -1.5 / (1 + math.exp(1.5))),
        ("tanh(x)", math.tanh(-1.5)),
        ("relu(x) + relu(-x)", 1.5),
        ("abs(x)", 1.5),
        ("square(x)", 2.25),
        ("min(x, 1, -2)", -2),
        ("max(x, 1, 2)", 2),
        ("clamp(x, -1, 0)", -1),
        ("-x ** 2", -2.25),
        ("x / 2 - 1", -1.75),
        ("1 - 2 ** -5 + 0 * x", 1 - 1 / 32),
        ("x * B * T * H * Hk * K * V", -1.5 * 2 * 3 * 6 * 3 * 5 * 1),
    ],
)
def test_scalar_expressions(oracle: Oracle, expression: str, expected: float) -> None:
    built = attention("q : key", "v : value", "x : head", f"return attend(q, q, v, causal) * 0 + v * ({expression})")
    ones = torch.ones(2, 3, 6, 1, dtype=torch.float64)
    inputs = {"q": ones[:, :, :3].expand(2, 3, 3, 5), "v": ones, "x": torch.full((6,), -1.5, dtype=torch.float64)}
    torch.testing.assert_close(oracle(built, inputs), torch.full_like(ones, expected), rtol=1e-14, atol=0)


@oracles
def test_l2norm_and_scale(oracle: Oracle) -> None:
    built = attention("q, k : key", "v : value", "return attend(l2norm(q), l2norm(k, eps=11), v, causal, scale=1/K)")
    output = oracle(built, {"q": tokens([3.0, 4.0]), "k": tokens([3.0, 4.0]), "v": tokens([1.0])})
    assert output.item() == pytest.approx(25 / math.sqrt(25 + 1e-6) / 6 / 2, rel=1e-14)


@oracles
def test_an_attend_can_be_the_value_of_another(oracle: Oracle) -> None:
    built = attention("q, k : key", "v : value", "u = attend(q, k, v, causal)", "return attend(q, k, u, window(1)) + u")
    # u = (1, -18, 573); the outer attend gives q k u.
    output = oracle(built, {"q": Q, "k": K, "v": V})
    torch.testing.assert_close(output.flatten(), tensor(1 + 1, -18 + 36, 573 + 6 * 573))


@oracles
def test_mixed_dtypes_meet_in_the_widest_and_half_ones_in_float32(oracle: Oracle) -> None:
    built = attention(
        "q, k : key", "v : value", "g : token <= 0", "return attend(q, k, v, semiseparable(g), scale=1/3)"
    )
    inputs = {"q": Q.bfloat16(), "k": K.bfloat16(), "v": V.bfloat16(), "g": GATE["g"][1].bfloat16()}
    assert oracle(built, inputs).dtype == torch.float32
    assert oracle(built, inputs | {"v": V.half()}).dtype == torch.float32
    assert oracle(built, inputs | {"g": GATE["g"][1]}).dtype == torch.float64


@relaxed
@given(st.data(), spec_texts(), regimes())
def test_oracles_agree(data: st.DataObject, text: str, regime: str) -> None:
    built = spec(text)
    inputs = random_inputs(built, data.draw(shapes(built)), dtype=torch.float64, regime=regime)
    by_definition, by_recurrence = dense(built, inputs), recurrent(built, inputs)
    assert by_definition.isfinite().all()
    assert_equal_to_scale(by_recurrence, by_definition)


@settings(relaxed, max_examples=30)
@given(st.data(), spec_texts(), regimes())
def test_gradients_agree(data: st.DataObject, text: str, regime: str) -> None:
    built = spec(text)
    shape = data.draw(shapes(built, longest=9))
    inputs = random_inputs(built, shape, dtype=torch.float64, regime=regime)
    inputs = {name: value.requires_grad_() for name, value in inputs.items()}
    cotangent = torch.randn(shape.B, shape.T, shape.H, shape.V, dtype=torch.float64)
    by_definition, by_recurrence = (
        torch.autograd.grad(oracle(built, inputs), list(inputs.values()), cotangent, allow_unused=True)
        for oracle in (dense, recurrent)
    )
    largest = max(gradient.abs().max().item() for gradient in by_definition if gradient is not None)
    for name, left, right in zip(inputs, by_recurrence, by_definition, strict=True):
        zero = torch.zeros_like(inputs[name])
        # A gradient whose parts cancel is exact to the rounding of its parts only.
        assert_equal_to_scale(zero if left is None else left, zero if right is None else right, rounding=largest)


@pytest.mark.parametrize("length", [64, 65, 129])
def test_gradients_agree_across_recomputed_segments(length: int) -> None:
    built = attention(
        "q, k : key",
        "v : value",
        "a, b : token",
        "lam : level >= 0",
        "mask = semiseparable(logsigmoid(a)) * delta(l2norm(k), sigmoid(b)) * fenwick(lam)",
        "return attend(q, k, v, mask + window(70))",
    )
    inputs = random_inputs(built, Shape(B=2, T=length, H=4, K=3, V=5, L=9, key_heads=(("k", 2),)), dtype=torch.float64)
    inputs = {name: value.requires_grad_() for name, value in inputs.items()}
    by_definition, by_recurrence = (
        torch.autograd.grad(oracle(built, inputs).square().sum(), list(inputs.values()))
        for oracle in (dense, recurrent)
    )
    for left, right in zip(by_recurrence, by_definition, strict=True):
        assert_equal_to_scale(left, right)


def assert_equal_to_scale(actual: Tensor, expected: Tensor, rounding: float = 0.0) -> None:
    """Equal within 1e-10 of the largest number there is, and what `rounding` numbers of that size may cost."""
    tolerance = 1e-10 * expected.abs().max().item() + 1e-13 * rounding
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
