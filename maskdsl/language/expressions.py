"""Expressions: from syntax to scalars and masks, with every name resolved and every kind checked."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

from maskdsl.diagnostics import Related, did_you_mean
from maskdsl.language import scalars
from maskdsl.language.arguments import Arguments, as_mask
from maskdsl.language.definitions import Definitions
from maskdsl.language.kinds import SCALARS
from maskdsl.language.operators import join
from maskdsl.language.printer import to_text
from maskdsl.language.report import Report, Value, function_span
from maskdsl.language.scope import Scope
from maskdsl.language.signatures import CALLABLE, MASK_NAMES, SIGNATURES
from maskdsl.language.syntax import Binary, Call, Expression, Name, Negative, Number, Text
from maskdsl.mask.nodes import Delta, Fenwick, Kind, Mask, Rank1, Scalar, Semiseparable, Window
from maskdsl.scalar.build import DIMENSIONS, FUNCTIONS
from maskdsl.scalar.ranges import bounds, proves_nonpositive
from maskdsl.spec import Attend, L2Norm


class Evaluator:
    """Evaluates the expressions of one block in order; a mistake is noted and gives None."""

    def __init__(self, scope: Scope, definitions: Definitions, inputs: Container[str], report: Report) -> None:
        self._scope = scope
        self._definitions = definitions
        self._inputs = inputs
        self._report = report
        self._arguments = Arguments(self.value, inputs, report)

    def value(self, node: Expression, name: str | None = None) -> Value | None:
        """What an expression stands for; `name` is the name it is assigned to."""
        match node:
            case Number(value):
                return scalars.constant(value)
            case Name():
                return self._scope.lookup(node)
            case Text():
                hint = "Quoted words are arguments, as in 'admissibility=\"strong\"'."
                self._report.add("text", "A quoted word has no value.", node.span, "expected an expression", hint)
            case Negative(operand):
                return self._negative(node, self.value(operand))
            case Binary(_, left, right):
                return self._binary(node, self.value(left), self.value(right))
            case Call(function) if function in SIGNATURES:
                arguments = self._arguments.read(node)
                return None if arguments is None else self._construct(node, arguments, name)
            case Call(function) if function in FUNCTIONS:
                return scalars.function(node, [self.value(argument) for argument in _given(node)], self._report)
            case Call():
                self._unknown_function(node)
        return None

    def _negative(self, node: Negative, operand: Value | None) -> Value | None:
        if isinstance(operand, Mask):
            hint = "Negate the result of 'attend' instead."
            self._report.add("mask-operator", "A mask cannot be negated.", node.span, "minus a mask", hint)
            return None
        return operand and Scalar(-operand.expr, operand.kind)

    def _binary(self, node: Binary, left: Value | None, right: Value | None) -> Value | None:
        match left, right:
            case Mask(), Mask():
                return join(node, left, right, self._report)
            case Scalar(), Scalar():
                return scalars.binary(node, left, right, self._report)
            case Mask(), Scalar():
                self._mixed(node, node.right, right)
            case Scalar(), Mask():
                self._mixed(node, node.left, left)
        return None

    def _mixed(self, node: Binary, operand: Expression, value: Scalar) -> None:
        """A scalar where the operator's other side is a mask."""
        hint = as_mask(operand, value.kind)
        if node.operator == "*" and value.kind in SCALARS:
            hint = f"Scale the result: 'scale={to_text(operand)}' in 'attend'."
        elif node.operator in ("-", "/", "**"):
            hint = f"Apply '{node.operator}' to the result of 'attend' instead."
        message = f"'{node.operator}' cannot join a mask and an expression."
        self._report.add("kind-mismatch", message, operand.span, "expected a mask", hint)

    def _construct(self, call: Call, given: Mapping[str, Any], name: str | None) -> Value | None:
        """The value of a call whose arguments fit its signature."""
        match call.function:
            case "l2norm":
                return self._definitions.refer(L2Norm(**given), given["x"].kind, call.function, name)
            case "attend":
                return self._definitions.refer(Attend(**given), Kind.VALUE, call.function, name)
            case "semiseparable":
                return Semiseparable(**given) if self._decays(call, given["g"]) else None
            case "delta":
                return Delta(**given)
            case "rank1":
                return Rank1(**given)
            case "fenwick":
                return Fenwick(**given) if self._has_levels(call, given) else None
            case "window":
                return Window(given["w"])
        raise AssertionError(call.function)

    def _decays(self, call: Call, g: Scalar) -> bool:
        """Whether g <= 0 is proved."""
        if proves_nonpositive(g.expr):
            return True
        [node] = _given(call)
        known = bounds(g.expr)
        label = f"only known to lie in [{known.low:g}, {known.high:g}]"
        if math.isinf(known.low) and math.isinf(known.high):
            label = "can be any number"
        related: tuple[Related, ...] = ()
        hint = f"Write '{to_text(Negative(Call('softplus', (node,))))}', or state ranges of inputs such as '<= 0'."
        if known.low >= 0:
            hint = f"Write '{to_text(Negative(node))}'."
        elif isinstance(node, Name) and node.name in self._inputs:
            hint = f"Declare '{node.name} : {g.kind.label} <= 0', or write '-softplus({node.name})'."
        if isinstance(node, Name) and node.name in self._scope.all:
            related = (Related(self._scope.all[node.name], "defined here"),)
        message = "The decay is not proved to be <= 0."
        self._report.add("decay", message, node.span, label, hint, related)
        return False

    def _has_levels(self, call: Call, given: Mapping[str, Any]) -> bool:
        """Whether levels are defined for the base: the strong ones are for base 2."""
        if given["admissibility"] == "weak" or given["base"] == 2:
            return True
        node = next((keyword.value for keyword in call.keywords if keyword.name == "base"), None) or call.arguments[1]
        message = "Strong admissibility is defined for base 2 only."
        hint = "Use 'base=2', or weak admissibility."
        self._report.add("strong-base", message, node.span, "expected 2", hint)
        return False

    def _unknown_function(self, call: Call) -> None:
        for argument in _given(call):
            self.value(argument)
        if not self._scope.is_broken(call.function):
            span = function_span(call)
            if call.function in MASK_NAMES or call.function in DIMENSIONS or call.function in self._scope.all:
                message, hint = f"'{call.function}' is not a function.", f"Write '{call.function}' without parentheses."
                self._report.add("not-a-function", message, span, "takes no arguments", hint)
            else:
                hint = did_you_mean(call.function, CALLABLE) or f"The functions are {', '.join(CALLABLE)}."
                message = f"Unknown function '{call.function}'."
                self._report.add("unknown-function", message, span, "not a function of the language", hint)


def _given(call: Call) -> list[Expression]:
    return [*call.arguments, *(keyword.value for keyword in call.keywords)]
