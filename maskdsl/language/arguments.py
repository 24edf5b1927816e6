"""Calls of the functions with signatures: which argument goes where, and whether it is what the parameter takes."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import sympy

from maskdsl.diagnostics import Related, did_you_mean
from maskdsl.language.kinds import listed
from maskdsl.language.printer import to_text
from maskdsl.language.report import Report, Value, describe, function_span, start
from maskdsl.language.signatures import SIGNATURES, Parameter, Takes, usage
from maskdsl.language.syntax import Binary, Call, Expression, Name, Negative, Text
from maskdsl.mask.nodes import Kind, Mask, Scalar

Argument = Value | int | float | str


@dataclass(frozen=True)
class Arguments:
    """Reads the arguments of calls; `inputs` are the names that were declared with a kind."""

    evaluate: Callable[[Expression], Value | None]
    inputs: Container[str]
    report: Report

    def read(self, call: Call) -> Mapping[str, Argument] | None:
        """The value of every parameter of a call; None, with all mistakes noted, where one has none."""
        given, complete = self._assign(call)
        values: dict[str, Argument] = {}
        for parameter in SIGNATURES[call.function]:
            node = given.get(parameter.name, parameter.default)
            value = None if node is None else self._value(call, parameter, node, given)
            if value is None:
                complete = False
            else:
                values[parameter.name] = value
        return values if complete else None

    def _assign(self, call: Call) -> tuple[dict[str, Expression], bool]:
        """The expression that the call gives for each parameter, and whether the call fits the signature."""
        parameters = SIGNATURES[call.function]
        names = [parameter.name for parameter in parameters]
        given = dict(zip(names, call.arguments, strict=False))
        extra = call.arguments[len(names) :]
        if extra:
            self._wrong_count(call, "There are too many arguments.", extra[0])
        misnamed = False
        for keyword in call.keywords:
            if keyword.name in names and keyword.name not in given:
                given[keyword.name] = keyword.value
                continue
            misnamed = True
            span = start(keyword.span, keyword.name)
            if keyword.name in names:
                related = (Related(given[keyword.name].span, "given here"),)
                message = f"'{keyword.name}' is given twice."
                self.report.add("argument-twice", message, span, "given already", "Remove one of the two.", related)
            else:
                hint = did_you_mean(keyword.name, names) or f"The arguments are '{usage(call.function)}'."
                message = f"'{call.function}' has no argument '{keyword.name}'."
                self.report.add("argument-name", message, span, "unknown argument", hint)
            self.evaluate(keyword.value)
        for node in extra:
            self.evaluate(node)
        missing = [p.name for p in parameters if p.default is None and p.name not in given]
        if missing and not misnamed:
            quoted = " and ".join(f"'{name}'" for name in missing)
            self._wrong_count(call, f"'{call.function}' lacks {quoted}.", None)
        return given, not (missing or misnamed or extra)

    def _wrong_count(self, call: Call, message: str, node: Expression | None) -> None:
        span = node.span if node else function_span(call)
        label = "expected more arguments" if node is None else "one too many"
        hint = f"Write '{usage(call.function)}'."
        self.report.add("argument-count", message, span, label, hint)

    def _value(
        self, call: Call, parameter: Parameter, node: Expression, given: Mapping[str, Expression]
    ) -> Argument | None:
        if parameter.takes is Takes.WORD:
            return self._word(parameter, node)
        value = self.evaluate(node)
        if value is None:
            return None
        match parameter.takes, value:
            case Takes.MASK, Mask():
                return value
            case Takes.EXPRESSION, Scalar(_, kind) if kind in parameter.kinds:
                return value
            case ((Takes.WHOLE | Takes.NUMBER), Scalar(expr, _)):
                return self._number(call, parameter, node, expr)
        self._mismatch(call, parameter, node, value, given)
        return None

    def _word(self, parameter: Parameter, node: Expression) -> str | None:
        words = " or ".join(f'"{word}"' for word in parameter.words)
        if not isinstance(node, Text):
            self.report.add("not-a-word", f"'{parameter.name}' takes {words}.", node.span, "expected a quoted word")
        elif node.value not in parameter.words:
            message = f"'{parameter.name}' takes {words}, not \"{node.value}\"."
            hint = did_you_mean(node.value, parameter.words)
            self.report.add("unknown-word", message, node.span, f"expected {words}", hint)
        else:
            return node.value
        return None

    def _number(self, call: Call, parameter: Parameter, node: Expression, expr: sympy.Expr) -> int | float | None:
        whole = parameter.takes is Takes.WHOLE
        if (expr.is_Integer if whole else expr.is_number) and expr >= parameter.least:
            return int(expr) if whole else float(expr)
        expected = f"a whole number >= {parameter.least}" if whole else f"a number >= {parameter.least}"
        message = f"'{call.function}' takes {expected} as its argument '{parameter.name}'."
        label, hint = f"this is {expr}", f"Write {expected}."
        if not expr.is_number:
            label, hint = "not known before the call", "Write the number itself."
        elif not expr.is_Integer:
            label = f"this is {float(expr):g}"
        self.report.add("number", message, node.span, label, hint)
        return None

    def _mismatch(
        self, call: Call, parameter: Parameter, node: Expression, value: Value, given: Mapping[str, Expression]
    ) -> None:
        expected = {Takes.MASK: "a mask", Takes.EXPRESSION: listed(parameter.kinds)}.get(parameter.takes, "a number")
        message = f"'{call.function}' takes {expected} as its argument '{parameter.name}'."
        hint = self._advice(call, parameter, node, value, given)
        self.report.add("kind-mismatch", message, node.span, f"this is {describe(value)}", hint)

    def _advice(
        self, call: Call, parameter: Parameter, node: Expression, value: Value, given: Mapping[str, Expression]
    ) -> str:
        if isinstance(value, Mask):
            return f"Write '{usage(call.function)}'."
        if parameter.takes is Takes.MASK:
            return as_mask(node, value.kind)
        if (call.function, parameter.name) == ("delta", "beta") and value.kind.feature == "K" and "k" in given:
            scaled = Binary("*", Negative(node), given["k"])
            return f"Write '{to_text(Call('rank1', (scaled, given['k'])))}' for a rate in every channel."
        if isinstance(node, Name) and node.name in self.inputs:
            if value.kind is Kind.KEY and Kind.CHANNEL in parameter.kinds:
                return f"Declare '{node.name}' as 'channel'."
            return f"Declare '{node.name}' as {listed(kind for kind in parameter.kinds if kind.value)}."
        return f"Build it from inputs of the kind {listed(kind for kind in parameter.kinds if kind.value)}."


def as_mask(node: Expression, kind: Kind) -> str:
    """A hint how to make a mask of an expression."""
    if kind is Kind.LEVEL:
        return f"Write '{to_text(Call('fenwick', (node,)))}'."
    if kind in (Kind.TOKEN, Kind.HEAD, Kind.CHANNEL, Kind.HEAD_CHANNEL):
        return f"Write '{to_text(Call('semiseparable', (node,)))}' for a decay."
    return "Write 'causal' for the mask of ones."
