"""Programs of the chunk IR: instructions in order, each naming its results, and the builder that makes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import networkx as nx

from maskdsl.chunk.infer import TypeMismatch, infer
from maskdsl.chunk.ops import Axes, Load, Operation


@dataclass(frozen=True)
class Instruction:
    """results = op(operands); `origin` says, in the spec's words, what it is for, and takes no part in equality."""

    results: tuple[str, ...]
    op: Operation
    operands: tuple[str, ...]
    types: tuple[Axes, ...]
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Program:
    """Instructions in order of execution, and the outputs: (name, value) pairs."""

    name: str
    instructions: tuple[Instruction, ...]
    outputs: tuple[tuple[str, str], ...]

    @property
    def types(self) -> dict[str, Axes]:
        """The type of every value."""
        return {r: t for i in self.instructions for r, t in zip(i.results, i.types, strict=True)}

    @property
    def loads(self) -> tuple[Load, ...]:
        """What the program reads, in order."""
        return tuple(i.op for i in self.instructions if isinstance(i.op, Load))

    def graph(self) -> nx.DiGraph:
        """The data flow: nodes are positions in `instructions`, an edge carries the `value` that it hands on."""
        graph: nx.DiGraph = nx.DiGraph()
        made: dict[str, int] = {}
        for position, instruction in enumerate(self.instructions):
            graph.add_node(position, instruction=instruction)
            for operand in instruction.operands:
                graph.add_edge(made[operand], position, value=operand)
            made.update(dict.fromkeys(instruction.results, position))
        return graph


class Invalid(Exception):
    """A program that the verifier refuses."""


def verify(program: Program) -> Program:
    """The program itself, if every value is made once, before its uses, with the type that its operation gives it."""
    types: dict[str, Axes] = {}
    for instruction in program.instructions:
        where = f"{', '.join(instruction.results)} = {instruction.op} in program '{program.name}'"
        missing = [x for x in instruction.operands if x not in types]
        if missing:
            raise Invalid(f"{where}: {', '.join(missing)} not made yet")
        try:
            expected = infer(instruction.op, tuple(types[x] for x in instruction.operands))
        except TypeMismatch as error:
            raise Invalid(f"{where}: {error}") from error
        if expected != instruction.types:
            raise Invalid(f"{where}: has type {instruction.types}, should have {expected}")
        for result, axes in zip(instruction.results, instruction.types, strict=True):
            if result in types:
                raise Invalid(f"{where}: {result} made twice")
            types[result] = axes
    lost = [value for _, value in program.outputs if value not in types]
    if lost:
        raise Invalid(f"outputs of program '{program.name}' never made: {', '.join(lost)}")
    return program


class Builder:
    """Makes a program instruction by instruction; equal instructions are made once."""

    def __init__(self, name: str, start: Iterable[Instruction] = ()) -> None:
        self.name = name
        self.origin = ""
        self.instructions: list[Instruction] = []
        self.types: dict[str, Axes] = {}
        self.makers: dict[str, Instruction] = {}
        self._made: dict[tuple[Operation, tuple[str, ...]], tuple[str, ...]] = {}
        self._counts: dict[str, int] = {}
        for instruction in start:
            self._append(instruction)

    def apply(self, op: Operation, *operands: str, name: str) -> tuple[str, ...]:
        """The results of `op`, named after `name` (with a number where that is taken)."""
        key = (op, operands)
        if key not in self._made:
            types = infer(op, tuple(self.types[x] for x in operands))
            results = tuple(self.fresh(name) for _ in types)
            self._append(Instruction(results, op, operands, types, self.origin))
        return self._made[key]

    def __call__(self, op: Operation, *operands: str, name: str) -> str:
        """The only result of `op`."""
        (result,) = self.apply(op, *operands, name=name)
        return result

    def fresh(self, name: str) -> str:
        """A name that no value has: `name`, `name_1`, `name_2`, ..."""
        while True:
            count = self._counts.get(name, 0)
            self._counts[name] = count + 1
            candidate = name if count == 0 else f"{name}_{count}"
            if candidate not in self.types:
                return candidate

    def program(self, outputs: Iterable[tuple[str, str]]) -> Program:
        """The verified program of what the outputs need."""
        return verify(prune(Program(self.name, tuple(self.instructions), tuple(outputs))))

    def _append(self, instruction: Instruction) -> None:
        self.instructions.append(instruction)
        self.types.update(zip(instruction.results, instruction.types, strict=True))
        self.makers.update(dict.fromkeys(instruction.results, instruction))
        self._made[(instruction.op, instruction.operands)] = instruction.results


def prune(program: Program) -> Program:
    """The program without instructions that no output needs."""
    graph, outputs = program.graph(), {value for _, value in program.outputs}
    ends = [n for n, instruction in enumerate(program.instructions) if outputs & set(instruction.results)]
    needed = set(ends).union(*(nx.ancestors(graph, end) for end in ends))
    return Program(program.name, tuple(program.instructions[n] for n in sorted(needed)), program.outputs)


def trim(program: Program) -> Program:
    """The same, but every load stays: an input without effect has a gradient too, of zeros."""
    kept = prune(program).instructions
    instructions = tuple(i for i in program.instructions if isinstance(i.op, Load) or i in kept)
    return Program(program.name, instructions, program.outputs)
