"""The names of one block: what each stands for, and which are never used."""

from __future__ import annotations

from maskdsl.diagnostics import Related, closest
from maskdsl.language.report import Report, Value, start
from maskdsl.language.signatures import BUILT_IN, CALLABLE, MASK_NAMES
from maskdsl.language.syntax import Assignment, Attention, Declaration, Name, Span
from maskdsl.language.tree import KINDS
from maskdsl.mask.nodes import Causal, Kind, Scalar
from maskdsl.scalar.build import DIMENSIONS, dimension


class Scope:
    """The names of a block; those in `broken` belong to lines that could not be read."""

    def __init__(self, block: Attention, report: Report, broken: frozenset[str]) -> None:
        self._report = report
        self._broken = broken
        self._values: dict[str, Value | None] = {}
        self._defined: dict[str, tuple[Span, str]] = {}
        self._guessed: set[str] = set()
        self.all = dict(reversed(_places(block)))
        self._axes = {axis for node in block.body if isinstance(node, Declaration) for axis in KINDS[node.kind].value}

    def define(self, name: str, value: Value | None, span: Span, what: str) -> bool:
        """Give a name its value; False, with the mistake noted, where it has one already."""
        if name in BUILT_IN:
            hint = f"Choose another name, for example '{name}_'."
            self._report.add("built-in-name", f"'{name}' is built in and cannot be a name.", span, "built in", hint)
            self._values[name] = None
            return False
        if name in self._defined:
            first, first_what = self._defined[name]
            message = f"'{name}' is {what}, but it is {first_what} already."
            if what == first_what:
                message = f"'{name}' is {what} twice."
            related = (Related(first, f"{first_what} here"),)
            label, hint = "each name has one meaning", "Choose another name."
            self._report.add("defined-twice", message, span, label, hint, related)
            return False
        self._defined[name] = span, what
        self._values[name] = value
        return True

    def lookup(self, node: Name) -> Value | None:
        """What a name stands for; None, with the mistake noted once, where it stands for nothing."""
        name = node.name
        if name in self._values:
            return self._values[name]
        if name in DIMENSIONS:
            return self._dimension(node)
        if name in MASK_NAMES:
            return Causal()
        if name not in self._broken:
            self._unknown(node)
        self._values[name] = None
        return None

    def is_broken(self, name: str) -> bool:
        """Whether nothing certain can be said about a name."""
        return name in self._broken

    def unused(self, used: set[str]) -> None:
        """Note every name that was defined and is never used."""
        for name, (span, what) in self._defined.items():
            if name not in used | self._broken | self._guessed:
                self._report.add(
                    "unused",
                    f"'{name}' is {what} and never used.",
                    span,
                    "not used in this block",
                    "Use it or remove it.",
                )

    def _dimension(self, node: Name) -> Scalar | None:
        if node.name not in self._axes and not self._broken:
            label = f"no input has the axis '{node.name}'"
            self._report.add("unknown-size", f"'{node.name}' has no size here.", node.span, label)
            return None
        return Scalar(dimension(node.name), Kind.CONST)

    def _unknown(self, node: Name) -> None:
        name = node.name
        if name in self.all:
            related = (Related(self.all[name], "defined here"),)
            message = f"'{name}' is used before it is defined."
            self._report.add("used-before", message, node.span, "not defined yet", "Move its line up.", related)
        elif name in CALLABLE:
            message, hint = f"'{name}' is a function.", f"Call it, as in '{name}(...)'."
            self._report.add("not-called", message, node.span, "expected its arguments", hint)
        elif name in KINDS:
            message, hint = f"'{name}' is a kind, not an expression.", f"Declare an input with ':', as in 'x : {name}'."
            self._report.add("kind-as-expression", message, node.span, "expected an expression", hint)
        else:
            near = closest(name, [*self.all, *MASK_NAMES, *DIMENSIONS])
            self._guessed |= {near} if near else set()
            hint = f"Did you mean '{near}'?" if near else "Declare it as an input or assign it."
            self._report.add("unknown-name", f"Unknown name '{name}'.", node.span, "defined nowhere", hint)


def _places(block: Attention) -> list[tuple[str, Span]]:
    """All names that a block defines, and where."""
    places: list[tuple[str, Span]] = []
    for node in block.body:
        match node:
            case Declaration(names):
                places += [(declared.name, declared.span) for declared in names]
            case Assignment(name):
                places.append((name, start(node.span, name)))
    return places
