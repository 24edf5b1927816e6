"""How gradients are asked for: some inputs only, none, twice, through copies and modules."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from agreement import compiled, inputs_of, outcome
from torch import Tensor
from variants import VARIANTS

import maskdsl
from maskdsl.runtime.compiled import Attention

LINES = VARIANTS["operator, weak hierarchy"]
COPIES: list[Callable[[Attention], Attention]] = [
    copy.copy,
    copy.deepcopy,
    lambda attention: pickle.loads(pickle.dumps(attention)),
]


def test_gradients_of_some_inputs_only() -> None:
    """Inputs that ask for no gradient get none, the others the same as ever (fla#1141)."""
    attention = compiled(*LINES, chunk=8)
    inputs = inputs_of(attention, 21)
    every = outcome(attention, inputs)
    for count in (1, 2, len(inputs)):
        for chosen in itertools.combinations(inputs, count):
            given = {name: x.clone().requires_grad_(name in chosen) for name, x in inputs.items()}
            output = attention(**given)
            cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
            output.backward(cotangent)
            for name, x in given.items():
                assert (x.grad is not None) == (name in chosen)
                assert x.grad is None or x.grad.equal(every[f"d{name}"])


def test_no_gradients_at_all() -> None:
    """No graph without an input that asks, under no_grad and under inference_mode; the outputs are the same."""
    attention = compiled(*LINES, chunk=8)
    inputs = inputs_of(attention, 21)
    plain = attention(**inputs)
    assert not plain.requires_grad
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    assert attention(**leaves).requires_grad
    with torch.no_grad():
        output = attention(**leaves)
        assert not output.requires_grad
        assert output.equal(plain)
    with torch.inference_mode():
        assert attention(**leaves).equal(plain)


def test_backward_twice() -> None:
    """With retain_graph the second backward pass gives the same; without it PyTorch says so."""
    attention = compiled(*LINES, chunk=8)
    leaves = {name: x.requires_grad_() for name, x in inputs_of(attention, 21).items()}
    output = attention(**leaves).square().sum()
    first = torch.autograd.grad(output, list(leaves.values()), retain_graph=True)
    second = torch.autograd.grad(output, list(leaves.values()))
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output, list(leaves.values()))


def test_second_derivatives_are_refused() -> None:
    """A gradient of a gradient is an error, never a silent zero."""
    attention = compiled(*LINES, chunk=8)
    leaves = {name: x.requires_grad_() for name, x in inputs_of(attention, 9).items()}
    (gradient,) = torch.autograd.grad(attention(**leaves).square().sum(), leaves["q"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_an_input_changed_before_backward_is_noticed() -> None:
    """What the backward pass reads must be what the forward pass saw."""
    attention = compiled(*LINES, chunk=8)
    leaves = {name: x.requires_grad_() for name, x in inputs_of(attention, 9).items()}
    output = attention(**leaves)
    with torch.no_grad():
        leaves["k"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("duplicate", COPIES, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("called", [False, True], ids=["fresh", "called"])
def test_copies(duplicate: Callable[[Attention], Attention], called: bool) -> None:
    """A compiled attention can be copied and sent to another process, before and after its first call."""
    attention = compiled(*LINES, chunk=8)
    inputs = inputs_of(attention, 21)
    expected = outcome(compiled(*LINES, chunk=8), inputs)
    if called:
        attention(**inputs)
    again = duplicate(attention)
    found = outcome(again, inputs)
    assert all(x.equal(found[name]) for name, x in expected.tensors.items())
    assert again.spec == attention.spec
    assert repr(again) == repr(attention)


class Layer(torch.nn.Module):
    """Retention with a decay that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = maskdsl.compile("retention")
        self.project = torch.nn.Linear(6, 3 * 6, dtype=torch.float64)
        self.g = torch.nn.Parameter(-torch.ones(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 3)).unbind(2)
        return x + self.attention(q=q, k=k, v=v, g=self.g).flatten(-2)


def test_a_module_that_holds_one() -> None:
    """A layer can be trained, copied, saved and loaded."""
    torch.manual_seed(0)
    layer = Layer()
    x = torch.randn(2, 20, 6, dtype=torch.float64)
    layer(x).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())
    assert set(layer.state_dict()) == {"g", "project.weight", "project.bias"}
    assert copy.deepcopy(layer)(x).equal(layer(x))
    other = Layer()
    other.load_state_dict(layer.state_dict())
    assert other(x).equal(layer(x))


def test_gradient_checkpointing() -> None:
    """A layer that is run again in the backward pass gives the same gradients."""
    attention = compiled(*LINES, chunk=8)
    inputs = inputs_of(attention, 21)
    names = list(inputs)

    def checkpointed(**x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(
            lambda *values: attention(**dict(zip(names, values, strict=True))), *x.values(), use_reentrant=False
        )

    found, expected = outcome(checkpointed, inputs), outcome(attention, inputs)
    assert all(x.equal(found[name]) for name, x in expected.tensors.items())


def test_numerical_derivatives() -> None:
    """PyTorch's own check by differences, which shares nothing with the oracles."""
    attention = compiled(*LINES, chunk=2)
    inputs = {name: x.requires_grad_() for name, x in inputs_of(attention, 5, H=1, K=2, V=1).items()}
    names = list(inputs)
    assert torch.autograd.gradcheck(
        lambda *values: attention(**dict(zip(names, values, strict=True))), tuple(inputs.values())
    )
