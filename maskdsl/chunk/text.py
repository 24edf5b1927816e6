"""Chunk IR programs as text, and back: `parse(to_text(program)) == program`."""

from __future__ import annotations

import dataclasses
import functools
import re
from importlib.resources import files
from typing import Any

import sympy
from lark import Lark, Token, Tree
from sympy.parsing.sympy_parser import parse_expr
from sympy.printing.str import StrPrinter

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction, Program
from maskdsl.scalar import functions
from maskdsl.scalar.symbols import DIMENSIONS, dimension, symbol


def to_text(program: Program) -> str:
    """One instruction a line: results = operation(operands) constants : types  # origin."""
    lines, origin = [f"program {program.name}"], ""
    for instruction in program.instructions:
        if instruction.origin != origin:
            origin = instruction.origin
            lines.append(f"  # {origin}")
        lines.append(f"  {_instruction(instruction)}")
    lines.append("return " + ", ".join(f"{name} = {value}" for name, value in program.outputs))
    return "\n".join(lines) + "\n"


def parse(text: str) -> Program:
    """The program that a text denotes; raises lark's errors for a text that is none."""
    name, *rest = _parser().parse(text).children
    nodes = [node for node in rest if isinstance(node, Tree)]
    instructions = tuple(_read(node) for node in nodes if node.data == "instruction")
    outputs = tuple((str(key), str(value)) for node in nodes if node.data == "output" for key, value in [node.children])
    return Program(str(name), instructions, outputs)


def _instruction(instruction: Instruction) -> str:
    constants = "".join(f" {field}={_value(value)}" for field, value in vars(instruction.op).items())
    types = " ".join(_axes(axes) for axes in instruction.types)
    call = f"{_snake(type(instruction.op).__name__)}({', '.join(instruction.operands)})"
    return f"{', '.join(instruction.results)} = {call}{constants} : {types}"


def _value(value: Any) -> str:
    match value:
        case None | bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return f'"{value}"'
        case sympy.Expr():
            return f'"{_ExpressionPrinter().doprint(value)}"'
        case tuple() if all(isinstance(item, int) for item in value):
            return "{" + ", ".join(map(str, value)) + "}"
    return _axes(value)


def _axes(axes: ops.Axes) -> str:
    return f"[{', '.join(axes)}]"


class _ExpressionPrinter(StrPrinter):
    """sympy's own notation with every digit of a float."""

    def _print_Float(self, expr: sympy.Float) -> str:
        return repr(float(expr))


@functools.cache
def _parser() -> Lark:
    return Lark((files(__package__) / "chunk.lark").read_text(encoding="utf-8"), parser="lalr")


@functools.cache
def _operations() -> dict[str, type[ops.Operation]]:
    return {_snake(operation.__name__): operation for operation in ops.Operation.__subclasses__()}


def _read(node: Tree[Token]) -> Instruction:
    names = [str(child) for child in node.children if isinstance(child, Token)]
    trees = [child for child in node.children if isinstance(child, Tree)]
    operands, *rest = trees
    kind = _operations()[names[-1]]
    constants = {str(c.children[0]): c.children[1] for c in rest if c.data == "constant"}
    hints = {field.name: field.type for field in dataclasses.fields(kind)}
    op = kind(**{field: _constant(value, hints[field]) for field, value in constants.items()})
    types = tuple(_constant(t, "Axes") for t in rest if t.data == "axes")
    return Instruction(tuple(names[:-1]), op, tuple(str(x) for x in operands.children if x is not None), types)


def _constant(node: Any, hint: Any) -> Any:
    words = [str(child) for child in node.children]
    match node.data:
        case "integer":
            return int(words[0])
        case "word":
            return {"true": True, "false": False, "none": None}[words[0]]
        case "numbers":
            return tuple(int(word) for word in words)
        case "axes":
            return tuple(words)
    text = words[0][1:-1]
    return _expression(text) if "Expr" in str(hint) else text


def _expression(text: str) -> sympy.Expr:
    names = {name: dimension(name) for name in DIMENSIONS}
    names |= {name: symbol(name) for name in re.findall(r"\bx\d+\b", text)}
    names |= {name: thing for name, thing in vars(functions).items() if isinstance(thing, type)}
    return parse_expr(text, local_dict=names)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
