"""Which masks the operators `*`, `@` and `+` can join."""

from __future__ import annotations

from maskdsl.diagnostics import Related
from maskdsl.language.printer import to_text
from maskdsl.language.report import Report, walk
from maskdsl.language.syntax import Binary, Call, Expression, Span
from maskdsl.mask.nodes import Compose, Fenwick, Mask, Plus, Times
from maskdsl.mask.properties import Valued, is_path, multiplies, valued


def hierarchies(mask: Mask) -> set[tuple[int, str]]:
    """Base and admissibility of every hierarchy in a mask."""
    match mask:
        case Fenwick(_, base, admissibility):
            return {(base, admissibility)}
        case Compose(left, right) | Times(left, right) | Plus(left, right):
            return hierarchies(left) | hierarchies(right)
    return set()


def join(node: Binary, left: Mask, right: Mask, report: Report) -> Mask | None:
    """`left operator right` of two masks; None, with the mistake noted, where the language has no such mask."""
    match node.operator:
        case "+":
            return Plus(left, right)
        case "*":
            return _times(node, left, right, report)
        case "@":
            return _compose(node, left, right, report)
        case "-":
            hint = "Subtract the results of 'attend' instead."
            report.add("mask-operator", "Masks cannot be subtracted.", node.span, "two masks", hint)
        case "/":
            hint = "A mask has no inverse; multiply masks with '*'."
            report.add("mask-operator", "Masks cannot be divided.", node.span, "two masks", hint)
        case _:
            hint = f"Multiply it by itself: '{to_text(node.left)} * {to_text(node.left)}'."
            report.add("mask-operator", "A mask has no powers.", node.span, "two masks", hint)
    return None


def _times(node: Binary, left: Mask, right: Mask, report: Report) -> Mask | None:
    if not multiplies(left, right):
        words = {Valued.DIAGONAL: "diagonal", Valued.OPERATOR: "operator-valued"}
        label = f"{words[valued(right)]}, the left one is {words[valued(left)]}"
        message = "'*' multiplies entry by entry, and at least one of its masks must be number-valued."
        hint = "Compose the summands with '@' instead, then add."
        if is_path(left) and is_path(right):
            hint = f"Write '{_composed(node)}' to apply both steps at every position."
        report.add("operator-product", message, node.right.span, label, hint)
        return None
    different = {(a, b) for a in hierarchies(left) for b in hierarchies(right) if a != b}
    if different:
        ours, theirs = sorted(different)[0]
        label = f"has base {theirs[0]} and {theirs[1]} admissibility"
        other = Related(_fenwick(node.left), f"has base {ours[0]} and {ours[1]} admissibility")
        message = "Two 'fenwick' factors of one product differ in base or admissibility."
        hint = "Give both the same base and admissibility."
        report.add("hierarchies", message, _fenwick(node.right), label, hint, (other,))
        return None
    return Times(left, right)


def _compose(node: Binary, left: Mask, right: Mask, report: Report) -> Mask | None:
    for operand, mask in ((node.left, left), (node.right, right)):
        if not is_path(mask):
            message = "'@' composes path masks only."
            report.add("not-a-path", message, operand.span, _why_no_path(mask), _instead(node, mask))
    return Compose(left, right) if is_path(left) and is_path(right) else None


def _why_no_path(mask: Mask) -> str:
    return "a sum of masks is no path" if isinstance(mask, Plus) else "not a product of steps"


def _instead(node: Binary, mask: Mask) -> str:
    if isinstance(mask, Plus):
        return "Compose each summand, then add."
    if valued(mask) is Valued.NUMBER:
        return f"Write '{to_text(Binary('*', node.left, node.right))}'."
    return "Compose the paths first, then multiply by the other factors with '*'."


def _composed(node: Binary) -> str:
    return to_text(Binary("@", node.left, node.right))


def _fenwick(node: Expression) -> Span:
    """Where the hierarchy of an operand is written: its one `fenwick` call, or the whole operand."""
    calls = [child.span for child in walk(node) if isinstance(child, Call) and child.function == "fenwick"]
    return calls[0] if len(calls) == 1 else node.span
