"""The recurrence of a spec as written mathematics, and its masks in normal form."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from maskdsl.explain.notation import Notation
from maskdsl.mask.nodes import Kind
from maskdsl.mask.normal import Decay, Hierarchy, NormalForm, RankOne, Step, Term
from maskdsl.scalar.symbols import symbol
from maskdsl.spec import Attend, Definition, L2Norm, Spec


def recurrence(spec: Spec, forms: Mapping[str, NormalForm]) -> str:
    """The equations of every attend of `spec`, from states to output; `forms` are its masks by the attend's name."""
    notation = Notation(spec)
    lines: list[str] = []
    several = sum(len(form.terms) for form in forms.values()) > 1
    numbers = itertools.count(1)
    for definition in spec.definitions:
        if isinstance(definition.node, L2Norm):
            norm = notation.written(definition.node.x.expr)
            notation.where.append(f"{notation.indexed(definition.name)} = {norm} / ‖{norm}‖")
    for definition in spec.definitions:
        if isinstance(definition.node, Attend):
            terms = forms[definition.name].terms
            suffixes = [str(number) if several else "" for number in itertools.islice(numbers, len(terms))]
            names = [(f"S{suffix}", f"A{suffix}") for suffix in suffixes]
            result = "o[t]" if _is_output(spec, definition) else notation.indexed(definition.name)
            lines += _attend(notation, result, definition.node, terms, names)
    if not any(_is_output(spec, definition) for definition in spec.definitions):
        lines.append(f"o[t] = {notation.written(spec.output.expr)}")
    return "\n".join([*lines, "where", *(f"  {line}" for line in notation.where)] if notation.where else lines)


def normal_form(spec: Spec, forms: Mapping[str, NormalForm]) -> str:
    """The masks as sums of terms: path, hierarchy and window of each, the path in the order it acts on the state."""
    notation = Notation(spec)
    lines = []
    for name, form in forms.items():
        for number, term in enumerate(form.terms, start=1):
            parts = [_factor(notation, step) for step in term.path] or ["identity"]
            line = f"{name}, term {number} of {len(form.terms)}: path " + ", then ".join(parts)
            if term.hierarchy:
                line += f"; hierarchy {notation.written(term.hierarchy.lam.expr)}, {_hierarchy(term.hierarchy)}"
            lines.append(line + (f"; window {term.window}" if term.window is not None else ""))
    return "\n".join(lines)


def _is_output(spec: Spec, definition: Definition) -> bool:
    """Whether the output is this attend and nothing else, so that it needs no name of its own."""
    return isinstance(definition.node, Attend) and spec.output.expr == symbol(definition.name)


def _attend(
    notation: Notation, result: str, attend: Attend, terms: tuple[Term, ...], names: list[tuple[str, str]]
) -> list[str]:
    """The states of every term, `names` suggesting those of state and step operator, and what is read from them."""
    query, scale = notation.letter(attend.q, "query"), notation.written(attend.scale.expr)
    written = f"{notation.letter(attend.k, 'key')} {notation.letter(attend.v, 'value')}ᵀ"
    lines, reads = [], []
    for (state_name, step_name), term in zip(names, terms, strict=True):
        state, step = notation.free(state_name), _step(notation, term, step_name)
        lines += _states(notation, term, state, step, written)
        reads.append(_read(notation, term, state))
    total = reads[0] if len(reads) == 1 else f"({' + '.join(reads)})"
    prefix = "" if scale == "1" else f"{scale} · "
    return [*lines, f"{result} = {prefix}{total}ᵀ {query}"]


def _read(notation: Notation, term: Term, state: str) -> str:
    if term.hierarchy is None:
        return f"{state}[t]"
    return f"(Σ_l {notation.letter(term.hierarchy.lam, 'lam')} {state}[t, l])"


def _states(notation: Notation, term: Term, state: str, step: str, written: str) -> list[str]:
    """The equations of the states of one term; `step` is the name of its step operator, empty for the identity."""
    of_s = written.replace("[t]", "[s]")
    carried = f"{step}[t] ⋯ {step}[s+1] " if step else ""
    if term.hierarchy is None and term.window is None:
        return [f"{state}[t] = {step + '[t] ' if step else ''}{state}[t-1] + {written}"]
    if term.hierarchy is None:
        return [f"{state}[t] = Σ over t - {term.window} < s ≤ t of {carried}{of_s}"]
    band = f" and s > t - {term.window}" if term.window is not None else ""
    lines = [f"{state}[t, l] = Σ over s ≤ t with level(t, s) = l{band} of {carried}{of_s}"]
    lines += _level(term.hierarchy)
    if term.window is None and term.hierarchy.admissibility == "weak":
        lines += _carry(term.hierarchy.base, state, step, written)
    return lines


def _level(hierarchy: Hierarchy) -> list[str]:
    if hierarchy.admissibility == "strong":
        return [
            "  level(t, t) = 0; else, with e = ⌊log2 t⌋, w = max(2ᵉ / 2, 1), r = t - 2ᵉ:",
            "  level(t, s) = e + 1 where s < w or (s < 2w and r ≥ w),",
            "  level(t - w, s - w) where else s < 2w, and level(t - 2w, s - 2w) otherwise",
        ]
    base = hierarchy.base
    return [f"  level(t, t) = 0; else level(t, s) = 1 + the highest base-{base} digit in which t and s differ"]


def _carry(base: int, state: str, step: str, written: str) -> list[str]:
    """The same states token by token: digit z of t goes up by one, and everything below it moves into level z + 1."""
    after = f"{step}[t] " if step else ""
    return [
        f"  token by token: {state}[t, 0] = {written}; and with z zeros at the end of t > 0 in base {base},",
        f"  {state}[t, z+1] = {after}({state}[t-1, 0] + … + {state}[t-1, z+1])",
        f"  {state}[t, l] = 0 for 0 < l ≤ z,  {after}{state}[t-1, l] for l > z + 1",
    ]


def _step(notation: Notation, term: Term, name: str) -> str:
    """Write down the step operator of a term, the step that acts last on the left; empty for the identity."""
    if not term.path:
        return ""
    free = notation.free(name)
    product = " ".join(_factor(notation, step) for step in reversed(term.path))
    notation.where.append(f"{free}[t] = {product}")
    return free


def _factor(notation: Notation, step: Step) -> str:
    match step:
        case Decay(g):
            decay = f"exp({notation.letter(g, 'g')})"
            return f"Diag({decay})" if g.kind in (Kind.CHANNEL, Kind.HEAD_CHANNEL) else decay
        case RankOne(a, b, coefficient):
            factor = notation.written(coefficient.expr)
            outer = f"{notation.letter(a, 'a')} {notation.letter(b, 'b')}ᵀ"
            sign, size = ("-", factor[1:]) if factor.startswith("-") else ("+", factor)
            return f"(I {sign} {outer})" if size == "1" else f"(I {sign} {_grouped(size)} {outer})"


def _grouped(factor: str) -> str:
    return f"({factor})" if " " in factor else factor


def _hierarchy(hierarchy: Hierarchy) -> str:
    return f"base {hierarchy.base}, {hierarchy.admissibility} admissibility"
