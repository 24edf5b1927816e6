"""Reverse-mode differentiation of a chunk IR program."""

from __future__ import annotations

from collections import defaultdict

import sympy

from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder, Program
from maskdsl.differentiation.adjoints import Adjoints

GRADIENT = "d_"
"""What stands before the name of an output or input in the name of its gradient."""


def differentiate(program: Program) -> Program:
    """The program followed by its adjoint: it also loads `d_<output>` and puts out `d_<input>` for every input."""
    build = Builder(program.name, program.instructions)
    adjoints = Adjoints(build)
    pending: dict[str, list[str]] = defaultdict(list)
    active = _active(program)
    build.origin = "gradients"
    for name, value in program.outputs:
        load = ops.Load(gradient_name(program, name), build.types[value])
        pending[value].append(build(load, name=load.name.replace(".", "_")))
    gradients = []
    for instruction in reversed(program.instructions):
        build.origin = f"gradient of {instruction.origin}"
        if isinstance(instruction.op, ops.Load):
            (value,) = instruction.results
            gradients.append((GRADIENT + instruction.op.name, _total(build, value, pending[value])))
            continue
        if not active & set(instruction.results) or not any(pending[r] for r in instruction.results):
            continue
        grads = [_total(build, r, pending[r]) for r in instruction.results]
        for operand, grad in zip(adjoints.sources(instruction), adjoints.of(instruction, grads), strict=True):
            if grad is not None and operand in active:
                pending[operand].append(grad)
    return build.program([*program.outputs, *reversed(gradients)])


def gradient_name(program: Program, output: str) -> str:
    """The name under which the gradient of an output is handed in, which no input and no value has."""
    name, taken = GRADIENT + output, {load.name for load in program.loads} | set(program.types)
    while name in taken:
        name += "_"
    return name


def _active(program: Program) -> set[str]:
    """The values that depend on an input."""
    active: set[str] = set()
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Load) or active & set(instruction.operands):
            active |= set(instruction.results)
    return active


def _total(build: Builder, value: str, parts: list[str]) -> str:
    """The sum of the gradients that reach a value; zeros where none does."""
    match parts:
        case []:
            return build(ops.Constant(sympy.S.Zero, build.types[value]), name=f"no_{GRADIENT}{value}")
        case [part]:
            return part
    total = sympy.Add(*(ops.argument(i) for i in range(len(parts))))
    return build(ops.Map(total), *parts, name=f"{GRADIENT}{value}_all")
