"""Lark's tree to ours, with the mistakes that the grammar lets through because a reader can say more about them."""

from __future__ import annotations

import inspect
import keyword
import math
import re
from typing import TypeAlias

from lark import Token, Tree

from maskdsl.diagnostics import Diagnostic, Related, did_you_mean
from maskdsl.language.syntax import (
    NOWHERE,
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
    Number,
    Range,
    Return,
    Span,
    Statement,
    Text,
)
from maskdsl.mask.nodes import Kind

Branch: TypeAlias = Token | Tree[Token]

KINDS = {kind.label: kind for kind in Kind if kind is not Kind.CONST}
"""The kinds that an input can be declared with."""


def span_of(token: Token) -> Span:
    """The place of a token."""
    return Span(token.line or 0, token.column or 0, token.end_line or 0, token.end_column or 0)


class TreeReader:
    """Reads one tree; `words` are the names whose declaration is at fault."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.words: set[str] = set()

    def file(self, tree: Tree[Token]) -> File:
        """The whole text."""
        seen: dict[str, Span] = {}
        blocks = tuple(self._block(child, seen) for child in tree.children if isinstance(child, Tree))
        return File(blocks, span=_join(blocks[0].span, blocks[-1].span) if blocks else NOWHERE)

    def _block(self, tree: Tree[Token], seen: dict[str, Span]) -> Attention:
        match tree.children:
            case [Token() as header, Tree(data="docstring", children=[Token() as text]), *rest]:
                doc, end = clean_doc(_unquote(text)), span_of(text)
            case [Token() as header, *rest]:
                doc, end = "", span_of(header)
            case _:
                raise AssertionError(tree.data)
        name, place = self._new_name(header), span_of(header)
        if name in seen and name != "_":
            first = Related(seen[name], "the first one is here")
            self._mistake("duplicate-block", f"There are two blocks of the name '{name}'.", place, related=(first,))
        seen.setdefault(name, place)
        read = [self._statement(child) for child in rest if isinstance(child, Tree)]
        body = tuple(statement for statement in read if statement is not None)
        return Attention(name, doc, body, span=_join(_span(tree), body[-1].span if body else end))

    def _statement(self, tree: Tree[Token]) -> Statement | None:
        match tree.data, tree.children:
            case "declaration", _:
                return self._declaration(tree)
            case "assignment", [Token() as name, value]:
                return Assignment(self._new_name(name), self._expression(value), span=_span(tree))
            case "return", [value]:
                return Return(self._expression(value), span=_span(tree))
        raise AssertionError(tree.data)

    def _declaration(self, tree: Tree[Token]) -> Declaration | None:
        tokens = [child.children[0] for child in tree.children if isinstance(child, Tree) and child.data == "declared"]
        names = tuple(
            Declared(self._new_name(token), span=span_of(token)) for token in tokens if isinstance(token, Token)
        )
        [kind] = [child for child in tree.children if isinstance(child, Token)]
        last = tree.children[-1]
        given = self._range(last) if isinstance(last, Tree) else Range()
        if kind not in KINDS:
            kinds = "The kinds are " + ", ".join(f"'{name}'" for name in KINDS) + "."
            hint = did_you_mean(kind, KINDS) or kinds
            self._mistake("unknown-kind", f"Unknown kind '{kind}'.", span_of(kind), "not a kind of input", hint)
            self.words |= {name.name for name in names}
            return None
        return Declaration(names, str(kind), given, span=_span(tree))

    def _range(self, tree: Tree[Token]) -> Range:
        ends = [self._bound(child) for child in tree.children if isinstance(child, Tree)]
        match tree.data, ends:
            case "at_least", [low]:
                return Range(low, None, span=_span(tree))
            case "at_most", [high]:
                return Range(None, high, span=_span(tree))
            case "between", [low, high] if low > high:
                hint = f"Write 'in [{high:g}, {low:g}]'."
                self._mistake("empty-range", "The range is empty.", _span(tree), "no number lies in it", hint)
                return Range(span=_span(tree))
            case "between", [low, high]:
                return Range(low, high, span=_span(tree))
        raise AssertionError(tree.data)

    def _bound(self, tree: Tree[Token]) -> float:
        match tree.children:
            case [Token(type="MINUS"), Token() as digits]:
                return -float(self._number(digits))
            case [Token() as digits]:
                return float(self._number(digits))
        raise AssertionError(tree.data)

    def _new_name(self, token: Token) -> str:
        if keyword.iskeyword(token):
            label = "reserved, as in Python"
            hint = f"Choose another name, for example '{token}_'."
            self._mistake("reserved-name", f"'{token}' cannot be a name.", span_of(token), label, hint)
            self.words.add(str(token))
        return str(token)

    def _expression(self, node: Branch) -> Expression:
        assert isinstance(node, Tree)
        span = _span(node)
        match node.data, node.children:
            case "number", [Token() as digits]:
                return Number(self._number(digits), span=span)
            case "name", [Token() as name]:
                return Name(str(name), span=span)
            case "text", [Token() as text]:
                return Text(_unquote(text), span=span)
            case "negative", [operand]:
                return Negative(self._expression(operand), span=span)
            case "binary", [left, Token() as operator, right]:
                return Binary(str(operator), self._expression(left), self._expression(right), span=span)
            case "call", [Token() as function, *arguments]:
                return self._call(node, function, arguments)
        raise AssertionError(node.data)

    def _call(self, tree: Tree[Token], function: Token, given: list[Branch]) -> Expression:
        arguments: list[Expression] = []
        keywords: list[Keyword] = []
        for argument in given:
            match argument:
                case Tree(data="keyword", children=[Token() as name, value]):
                    keywords.append(Keyword(str(name), self._expression(value), span=_span(argument)))
                case Tree() if keywords:
                    message = "An argument without a name stands after one with a name."
                    hint = "Put the arguments without a name first."
                    self._mistake("argument-order", message, _span(argument), "not named", hint)
                    # Which argument is which is unknown, so nothing is known about the call and what it uses.
                    self.words |= {str(token) for token in tree.scan_values(lambda leaf: isinstance(leaf, Token))}
                    return Name(str(function), span=_span(tree))
                case _:
                    arguments.append(self._expression(argument))
        return Call(str(function), tuple(arguments), tuple(keywords), span=_span(tree))

    def _number(self, digits: Token) -> int | float:
        if math.isinf(float(digits)):
            self._mistake("large-number", "The number is too large.", span_of(digits), "larger than a float64 can be")
            return 0
        return int(digits) if re.fullmatch(r"[\d_]+", digits) else float(digits)

    def _mistake(
        self, code: str, message: str, span: Span, label: str = "", hint: str = "", related: tuple[Related, ...] = ()
    ) -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, hint, related))


def clean_doc(text: str) -> str:
    """A docstring without its common indentation, blank ends and spaces at the ends of lines."""
    return inspect.cleandoc("\n".join(line.rstrip() for line in text.splitlines()))


def _unquote(token: Token) -> str:
    """The text between the quotes; a backslash before a quote or a backslash is dropped, any other one is kept."""
    quotes = 3 if token.type == "LONG_TEXT" else 1
    return re.sub(r"\\([\\\"'])", r"\1", token[quotes:-quotes])


def _span(tree: Tree[Token]) -> Span:
    return Span(tree.meta.line, tree.meta.column, tree.meta.end_line, tree.meta.end_column)


def _join(first: Span, last: Span) -> Span:
    return Span(first.line, first.column, last.end_line, last.end_column)
