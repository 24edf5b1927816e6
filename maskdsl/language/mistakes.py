"""Syntax errors in the user's terms: what stands where, what was expected, and the usual way to mend it."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lark import Token

from maskdsl.diagnostics import Diagnostic, Source, closest
from maskdsl.language.syntax import Span
from maskdsl.language.tree import KINDS, span_of

_EXAMPLE = "A spec begins with 'attention name:' and holds inputs, assignments and a return, all indented."

_STATEMENTS = "Write 'name : kind', 'name = expression' or 'return expression'."

_KINDS = ", ".join(KINDS)

_MEANT = {
    "^": "**",
    "\N{MULTIPLICATION SIGN}": "*",
    "\N{MIDDLE DOT}": "*",
    "\N{DIVISION SIGN}": "/",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
}
"""What to write for a character that the language does not have."""

_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "AT", "POWER"}
_OPERAND = {"NAME", "NUMBER", "LPAR"}


@dataclass(frozen=True)
class Failure:
    """A line of tokens, the position of the one that does not fit, and the token types that would."""

    line: Sequence[Token]
    position: int
    accepts: frozenset[str]

    @property
    def token(self) -> Token:
        """The token that does not fit."""
        return self.line[self.position]

    @property
    def before(self) -> Token | None:
        """The token in front of it."""
        return self.line[self.position - 1] if self.position else None

    @property
    def after(self) -> Token | None:
        """The token behind it, None at the end of the line."""
        return self.line[self.position + 1] if self.position + 2 < len(self.line) else None

    @property
    def place(self) -> Span:
        """The token's place; the end of a line is the column behind its last token."""
        if self.token.type == "_NL" and self.before is not None:
            end = span_of(self.before)
            return Span(end.end_line, end.end_column, end.end_line, end.end_column + 1)
        return span_of(self.token)

    def found(self, code: str, message: str, label: str = "", hint: str = "", span: Span | None = None) -> Diagnostic:
        """A diagnostic at the token, or at another span."""
        return Diagnostic(code, message, span or self.place, label, hint)


def explain(line: Sequence[Token], position: int, accepts: set[str]) -> Diagnostic:
    """What is wrong with a line whose token at `position` the grammar rejects."""
    failure = Failure(line, position, frozenset(accepts))
    for rule in _RULES:
        diagnostic = rule(failure)
        if diagnostic is not None:
            return diagnostic
    raise AssertionError(failure)


def no_block(source: Source) -> Diagnostic:
    """A text without any block."""
    return Diagnostic("no-block", "There is no attention block here.", Span(1, 1, 1, 1), "", _EXAMPLE)


def empty_block(line: Sequence[Token]) -> Diagnostic:
    """A header with nothing below it."""
    last = span_of(line[-2])
    place = Span(last.end_line, last.end_column, last.end_line, last.end_column + 1)
    return Diagnostic("empty-block", f"The block '{line[1]}' is empty.", place, "expected an indented block", _EXAMPLE)


def bad_indent(mark: Token) -> Diagnostic:
    """A line whose indentation does not fit, as the layout stage marked it."""
    place = Span(mark.line or 1, 1, mark.line or 1, max(mark.column or 1, 2))
    hint = "Indent all lines of a block alike."
    match str(mark):
        case "missing":
            message, label = "The line is not indented.", "expected an indented block"
            hint = "Indent the lines below the header, for example by four spaces."
        case "deeper":
            message, label = "The line is indented more than the lines before it.", "unexpected indentation"
        case "shallower":
            message, label = "The line is indented less than the lines before it.", "unexpected indentation"
        case _:
            message, label = "The indentation mixes tabs and spaces.", "differs from the lines before it"
            hint = "Indent with spaces only."
    return Diagnostic("indentation", message, place, label, hint)


def _open_docstring(at: Failure) -> Diagnostic | None:
    if at.token.type != "OPEN_TEXT":
        return None
    place = Span(at.place.line, at.place.column, at.place.line, at.place.column + 3)
    quotes = str(at.token)[:3]
    return at.found("open-text", "The docstring is never closed.", f"no closing {quotes}", f"Close it with {quotes}.",
                    place)  # fmt: skip


def _unknown_character(at: Failure) -> Diagnostic | None:
    if at.token.type != "UNKNOWN":
        return None
    character = str(at.token)
    if character in "\"'":
        label = f"no closing {character} on this line"
        return at.found("open-text", "The quoted text is never closed.", label, "Close it with the same quotes.")
    if character in "<>" and any(token.type == "COLON" for token in at.line[: at.position]):
        hint = f"Write '{character}='. A range includes its ends."
        return at.found("syntax", f"'{character}' is not part of the language.", "not an operator", hint)
    if character in _MEANT:
        meant = _MEANT[character]
        hint = f"Write '{meant}' for a power." if meant == "**" else f"Write '{meant}'."
        return at.found("syntax", f"'{character}' is not part of the language.", "not an operator", hint)
    if character.isalpha():
        label = "names consist of ASCII letters, digits and '_'"
        return at.found("syntax", f"'{character}' cannot be part of a name.", label)
    hint = "Put every statement on a line of its own." if character == ";" else ""
    return at.found("syntax", f"'{character}' is not part of the language.", "unexpected", hint)


def _outside_block(at: Failure) -> Diagnostic | None:
    if at.position or "ATTENTION" not in at.accepts:
        return None
    if at.token.type == "NAME" and closest(at.token, ["attention"]):
        return at.found("syntax", f"Unknown word '{at.token}'.", "expected 'attention'", "Did you mean 'attention'?")
    return at.found("syntax", "The line belongs to no attention block.", "expected 'attention'", _EXAMPLE)


def _header(at: Failure) -> Diagnostic | None:
    if at.line[0].type != "ATTENTION":
        return None
    if at.position == 0:
        return at.found("syntax", "'attention' cannot be used here.", "a reserved word", "Choose another name.")
    if at.position == 1:
        return at.found("syntax", "The block has no name.", "expected a name", "Write 'attention name:'.")
    name = at.line[1]
    if at.token.type == "LPAR":
        hint = f"Write 'attention {name}:' and declare the inputs below it, as in 'q, k : key'."
        return at.found("syntax", "A block has no parameter list.", "expected ':'", hint)
    if at.position == 2:
        return at.found("syntax", "The header lacks its colon.", "expected ':'", f"Write 'attention {name}:'.")
    return at.found("syntax", "The header goes on behind its colon.", "expected the end of the line",
                    "Start the block on the next line.")  # fmt: skip


def _unbalanced(at: Failure) -> Diagnostic | None:
    opened: list[Token] = []
    for token in at.line[: at.position]:
        if token.type == "LPAR":
            opened.append(token)
        elif token.type == "RPAR" and opened:
            opened.pop()
    if at.token.type == "_NL" and opened:
        return at.found("parenthesis", "'(' is never closed.", "expected ')' before the end of the line",
                        "Add a ')'.", span_of(opened[-1]))  # fmt: skip
    if at.token.type == "RPAR" and not opened:
        return at.found("parenthesis", "')' has no matching '('.", "nothing to close", "Remove the ')' or add a '('.")
    return None


def _reserved(at: Failure) -> Diagnostic | None:
    token = at.token
    if token.type in ("IN", "RETURN", "ATTENTION") and at.accepts & {"NAME"}:
        return at.found("reserved-name", f"'{token}' cannot be a name.", "a reserved word", "Choose another name.")
    first = at.line[0]
    if first.type == "NAME" and keyword.iskeyword(first) and first not in ("None", "True", "False"):
        return at.found("syntax", f"'{first}' has no meaning in the language.", "not a statement",
                        "A block holds inputs 'name : kind', assignments 'name = expression' and one 'return'.",
                        span_of(first))  # fmt: skip
    return None


def _statement(at: Failure) -> Diagnostic | None:
    """The part of a statement before its expression, or all of a declaration."""
    words = [token.type for token in at.line[: at.position]]
    names = ", ".join(token for token in at.line[: at.position] if token.type == "NAME")
    if not words:
        if at.token.type in ("TEXT", "LONG_TEXT"):
            return at.found("syntax", "A docstring stands only directly below the header.", "expected a statement")
        return at.found("syntax", "A statement begins with a name or 'return'.", "expected a statement", _STATEMENTS)
    if words[0] != "NAME" or "EQUAL" in words:
        return None
    if "COLON" in words:
        return _declaration(at, words[words.index("COLON") + 1 :])
    if words[-1] == "COMMA":
        return at.found("syntax", "A name is missing after the comma.", "expected a name")
    if at.token.type == "EQUAL":
        hint = f"Write '{names} : kind' for inputs, or assign one name a line."
        return at.found("syntax", "An assignment has one name.", "expected ':'", hint)
    if at.token.type == "NAME":
        hint = f"Write '{names} : {at.token}'." if at.token in KINDS else _STATEMENTS
        return at.found("syntax", "The statement lacks a ':' or '='.", "expected ':' or '='", hint)
    if at.after is not None and at.after.type == "EQUAL":
        hint = "Assign the result to a new name."
        return at.found("syntax", "Each name is assigned only once.", f"'{at.token}=' is not an operator", hint)
    message = "The line is no declaration, assignment or return."
    return at.found("syntax", message, "expected ':' or '='", _STATEMENTS)


def _declaration(at: Failure, words: Sequence[str]) -> Diagnostic:
    """The part of a declaration behind its colon; `words` are the token types between the two."""
    name, kind = at.line[0], at.before
    if not words:
        hint = f"Write '{name} = ...' to assign an expression. The kinds are {_KINDS}."
        return at.found("syntax", "A kind is missing after the colon.", "expected a kind", hint)
    if words == ["NAME"] and at.token.type in _OPERATORS | {"LPAR"}:
        message = "A declaration holds a kind and a range, not an expression."
        return at.found("syntax", message, "expected a range or the end of the line", f"Write '{name} = {kind}...'.")
    if words == ["NAME", "IN"]:
        return at.found("syntax", "The interval lacks its bracket.", "expected '['", "Write 'in [0, 1]'.")
    if "NUMBER" in at.accepts:
        message = "An end of a range is a number."
        return at.found("syntax", message, "expected a number", "Write '>= 0', '<= 0' or 'in [0, 1]'.")
    expected = "expected the end of the line"
    if words[-1] == "NUMBER" and "_NL" not in at.accepts:
        expected = "expected ']'" if "COMMA" in words else "expected ','"
    elif words == ["NAME"]:
        expected = "expected a range or the end of the line"
    hint = "Write a range as '>= 0', '<= 0' or 'in [0, 1]'."
    return at.found("syntax", "The declaration is malformed.", expected, hint)


def _expression(at: Failure) -> Diagnostic | None:
    if at.token.type == "EQUAL" and at.before is not None and at.before.type == "EQUAL":
        return at.found("syntax", "The language has no comparisons.", "expected an expression", "Write a single '='.")
    if at.accepts >= _OPERAND:
        if at.token.type == "SLASH" and at.before is not None and at.before.type == "SLASH":
            return at.found("syntax", "The language has no '//'.", "expected an expression", "Write a single '/'.")
        return at.found("syntax", "An expression is missing.", "expected an expression", _expression_hint(at))
    if at.token.type in _OPERAND | {"TEXT"} and at.accepts & _OPERATORS:
        number = at.before is not None and at.before.type == "NUMBER"
        hint = f"Write '{at.before} * {at.token}'." if number and at.token.type == "NAME" else ""
        return at.found("syntax", "An operator is missing.", f"expected {_continuation(at)}", hint)
    return None


def _expression_hint(at: Failure) -> str:
    if at.token.type == "LSQB":
        return "Use parentheses to group."
    if at.token.type in ("STAR", "POWER") and at.before is not None and at.before.type == "STAR":
        return "A power is '**'."
    return ""


def _continuation(at: Failure) -> str:
    if "COMMA" in at.accepts:
        return "an operator, ',' or ')'"
    return "an operator or ')'" if "RPAR" in at.accepts else "an operator or the end of the line"


def _anything(at: Failure) -> Diagnostic:
    found = "The line ends too early." if at.token.type == "_NL" else f"'{at.token}' is unexpected here."
    label = f"expected {_continuation(at)}" if at.accepts & _OPERATORS else ""
    hint = "The language has no indexing; all operations act on whole inputs." if at.token.type == "LSQB" else ""
    return at.found("syntax", found, label, hint)


_RULES: tuple[Callable[[Failure], Diagnostic | None], ...] = (
    _open_docstring,
    _outside_block,
    _unknown_character,
    _header,
    _unbalanced,
    _reserved,
    _statement,
    _expression,
    _anything,
)
