"""The tensors of a call, checked against the inputs of a spec before anything runs on them."""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from maskdsl.diagnostics import CallError
from maskdsl.language.syntax import Name, Range
from maskdsl.mask.levels import levels
from maskdsl.mask.nodes import Compose, Fenwick, Kind, Mask, Plus, Times
from maskdsl.runtime.oracle.expressions import walk
from maskdsl.spec import Attend, Input, Spec

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

FARTHEST = 1 << 62
"""A position that no sequence comes to."""


@dataclass(frozen=True)
class Sizes:
    """The size of every dimension of a call; None where no input has that axis."""

    B: int
    T: int
    H: int
    K: int | None
    V: int | None
    L: int | None
    key_heads: tuple[tuple[str, int], ...]

    @property
    def known(self) -> tuple[int, int, int, int, int, int]:
        """B, T, H, K, V, L; 0 for a dimension that no input has."""
        return self.B, self.T, self.H, self.K or 0, self.V or 0, self.L or 0

    @property
    def Hk(self) -> int | None:
        """The number of heads that all key inputs share; None where they differ or there are none."""
        found = {heads for _, heads in self.key_heads}
        return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class Bound:
    """The tensors of a call by name, in declared order, and their sizes."""

    tensors: dict[str, Tensor]
    sizes: Sizes


@dataclass(frozen=True)
class Problem:
    """A mistake of a call, and the input that it concerns."""

    input: str | None
    message: str


def bind(
    spec: Spec,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    check_inputs: bool = False,
    longest: int | None = None,
) -> Bound:
    """The arguments of a call, given by name or in declared order, as the inputs of `spec`.

    With `check_inputs` their values are held against the declared ranges as well, which reads every element. There have
    to be levels for `longest` positions, T where it is None. Raises CallError with every problem found, in declared
    order.
    """
    return bound(spec, *named(spec, args, kwargs), check_inputs, longest)


def bound(
    spec: Spec,
    given: Mapping[str, Any],
    problems: list[Problem],
    check_inputs: bool = False,
    longest: int | None = None,
) -> Bound:
    """Arguments by name as the inputs of `spec`, as in `bind`; `problems` are those found already."""
    problems = list(problems)
    tensors = {}
    for each in spec.inputs:
        if each.name in given:
            wrong = _tensor_problem(each, given[each.name])
            if wrong is None:
                tensors[each.name] = given[each.name]
            else:
                problems.append(Problem(each.name, wrong))
    problems += _device_problems(tensors)
    problems += _size_problems(spec, tensors, longest)
    if check_inputs:
        problems += [problem for each in spec.inputs for problem in _value_problems(each, tensors.get(each.name))]
    if problems:
        raise _call_error(spec, problems)
    return Bound({each.name: tensors[each.name] for each in spec.inputs}, _sizes(spec, tensors))


def result_dtype(spec: Spec, bound: Bound) -> torch.dtype:
    """What the vectors of a call promote to, the dtype of its output; gates and weights may be wider."""
    vectors = [bound.tensors[i.name].dtype for i in spec.inputs if i.kind in (Kind.KEY, Kind.VALUE)]
    return functools.reduce(torch.promote_types, vectors)


def needed_levels(spec: Spec, length: int) -> int:
    """How many level weights the hierarchies of `spec` read on `length` positions; 0 if none reads any."""
    masks = [each.node.mask for each in spec.definitions if isinstance(each.node, Attend)]
    fenwicks = [each for mask in masks for each in _fenwicks(mask) if each.lam.kind is Kind.LEVEL]
    return max((levels(length, each.base, each.admissibility) for each in fenwicks), default=0)


def longest(spec: Spec, levels: int) -> int:
    """The length of the longest sequence for which so many level weights are enough."""
    return bisect_right(range(1, FARTHEST), levels, key=lambda length: needed_levels(spec, length))


def _fenwicks(mask: Mask) -> Iterator[Fenwick]:
    match mask:
        case Fenwick():
            yield mask
        case Compose(left, right) | Times(left, right) | Plus(left, right):
            yield from _fenwicks(left)
            yield from _fenwicks(right)


def named(spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The arguments by name, and what is wrong with how they were given."""
    names = [each.name for each in spec.inputs]
    given = dict(zip(names, args, strict=False)) | {name: kwargs[name] for name in names if name in kwargs}
    problems = []
    if len(args) > len(names):
        message = f"'{spec.name}' takes {_count(len(names), 'input')} ({_list(names)}), but {len(args)} were given."
        problems.append(Problem(None, message))
    for name in sorted(kwargs.keys() - set(names)):
        close = get_close_matches(name, names, 1)
        fix = f"Did you mean '{close[0]}'?" if close else f"Its inputs are {_list(names)}."
        problems.append(Problem(None, f"'{spec.name}' has no input '{name}'. {fix}"))
    for each in spec.inputs:
        if each.name not in given:
            expected = f"a {each.kind.label} input of shape {_axes(each)}"
            problems.append(Problem(each.name, f"Input '{each.name}' is missing: {expected}."))
        elif each.name in names[: len(args)] and each.name in kwargs:
            message = f"Input '{each.name}' is given twice, by position and by name; leave one out."
            problems.append(Problem(each.name, message))
    return given, problems


def _tensor_problem(each: Input, given: object) -> str | None:
    """What keeps one argument from being taken as this input at all: its type, dtype or number of axes."""
    if not isinstance(given, Tensor):
        return f"Input '{each.name}' is a {type(given).__name__}, not a tensor; {_expected(each)}."
    if given.dtype not in DTYPES:
        allowed = _list([_dtype(dtype) for dtype in DTYPES])
        return f"Input '{each.name}' has dtype {_dtype(given.dtype)}; convert it to one of {allowed}."
    if given.ndim != len(each.kind.value):
        axes, found = _count(given.ndim, "axis", "axes"), list(given.shape)
        return f"Input '{each.name}' has {axes}, {found}; {_expected(each)}."
    return None


def _device_problems(tensors: Mapping[str, Tensor]) -> Iterator[Problem]:
    first = next(iter(tensors), None)
    for name, tensor in tensors.items():
        if first is not None and tensor.device != tensors[first].device:
            there, here = tensor.device, tensors[first].device
            message = f"Input '{name}' is on '{there}', but '{first}' is on '{here}'; move one with .to('{here}')."
            yield Problem(name, message)


def _size_problems(spec: Spec, tensors: Mapping[str, Tensor], longest: int | None) -> Iterator[Problem]:
    """Empty axes and sizes that disagree; the first input with an axis fixes its size."""
    fixed = fixed_sizes(spec, tensors)
    for each in spec.inputs:
        if each.name in tensors:
            shape = tensors[each.name].shape
            for axis, size in zip(each.kind.value, shape, strict=True):
                wrong = _axis_problem(axis, size, each.name, fixed)
                if wrong:
                    message = f"Input '{each.name}' has shape {list(shape)}, but {wrong}; {_expected(each)}."
                    yield Problem(each.name, message)
    yield from _level_problems(spec, fixed, longest)
    yield from _key_head_problems(spec, tensors)


def _axis_problem(axis: str, size: int, name: str, fixed: Mapping[str, tuple[int, str]]) -> str | None:
    if size == 0:
        return f"{axis} = 0: every axis needs at least one entry"
    if axis == "Hk":
        heads, source = fixed.get("H", (0, ""))
        if heads % size:
            return f"Hk = {size} does not divide the {heads} heads of '{source}'"
    elif size != fixed[axis][0]:
        expected, source = fixed[axis]
        return f"{axis} = {size} differs from {axis} = {expected} of '{source}'"
    return None


def _level_problems(spec: Spec, fixed: Mapping[str, tuple[int, str]], longest: int | None) -> Iterator[Problem]:
    if "L" not in fixed or "T" not in fixed:
        return
    (found, name), length = fixed["L"], fixed["T"][0] if longest is None else longest
    needed = needed_levels(spec, length) if length > 0 else 0
    if 0 < found < needed:
        sequence = f"of T = {length}" if longest is None else f"that comes to position {length - 1}"
        message = (
            f"Input '{name}' has {_count(found, 'level')}, but a sequence {sequence} needs {needed};"
            f" give it a last axis L >= {needed}."
        )
        yield Problem(name, message)


def _key_head_problems(spec: Spec, tensors: Mapping[str, Tensor]) -> Iterator[Problem]:
    """A spec that computes with Hk needs one number of heads on the key side."""
    keys = [each.name for each in spec.inputs if each.kind is Kind.KEY and each.name in tensors]
    if not _uses_key_heads(spec):
        return
    for name in keys[1:]:
        heads, first = tensors[name].shape[2], tensors[keys[0]].shape[2]
        if heads != first:
            message = f"Input '{name}' has Hk = {heads}, but '{keys[0]}' has {first}, and the spec computes with Hk."
            yield Problem(name, message)


def _value_problems(each: Input, tensor: Tensor | None) -> Iterator[Problem]:
    """Values that are no numbers or break the promise of the declared range."""
    if tensor is None or tensor.is_meta:
        return
    values = tensor.detach()
    undefined = int(values.isnan().sum())
    if undefined:
        yield Problem(each.name, f"Input '{each.name}' holds {undefined} NaN among {_count(values.numel(), 'value')}.")
    low = -math.inf if each.range.low is None else each.range.low
    high = math.inf if each.range.high is None else each.range.high
    excess = torch.maximum(low - values, values - high).nan_to_num(nan=-1.0, posinf=math.inf, neginf=-math.inf)
    outside = int((excess > 0).sum())
    if outside:
        worst = int(excess.argmax())
        place = [int(index) for index in torch.unravel_index(torch.tensor(worst), values.shape)]
        message = (
            f"Input '{each.name}' promises values {_range(each.range)}, but {outside} of {values.numel()}"
            f" {'lies' if outside == 1 else 'lie'} outside; the worst is {values.flatten()[worst].item():g} at {place}."
        )
        yield Problem(each.name, message)


def fixed_sizes(spec: Spec, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, str]]:
    """The size of every axis but Hk, and the first input that has it."""
    fixed: dict[str, tuple[int, str]] = {}
    for each in spec.inputs:
        if each.name in tensors:
            for axis, size in zip(each.kind.value, tensors[each.name].shape, strict=True):
                if axis != "Hk" and size > 0:
                    fixed.setdefault(axis, (size, each.name))
    return fixed


def _sizes(spec: Spec, tensors: Mapping[str, Tensor]) -> Sizes:
    fixed = {axis: size for axis, (size, _) in fixed_sizes(spec, tensors).items()}
    key_heads = tuple((each.name, tensors[each.name].shape[2]) for each in spec.inputs if each.kind is Kind.KEY)
    optional = {axis: fixed.get(axis) for axis in ("K", "V", "L")}
    return Sizes(B=fixed["B"], T=fixed["T"], H=fixed["H"], **optional, key_heads=key_heads)


@functools.lru_cache(maxsize=64)
def _uses_key_heads(spec: Spec) -> bool:
    return any(isinstance(node, Name) and node.name == "Hk" for node in walk(spec.syntax))


def _call_error(spec: Spec, problems: Iterable[Problem]) -> CallError:
    """All problems as one error, one a line, in the order in which the spec declares its inputs."""
    order = {each.name: place for place, each in enumerate(spec.inputs)}
    ordered = sorted(problems, key=lambda problem: order.get(problem.input or "", -1))
    first = next((problem.input for problem in ordered if problem.input), None)
    return CallError("\n".join(problem.message for problem in ordered), first)


def _axes(each: Input) -> str:
    return f"[{', '.join(each.kind.value)}]"


def _expected(each: Input) -> str:
    return f"a {each.kind.label} input has shape {_axes(each)}"


def _range(declared: Range) -> str:
    if declared.low is None:
        return f"<= {declared.high:g}"
    return f">= {declared.low:g}" if declared.high is None else f"in [{declared.low:g}, {declared.high:g}]"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _list(words: list[str]) -> str:
    return ", ".join(words)
