"""What is wrong with a spec or a call, and the one way it is shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from maskdsl.language.syntax import Span


@dataclass(frozen=True)
class Source:
    """A text and the name a user knows it by (a path, or `<text>`)."""

    name: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The text line by line, without line ends; line `n` of a span is item `n - 1`."""
        return self.text.replace("\r\n", "\n").split("\n")


@dataclass(frozen=True)
class Related:
    """Another place that explains a diagnostic, such as the first of two assignments."""

    span: Span
    label: str


@dataclass(frozen=True)
class Diagnostic:
    """One mistake: a sentence, the smallest span it concerns, what was expected there, and how to mend it.

    `code` names the class of mistake, independent of the wording.
    """

    code: str
    message: str
    span: Span
    label: str = ""
    hint: str = ""
    related: tuple[Related, ...] = ()


class SpecError(Exception):
    """One or more mistakes in a source text; `diagnostics` is sorted by position and `str()` shows them all."""

    def __init__(self, diagnostics: Iterable[Diagnostic], source: Source) -> None:
        self.diagnostics = tuple(sorted(set(diagnostics), key=_position))
        self.source = source
        super().__init__(render(self.diagnostics, source))

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[Diagnostic, ...], Source]]:
        return SpecError, (self.diagnostics, self.source)


class CallError(ValueError):
    """A call whose arguments do not fit the spec; `input` is the name of the first input concerned, if there is one."""

    def __init__(self, message: str, input: str | None = None) -> None:
        self.input = input
        super().__init__(message)

    def __reduce__(self) -> tuple[type[CallError], tuple[str, str | None]]:
        return CallError, (str(self), self.input)


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` was probably meant to be, None where nothing is near."""
    names = {name.lower(): name for name in candidates}
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return names[near[0]] if near else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A hint that names the closest candidate, empty where nothing is near."""
    near = closest(word, candidates)
    return f"Did you mean '{near}'?" if near else ""


def render(diagnostics: Iterable[Diagnostic], source: Source) -> str:
    """The diagnostics as text, one after the other, with the source lines they concern."""
    return "\n\n".join(_render_one(diagnostic, source) for diagnostic in diagnostics)


def _position(diagnostic: Diagnostic) -> tuple[int, int, str]:
    return diagnostic.span.line, diagnostic.span.column, diagnostic.message


def _render_one(diagnostic: Diagnostic, source: Source) -> str:
    span = diagnostic.span
    text = [diagnostic.message, f'  File "{source.name}", line {span.line}, column {span.column}']
    places = [(span, diagnostic.label), *((place.span, place.label) for place in diagnostic.related)]
    width = max(len(str(place.line)) for place, _ in places)
    for place, label in places:
        text += _excerpt(place, label, source.lines, width)
    if diagnostic.hint:
        text.append(f"  Hint: {diagnostic.hint}")
    return "\n".join(text)


def _excerpt(span: Span, label: str, lines: list[str], width: int) -> list[str]:
    """The source line and the carets under the span, up to the end of its first line."""
    line = lines[span.line - 1] if 1 <= span.line <= len(lines) else ""
    end = span.end_column if span.end_line == span.line else len(line) + 1
    # Tabs stay tabs, so that the carets stand right at any tab width.
    margin = "".join("\t" if character == "\t" else " " for character in line[: span.column - 1])
    carets = "^" * max(1, end - span.column)
    return [
        f"    {span.line:>{width}} | {line}".rstrip(),
        f"    {'':>{width}} | {margin}{carets} {label}".rstrip(),
    ]
