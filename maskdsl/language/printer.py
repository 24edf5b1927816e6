"""Syntax tree to text that parses back to an equal tree."""

from __future__ import annotations

from maskdsl.language.syntax import (
    Assignment,
    Attention,
    Binary,
    Call,
    Declaration,
    Declared,
    Expression,
    File,
    Keyword,
    Name,
    Negative,
    Node,
    Number,
    Range,
    Return,
    Text,
)

_INDENT = "    "

# How tightly an operator binds, and what its left and right operands must bind at least.
_PRECEDENCE = {
    "+": (1, 1, 2),
    "-": (1, 1, 2),
    "*": (2, 2, 3),
    "/": (2, 2, 3),
    "@": (3, 3, 4),
    "**": (5, 6, 4),
}
_UNARY, _ATOM = 4, 6


def to_text(node: Node) -> str:
    """The text of a node, with the fewest parentheses; that of a File or an Attention ends with a line end."""
    match node:
        case File(blocks):
            return "\n\n".join(to_text(block) for block in blocks)
        case Attention(name, doc, body):
            lines = [*([_docstring(doc)] if doc else []), *(to_text(statement) for statement in body)]
            return f"attention {name}:\n" + "".join(f"{_INDENT}{line}\n" for line in lines)
        case Declaration(names, kind, given):
            return f"{', '.join(declared.name for declared in names)} : {kind} {to_text(given)}".rstrip()
        case Declared(name):
            return name
        case Range(low, high):
            return _range(low, high)
        case Assignment(name, value):
            return f"{name} = {to_text(value)}"
        case Return(value):
            return f"return {to_text(value)}"
        case Keyword(name, value):
            return f"{name}={to_text(value)}"
        case Expression():
            return _expression(node)[0]
    raise TypeError(f"'{type(node).__name__}' is not a node of the syntax tree.")


def _expression(node: Expression) -> tuple[str, int]:
    """The text and how tightly it binds."""
    match node:
        case Number(value):
            return repr(value), _ATOM
        case Name(name):
            return name, _ATOM
        case Text(value):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"', _ATOM
        case Call(function, arguments, keywords):
            return f"{function}({', '.join(map(to_text, (*arguments, *keywords)))})", _ATOM
        case Negative(operand):
            return "-" + _operand(operand, _UNARY), _UNARY
        case Binary(operator, left, right):
            binds, left_binds, right_binds = _PRECEDENCE[operator]
            return f"{_operand(left, left_binds)} {operator} {_operand(right, right_binds)}", binds
    raise TypeError(f"'{type(node).__name__}' is not an expression.")


def _operand(node: Expression, least: int) -> str:
    text, binds = _expression(node)
    return text if binds >= least else f"({text})"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"in [{_bound(low)}, {_bound(high)}]"
    if low is not None:
        return f">= {_bound(low)}"
    return f"<= {_bound(high)}" if high is not None else ""


def _bound(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e16 else repr(float(value))


def _docstring(doc: str) -> str:
    quotes = '"""'
    text = doc.replace("\\", "\\\\").replace(quotes, '\\"\\"\\"')
    if "\n" not in text and not text.endswith('"'):
        return quotes + text + quotes
    lines = [_INDENT + line if line else "" for line in text.split("\n")]
    return "\n".join([quotes, *lines, _INDENT + quotes])
