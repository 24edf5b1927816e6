"""Where the stages of the checker leave the mistakes they find."""

from __future__ import annotations

from dataclasses import dataclass, field

from maskdsl.diagnostics import Diagnostic, Related
from maskdsl.language.syntax import Binary, Call, Expression, Name, Negative, Span
from maskdsl.mask.nodes import Mask, Scalar

Value = Scalar | Mask
"""What an expression stands for; a mistake leaves None in its place, and later stages stay silent about it."""


@dataclass
class Report:
    """The mistakes found so far."""

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def add(
        self,
        code: str,
        message: str,
        span: Span,
        label: str = "",
        hint: str = "",
        related: tuple[Related, ...] = (),
    ) -> None:
        """Note one mistake."""
        self.diagnostics.append(Diagnostic(code, message, span, label, hint, related))


def describe(value: Value) -> str:
    """What a value is, in the language's words."""
    if isinstance(value, Mask):
        return "a mask"
    return f"'{value.kind.label}'" if value.kind.value else "a constant"


def start(span: Span, text: str) -> Span:
    """The span of a word at the start of another span."""
    return Span(span.line, span.column, span.line, span.column + len(text))


def function_span(call: Call) -> Span:
    """The span of the function's name in a call."""
    return start(call.span, call.function)


def names_in(node: Expression) -> set[str]:
    """All names that an expression uses, those of functions aside."""
    return {child.name for child in walk(node) if isinstance(child, Name)}


def walk(node: Expression) -> list[Expression]:
    """An expression and all expressions in it, from left to right."""
    match node:
        case Negative(operand):
            children: tuple[Expression, ...] = (operand,)
        case Binary(_, left, right):
            children = (left, right)
        case Call(_, arguments, keywords):
            children = (*arguments, *(keyword.value for keyword in keywords))
        case _:
            children = ()
    return [node, *(found for child in children for found in walk(child))]
