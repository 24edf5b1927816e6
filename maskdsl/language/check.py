"""From a block of syntax to a checked spec, with all independent mistakes of the block found in one run."""

from __future__ import annotations

from maskdsl.diagnostics import Diagnostic, Source, SpecError
from maskdsl.language.definitions import Definitions
from maskdsl.language.expressions import Evaluator
from maskdsl.language.report import Report, describe, names_in, start
from maskdsl.language.scope import Scope
from maskdsl.language.syntax import Assignment, Attention, Call, Declaration, Return, Span
from maskdsl.language.tree import KINDS
from maskdsl.mask.nodes import Kind, Mask, Scalar
from maskdsl.scalar.build import symbol
from maskdsl.spec import Input, Spec


def check(block: Attention, source: Source) -> Spec:
    """The spec that a block stands for; a SpecError lists all its mistakes."""
    spec, mistakes = examine(block)
    if spec is None:
        raise SpecError(mistakes, source)
    return spec


def examine(block: Attention, broken: frozenset[str] = frozenset()) -> tuple[Spec | None, tuple[Diagnostic, ...]]:
    """The spec, None where there are mistakes, and the mistakes; `broken` are words of lines that were left out."""
    checker = _Checker(block, broken)
    output = checker.output()
    mistakes = tuple(checker.report.diagnostics)
    if output is None or mistakes:
        return None, mistakes
    inputs, definitions = tuple(checker.inputs.values()), checker.definitions.all()
    return Spec(block.name, block.doc, inputs, definitions, output, block), ()


class _Checker:
    def __init__(self, block: Attention, broken: frozenset[str]) -> None:
        self.block = block
        self.broken = broken
        self.report = Report()
        self.scope = Scope(block, self.report, broken)
        self.inputs: dict[str, Input] = {}
        self.definitions = Definitions(self.scope.all)
        self.evaluator = Evaluator(self.scope, self.definitions, self.inputs, self.report)

    def output(self) -> Scalar | None:
        """Check all statements; the returned expression."""
        returned: Return | None = None
        output: Scalar | None = None
        for statement in self.block.body:
            if returned is not None:
                hint = "Remove one return." if isinstance(statement, Return) else "Move the return to the end."
                message = "The block goes on after its return."
                self.report.add("after-return", message, statement.span, "never reached", hint)
                break
            match statement:
                case Declaration():
                    self._declare(statement)
                case Assignment():
                    self._assign(statement)
                case Return():
                    returned, output = statement, self._return(statement)
        if returned is not None:
            self.scope.unused(self._used())
        elif "return" not in self.broken:
            self._no_return()
        return output

    def _no_return(self) -> None:
        line, column = self.block.span.end_line, self.block.span.end_column
        message = f"The block '{self.block.name}' has no return."
        hint = "End it with a line such as 'return attend(q, k, v, mask)'."
        label = "expected a return below this line"
        self.report.add("no-return", message, Span(line, column, line, column + 1), label, hint)

    def _declare(self, node: Declaration) -> None:
        kind = KINDS[node.kind]
        for declared in node.names:
            value = Scalar(symbol(declared.name, node.range.low, node.range.high), kind)
            if self.scope.define(declared.name, value, declared.span, "declared"):
                self.inputs[declared.name] = Input(declared.name, kind, node.range)

    def _assign(self, node: Assignment) -> None:
        value = self.evaluator.value(node.value, node.name if isinstance(node.value, Call) else None)
        self.scope.define(node.name, value, start(node.span, node.name), "assigned")

    def _return(self, node: Return) -> Scalar | None:
        value = self.evaluator.value(node.value)
        if isinstance(value, Scalar) and value.kind is Kind.VALUE:
            return value
        if value is not None:
            hint = "Return the result of 'attend'."
            if isinstance(value, Mask):
                hint = "Return 'attend(q, k, v, mask)' with this mask."
            message = "A spec returns an expression of the kind 'value'."
            self.report.add("output-kind", message, node.value.span, f"this is {describe(value)}", hint)
        return None

    def _used(self) -> set[str]:
        nodes = [node.value for node in self.block.body if isinstance(node, Assignment | Return)]
        return set().union(*(names_in(node) for node in nodes))
