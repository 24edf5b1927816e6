"""Text to syntax tree, with every syntax error of a file found in one run."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_interactive_parser import InteractiveParser

from maskdsl.diagnostics import Diagnostic, Source, SpecError
from maskdsl.language import mistakes
from maskdsl.language.layout import Layout
from maskdsl.language.syntax import File
from maskdsl.language.tree import TreeReader


@dataclass(frozen=True)
class Parsed:
    """What could be read of a text: the tree without the lines at fault, and the mistakes.

    `broken` holds the words of the lines at fault. Nothing certain can be said about these names, so later checks
    stay silent about them.
    """

    file: File
    diagnostics: tuple[Diagnostic, ...]
    broken: frozenset[str]


def parse(source: Source) -> File:
    """The syntax tree of a text; a SpecError lists all its syntax errors."""
    parsed = recover(source)
    if parsed.diagnostics:
        raise SpecError(parsed.diagnostics, source)
    return parsed.file


def recover(source: Source) -> Parsed:
    """Parse line by line: a line at fault is reported and skipped."""
    tokens = _grammar().lex("\n".join(source.lines) + "\n")
    run = _Run(list(_lines(tokens)))
    tree = run.tree()
    reader = TreeReader()
    file = reader.file(tree)
    found = (*run.diagnostics, *reader.diagnostics)
    if not file.blocks and not found:
        found = (mistakes.no_block(source),)
    return Parsed(file, found, frozenset(run.words | reader.words))


@functools.cache
def _grammar() -> Lark:
    text = resources.files("maskdsl.language").joinpath("maskdsl.lark").read_text(encoding="utf-8")
    return Lark(
        text, parser="lalr", lexer="basic", postlex=Layout(), propagate_positions=True, maybe_placeholders=False
    )


def _lines(tokens: Iterator[Token]) -> Iterator[list[Token]]:
    """The tokens of each logical line; a mark of the layout stage is a line of its own."""
    line: list[Token] = []
    for token in tokens:
        if token.type in ("_INDENT", "_DEDENT", "BAD_INDENT"):
            yield [token]
            continue
        line.append(token)
        if token.type == "_NL":
            yield line
            line = []


class _Run:
    """One pass of the parser over the lines of a text."""

    def __init__(self, lines: list[list[Token]]) -> None:
        self.lines = lines
        self.parser: InteractiveParser = _grammar().parse_interactive()
        self.accepted: list[Token] = []
        self.diagnostics: list[Diagnostic] = []
        self.words: set[str] = set()

    def tree(self) -> Tree[Token]:
        """Feed all lines, skipping those at fault."""
        stray = False  # the line before stood outside every block, and that was said
        for number, line in enumerate(self.lines):
            opens = number + 1 < len(self.lines) and self.lines[number + 1][0].type == "_INDENT"
            outside = "ATTENTION" in self.parser.choices() and line[0].type != "BAD_INDENT"
            mistake = self._mistake(line, opens)
            if mistake:
                self.words.update(*(re.findall(r"\w+", token) for token in line))
                self.words |= {"return" for token in line if token.type == "OPEN_TEXT"}  # it may be in there
                if not (outside and stray):
                    self.diagnostics.append(mistake)
            stray = outside and mistake is not None
            if stray and opens:
                self._mistake(_placeholder(line), opens)
        result: Tree[Token] = self.parser.feed_eof()
        return result

    def _mistake(self, line: list[Token], opens: bool) -> Diagnostic | None:
        """Feed one line, or leave the parser as it was and return what is wrong with the line."""
        if line[0].type == "BAD_INDENT":
            return mistakes.bad_indent(line[0])
        if line[0].type == "ATTENTION" and line[-2].type == "COLON" and not opens:
            return mistakes.empty_block(line)
        for position, token in enumerate(line):
            try:
                self.parser.feed_token(token)
            except UnexpectedToken:
                accepts = self.parser.accepts()
                self._restart()
                return mistakes.explain(line, position, accepts)
        self.accepted += line
        return None

    def _restart(self) -> None:
        """Bring the parser back to the end of the last line that fitted."""
        self.parser = _grammar().parse_interactive()
        for token in self.accepted:
            self.parser.feed_token(token)


def _placeholder(line: list[Token]) -> list[Token]:
    """A header in the place of a line that should have been one."""
    words = {"ATTENTION": "attention", "NAME": "_", "COLON": ":", "_NL": "\n"}
    return [Token.new_borrow_pos(type_, word, line[0]) for type_, word in words.items()]
