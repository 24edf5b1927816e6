"""Scalar expressions of a spec, evaluated on tensors straight from its syntax tree.

Every value is a tensor [B, T, H, F] with axes of size 1 where it does not vary, F the feature axis; a constant is a
float64 tensor without axes, which never raises the precision of what it meets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maskdsl.language.syntax import (
    Assignment,
    Binary,
    Call,
    Declaration,
    Expression,
    Name,
    Negative,
    Node,
    Number,
    Return,
    Text,
)
from maskdsl.spec import Spec

AXES = {
    "key": ("B", "T", "Hk", "K"),
    "value": ("B", "T", "H", "V"),
    "token": ("B", "T", "H"),
    "channel": ("B", "T", "H", "K"),
    "level": ("B", "T", "H", "L"),
    "head": ("H",),
    "head_channel": ("H", "K"),
}
ATTEND = ("q", "k", "v", "mask", "scale")


@dataclass(frozen=True)
class Value:
    """A tensor [B, T, H, F], or a constant without axes, and what its last axis counts (K, V, L or nothing)."""

    tensor: Tensor
    feature: str | None = None


def arguments(call: Call, names: tuple[str, ...]) -> dict[str, Expression]:
    """What a call gives for each of `names`, by position or by keyword."""
    return dict(zip(names, call.arguments, strict=False)) | {word.name: word.value for word in call.keywords}


def children(node: Node) -> Iterator[Node]:
    """The nodes of the syntax tree right below a node."""
    for each in fields(node):
        below = getattr(node, each.name)
        yield from (child for child in (below if isinstance(below, tuple) else (below,)) if isinstance(child, Node))


def walk(node: Node) -> Iterator[Node]:
    """A node of the syntax tree and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


class Evaluator:
    """The expressions of one spec over one set of inputs; `attend` supplies the meaning of masks."""

    def __init__(self, spec: Spec, inputs: Mapping[str, Tensor], attend: Callable[[Evaluator, Call], Value]) -> None:
        self._attend = attend
        self._values: dict[str, Value] = {}
        self._assigned = {line.name: line.value for line in spec.syntax.body if isinstance(line, Assignment)}
        self._returned = next(line.value for line in spec.syntax.body if isinstance(line, Return))
        self.dtype = reduce(torch.promote_types, (x.dtype for x in inputs.values()), torch.float32)
        self.device = next(iter(inputs.values())).device
        self.sizes = _sizes(spec, inputs)
        for name, kind in _kinds(spec).items():
            self._values[name] = self._input(inputs[name].to(self.dtype), kind)

    @property
    def shape(self) -> tuple[int, int, int]:
        """[B, T, H]."""
        return self.sizes["B"], self.sizes["T"], self.sizes["H"]

    def output(self) -> Tensor:
        """What the spec returns, [B, T, H, V]."""
        tensor = self.value(self._returned).tensor.to(self.dtype)
        return tensor.expand(*self.shape, self.sizes["V"])

    def value(self, expression: Expression) -> Value:
        """The value of an expression that is no mask."""
        match expression:
            case Number(number):
                return _constant(number)
            case Name(name):
                return self._named(name)
            case Negative(operand):
                value = self.value(operand)
                return Value(-value.tensor, value.feature)
            case Binary(operator, left, right):
                return _combine(_OPERATORS[operator], self.value(left), self.value(right))
            case Call("attend"):
                return self._attend(self, expression)
            case Call("l2norm"):
                return self._l2norm(expression)
            case Call(function, operands):
                return _combine(_FUNCTIONS[function], *map(self.value, operands))
        raise TypeError(f"An oracle cannot evaluate {expression!r}.")

    def full(self, expression: Expression) -> Tensor:
        """The value with every axis written out: [B, T, H] without features, [B, T, H, F] with them."""
        value = self.value(expression)
        tensor = value.tensor.to(self.dtype)
        if value.feature is None:
            return (tensor[..., 0] if tensor.ndim else tensor).expand(self.shape)
        return tensor.expand(*self.shape, tensor.shape[-1])

    def resolve(self, expression: Expression) -> Expression:
        """The expression that a name was assigned, through names of names."""
        while isinstance(expression, Name) and expression.name in self._assigned:
            expression = self._assigned[expression.name]
        return expression

    def integer(self, expression: Expression) -> int:
        """A constant that counts something."""
        return round(self.value(expression).tensor.item())

    def word(self, expression: Expression) -> str:
        """A quoted word."""
        expression = self.resolve(expression)
        assert isinstance(expression, Text)
        return expression.value

    def _named(self, name: str) -> Value:
        if name not in self._values:
            assigned = self._assigned.get(name)
            self._values[name] = _constant(self.sizes[name]) if assigned is None else self.value(assigned)
        return self._values[name]

    def _input(self, tensor: Tensor, kind: str) -> Value:
        axes = AXES[kind]
        feature = axes[-1] if axes[-1] in ("K", "V", "L") else None
        if "Hk" in axes:
            tensor = tensor.repeat_interleave(self.sizes["H"] // tensor.shape[2], dim=2)
        if feature is None:
            tensor = tensor.unsqueeze(-1)
        return Value(tensor if "B" in axes else tensor[None, None], feature)

    def _l2norm(self, call: Call) -> Value:
        given = arguments(call, ("x", "eps"))
        x = self.value(given["x"])
        eps = self.value(given["eps"]).tensor if "eps" in given else 1e-6
        return Value(x.tensor / (x.tensor.square().sum(-1, keepdim=True) + eps).sqrt(), x.feature)


def _kinds(spec: Spec) -> dict[str, str]:
    declarations = [line for line in spec.syntax.body if isinstance(line, Declaration)]
    return {each.name: line.kind for line in declarations for each in line.names}


def _sizes(spec: Spec, inputs: Mapping[str, Tensor]) -> dict[str, int]:
    """The size of every dimension; Hk only where all key inputs have the same number of heads."""
    sizes: dict[str, set[int]] = {}
    for name, kind in _kinds(spec).items():
        for axis, size in zip(AXES[kind], inputs[name].shape, strict=True):
            sizes.setdefault(axis, set()).add(size)
    return {axis: next(iter(found)) for axis, found in sizes.items() if len(found) == 1}


def _constant(number: float) -> Value:
    return Value(torch.tensor(number, dtype=torch.float64))


def _combine(function: Callable[..., Tensor], *values: Value) -> Value:
    features = {value.feature for value in values} - {None}
    assert len(features) <= 1, "one expression cannot have two feature axes"
    return Value(function(*(value.tensor for value in values)), next(iter(features), None))


def _sigmoid(x: Tensor) -> Tensor:
    # autograd's own derivative s (1 - s) has no digits left where s is nearly 1
    return functional.logsigmoid(x).exp()


class _Tanh(torch.autograd.Function):
    # likewise for 1 - tanh(x)**2
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * 4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); beyond 50 the rest is below the precision of float64."""
    return functional.softplus(x, threshold=50)


def _minimum(*operands: Tensor) -> Tensor:
    return reduce(torch.minimum, operands)


def _maximum(*operands: Tensor) -> Tensor:
    return reduce(torch.maximum, operands)


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "**": torch.pow,
}
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sigmoid": _sigmoid,
    "logsigmoid": functional.logsigmoid,
    "softplus": _softplus,
    "silu": functional.silu,
    "tanh": _Tanh.apply,
    "relu": torch.relu,
    "abs": torch.abs,
    "square": torch.square,
    "min": _minimum,
    "max": _maximum,
    "clamp": lambda x, low, high: torch.minimum(torch.maximum(x, low), high),
}
