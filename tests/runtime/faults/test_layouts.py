"""Memory layouts of inputs and of the output's gradient: strides, views, expanded tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import Outcome, assert_right, compiled, inputs_of, outcome
from torch import Tensor
from variants import VARIANTS, chunk_of

every_variant = pytest.mark.parametrize("name", VARIANTS)


def heads_first(x: Tensor) -> Tensor:
    """The same tensor, stored [B, H, T, ...]."""
    return x.transpose(1, 2).contiguous().transpose(1, 2) if x.ndim > 2 else x


def every_other(x: Tensor) -> Tensor:
    """The same tensor, stored with a gap after every number."""
    return torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0]


def reversed_axes(x: Tensor) -> Tensor:
    """The same tensor, stored with its first axis innermost."""
    order = tuple(reversed(range(x.ndim)))
    return x.permute(order).contiguous().permute(order)


def assert_same(actual: Outcome, expected: Outcome) -> None:
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-12, atol=1e-13)


@every_variant
@pytest.mark.parametrize("layout", [heads_first, every_other, reversed_axes])
def test_strided_inputs(name: str, layout: Callable[[Tensor], Tensor]) -> None:
    """Kernels that take strides for granted (fla#759, fla#871)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs = inputs_of(attention, 21, B=2)
    expected = outcome(attention, inputs)
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    strided = {name: layout(x) for name, x in leaves.items()}
    assert not strided["v"].is_contiguous()
    cotangent = torch.randn(expected["o"].shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    output = attention(**strided)
    gradients = torch.autograd.grad(output, list(leaves.values()), layout(cotangent))
    found = {"o": output.detach()} | {f"d{name}": g for name, g in zip(leaves, gradients, strict=True)}
    assert_same(Outcome(found), expected)


@every_variant
def test_the_gradient_of_a_sum_has_strides_of_zero(name: str) -> None:
    """`y.sum().backward()` hands back an expanded number (fla#712)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs = inputs_of(attention, 21)
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    again = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    output = attention(**leaves)
    output.sum().backward()
    attention.reference(**again, oracle="recurrent").backward(torch.ones_like(output))
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, again[name].grad, rtol=1e-9, atol=1e-12)


@every_variant
def test_expanded_inputs(name: str) -> None:
    """One batch row and one head shown several times: gradients add up over the copies (fla#1138)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs = {
        name: x.narrow(-1 if x.ndim == 1 else -2 if x.ndim in (2, 4) else 2, 0, 1)
        for name, x in inputs_of(attention, 21).items()
    }

    def expanded(**x: Tensor) -> Tensor:
        return attention(**{name: each.expand(*wide[name]) for name, each in x.items()})

    def copied(**x: Tensor) -> Tensor:
        return attention(**{name: each.expand(*wide[name]).contiguous() for name, each in x.items()})

    wide = {
        name: (5,) if x.ndim == 1 else (5, x.shape[1]) if x.ndim == 2 else (3, 21, 5, *x.shape[3:])
        for name, x in inputs.items()
    }
    assert_same(outcome(expanded, inputs), outcome(copied, inputs))


def test_splits_of_one_projection() -> None:
    """q, k and v as views of one tensor, whose gradient gathers all three (fla#759)."""
    attention = compiled(*VARIANTS["operator"], chunk=8)
    inputs = inputs_of(attention, 21, B=2, K=4, V=4)
    rest = {name: inputs[name] for name in ("g", "beta")}

    def projected(qkv: Tensor, **rest: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 4)) for part in qkv.split(8, dim=-1))
        assert not q.is_contiguous()
        return attention(q=q, k=k, v=v, **rest)

    joined = torch.cat([inputs[name].flatten(2) for name in "qkv"], -1)
    found, expected = outcome(projected, {"qkv": joined, **rest}), outcome(attention, inputs)
    gathered = torch.cat([expected[f"d{name}"].flatten(2) for name in "qkv"], -1)
    torch.testing.assert_close(found["dqkv"], gathered, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found["o"], expected["o"], rtol=1e-12, atol=1e-13)


def test_inputs_are_left_alone() -> None:
    """No program writes into what it is given, not even where a conversion makes no copy."""
    for name, lines in VARIANTS.items():
        attention = compiled(*lines, chunk=chunk_of(name))
        inputs = inputs_of(attention, 21)
        before = {name: x.clone() for name, x in inputs.items()}
        assert_right(attention, inputs)
        assert all(x.equal(before[name]) for name, x in inputs.items())


def test_the_same_tensor_as_several_inputs() -> None:
    """q and k may be one tensor: both gradients reach it."""
    attention = compiled(*VARIANTS["operator"], chunk=8)
    inputs = inputs_of(attention, 21)
    rest = {name: inputs[name] for name in ("v", "g", "beta")}
    shared = outcome(lambda x, **rest: attention(q=x, k=x, **rest), {"x": inputs["q"], **rest})
    apart = outcome(attention, inputs | {"k": inputs["q"]})
    torch.testing.assert_close(shared["dx"], apart["dq"] + apart["dk"], rtol=1e-12, atol=1e-13)
