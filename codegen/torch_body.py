"""The body of a generated function: one assignment for each value worth a name, and its end where it is used up."""

from __future__ import annotations

import ast
import keyword
import re
from collections import Counter
from dataclasses import dataclass

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction, Program
from maskdsl.codegen.torch_expressions import expression

DIMENSIONS = ("B", "T", "H", "K", "V", "L")
_TAKEN = {"torch", "math", "torch_ops", "forward", "backward", "sizes", *DIMENSIONS}

_LONGEST = 100
"""Characters up to which an expression takes its operands' expressions in."""

_LIGHT = (
    ops.Align,
    ops.Cast,
    ops.Chunk,
    ops.Expand,
    ops.Repeat,
    ops.GroupSum,
    ops.Transpose,
    ops.Pick,
    ops.Map,
    ops.Dot,
    ops.Sum,
    ops.Tril,
    ops.Near,
)
"""Operations that are a short expression: where their result is used once, it is written where it is used."""


@dataclass(frozen=True)
class _Assignment:
    place: int
    instruction: Instruction
    text: str


class Body:
    """Prints the instructions of one program; `like` names a tensor where the program loads none.

    A program that is `laid` out has its slots from a `layout`.
    """

    def __init__(self, program: Program, like: str = "", laid: bool = False) -> None:
        self.program, self.types, self.laid = program, program.types, laid
        self.names: dict[str, str] = {}
        taken = _TAKEN | {"layout"} if laid else _TAKEN
        for value in self.types:
            name = value
            while name in taken or keyword.iskeyword(name) or name in self.names.values():
                name += "_"
            self.names[value] = name
        self.like = next((self.name(i.results[0]) for i in program.instructions if isinstance(i.op, ops.Load)), like)
        self._uses = Counter(x for i in program.instructions for x in i.operands)
        self._uses.update(value for _, value in program.outputs)

    def name(self, value: str) -> str:
        """The Python name of a value."""
        return self.names[value]

    def parameters(self) -> dict[str, str]:
        """The parameters of the function, each with the name of what it is given."""
        return {self.name(i.results[0]): i.op.name for i in self.program.instructions if isinstance(i.op, ops.Load)}

    def lines(self) -> list[str]:
        """Assignments, a comment where the origin changes, and `del` after the last use of what a line needs."""
        assignments = self._assignments()
        mentioned = [_names(a.text) for a in assignments]
        last = {name: n for n, names in enumerate(mentioned) for name in names}
        kept = {self.name(value) for _, value in self.program.outputs}
        passing = set(self.names.values()) - kept - set(self.parameters())
        lines, origin = [], ""
        for n, assignment in enumerate(assignments):
            instruction = assignment.instruction
            if instruction.origin != origin:
                origin = instruction.origin
                lines.append(f"# -- {origin}")
            results = [self.name(r) for r in instruction.results]
            lines.append(f"{', '.join(results)} = {assignment.text}")
            unused = [r for r in results if r not in last]
            dead = [x for x in (*mentioned[n], *unused) if last.get(x, n) == n and x in passing]
            if dead:
                lines.append(f"del {', '.join(dead)}")
        return lines

    def _assignments(self) -> list[_Assignment]:
        """What is assigned, in order; light values that are used once stand inside the expression that uses them."""
        done: list[_Assignment] = []
        inside: dict[str, _Assignment] = {}
        for place, instruction in enumerate(self.program.instructions):
            if isinstance(instruction.op, ops.Load):
                continue
            taken = {x: inside.pop(x) for x in instruction.operands if x in inside}
            text = self._text(instruction, taken)
            while taken and (len(text) > _LONGEST or self._repeats(instruction, taken)):
                # the longest operand gets a line of its own after all
                longest = max(taken, key=lambda x: len(taken[x].text))
                done.append(taken.pop(longest))
                text = self._text(instruction, taken)
            assignment = _Assignment(place, instruction, text)
            if isinstance(instruction.op, _LIGHT) and self._used_once(instruction.results[0]):
                inside[instruction.results[0]] = assignment
            else:
                done.append(assignment)
        return sorted(done, key=lambda assignment: assignment.place)

    def _text(self, instruction: Instruction, inside: dict[str, _Assignment]) -> str:
        operands = [f"({inside[x].text})" if x in inside else self.name(x) for x in instruction.operands]
        types = [self.types[x] for x in instruction.operands]
        return ast.unparse(ast.parse(expression(instruction.op, operands, types, self.like, self.laid), mode="eval"))

    def _repeats(self, instruction: Instruction, inside: dict[str, _Assignment]) -> bool:
        """Whether an operand that would be written out stands in the expression more than once."""
        bare = self._text(instruction, {})
        return any(len(re.findall(rf"\b{re.escape(self.name(x))}\b", bare)) > 1 for x in inside)

    def _used_once(self, value: str) -> bool:
        """Whether one instruction uses a value, and the function does not return it."""
        return self._uses[value] == 1 and value not in {output for _, output in self.program.outputs}


def _names(text: str) -> list[str]:
    """The names that an expression reads, in order."""
    return list(dict.fromkeys(node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)))
