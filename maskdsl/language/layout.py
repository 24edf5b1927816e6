"""Layout: line ends and indentation as tokens, as in Python, for blocks that are one level deep.

Wrong indentation comes out as a token of type `BAD_INDENT` (its value says what is wrong) before the line it concerns,
and the blocks are well nested whatever the text: the parser can report the mistake and go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lark import Token
from lark.indenter import PostLex


@dataclass(frozen=True)
class Line:
    """One logical line: what it is indented by and its tokens, the last one its `_NL`."""

    indent: str
    tokens: tuple[Token, ...]

    @property
    def is_header(self) -> bool:
        """Whether it starts a block, or was meant to."""
        first, *rest = [token.type for token in self.tokens]
        if first == "ATTENTION":
            return rest[0] not in ("EQUAL", "COMMA") and rest[:2] != ["COLON", "NAME"]
        return rest[-2:] == ["COLON", "_NL"]


class Layout(PostLex):
    """The stage between lexer and parser; it keeps no state, so that one grammar serves all threads."""

    always_accept = ("_NL", "UNKNOWN", "OPEN_TEXT")

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens with `_INDENT`, `_DEDENT` and `BAD_INDENT` among them, and one `_NL` a logical line."""
        margin: str | None = None  # the indentation of headers, that of the first line
        body: str | None = None  # the indentation of the block that is open, None where a header must come
        header: Line | None = None
        reported: set[str] = set()  # wrong indentations of this block: each is a mistake once
        for line in _logical_lines(list(stream)):
            margin = line.indent if margin is None else margin
            if line.is_header and (body is None or line.indent == margin or line.tokens[0].type == "ATTENTION"):
                if body is not None:
                    yield _mark("_DEDENT", "", line)
                yield from _misplaced(line, margin)
                body, header, reported = None, line, set()
            elif body is None and header is not None:
                body = line.indent
                yield _mark("_INDENT", "", line)
                if not (body.startswith(margin) and len(body) > len(margin)):
                    yield _mark("BAD_INDENT", "missing", line)
            elif body is not None and line.indent not in reported:
                yield from _misplaced(line, body)
                reported.add(line.indent)
            yield from line.tokens
        if body is not None:
            yield _mark("_DEDENT", "", line)


def _logical_lines(tokens: list[Token]) -> Iterator[Line]:
    inside = _inside_parentheses(tokens)
    indent, line = "", list[Token]()
    for position, token in enumerate(tokens):
        if token.type != "_NL":
            line.append(token)
        elif position not in inside:
            if line:
                yield Line(indent, (*line, token))
            last = token.rsplit("\n", 1)[1]
            indent, line = last[: len(last) - len(last.lstrip())], []
        if position == 0 and token.type != "_NL":
            indent = " " * ((token.column or 1) - 1)


def _inside_parentheses(tokens: list[Token]) -> set[int]:
    """Positions between matching parentheses; one that is never closed before the next statement encloses nothing."""
    inside: set[int] = set()
    opened: list[int] = []
    for position, token in enumerate(tokens):
        if _starts_statement(tokens, position):
            opened.clear()
        elif token.type == "LPAR":
            opened.append(position)
        elif token.type == "RPAR" and opened:
            inside.update(range(opened.pop(), position))
    return inside


def _starts_statement(tokens: list[Token], position: int) -> bool:
    """Whether the token there cannot stand in parentheses, or is the `_NL` before an assignment."""
    match [token.type for token in tokens[position : position + 3]]:
        case ["ATTENTION" | "RETURN" | "COLON", *_]:
            return True
        case ["_NL", "NAME", "EQUAL"]:  # a named argument follows a comma or the parenthesis
            return tokens[position - 1].type not in ("COMMA", "LPAR")
    return False


def _misplaced(line: Line, expected: str) -> Iterator[Token]:
    if line.indent == expected:
        return
    if line.indent.startswith(expected):
        yield _mark("BAD_INDENT", "deeper", line)
    elif expected.startswith(line.indent):
        yield _mark("BAD_INDENT", "shallower", line)
    else:
        yield _mark("BAD_INDENT", "tabs", line)


def _mark(type_: str, value: str, line: Line) -> Token:
    return Token.new_borrow_pos(type_, value, line.tokens[0])
