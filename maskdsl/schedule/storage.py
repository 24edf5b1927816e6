"""What the forward program stores for the backward one, and what that one computes again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import networkx as nx

from maskdsl.chunk.ops import Load
from maskdsl.chunk.program import Builder, Instruction, Program
from maskdsl.differentiation.differentiate import gradient_name
from maskdsl.schedule.cost import TYPICAL, elements, flops

EXPENSIVE = 24
"""Floating-point operations an element above which a result is stored rather than computed again: about what two cores,
or a GPU, do in the time in which they write and read four bytes."""


@dataclass(frozen=True)
class Schedule:
    """Two programs; `stored` names the values that the forward program puts out and the backward one loads.

    `gradients` are the names under which the backward program loads the gradients of the outputs.
    """

    forward: Program
    backward: Program
    stored: tuple[str, ...]
    gradients: tuple[str, ...]

    @property
    def gradient(self) -> str:
        """The name of the gradient of the first output, `o`."""
        return self.gradients[0]


def schedule(forward: Program, joint: Program, sizes: Mapping[str, int] = TYPICAL) -> Schedule:
    """Split a joint program (see `differentiate`) where the fewest bytes pass from forward to backward.

    A minimum cut: every value may be stored at the price of its bytes, none that is expensive may be computed
    again, inputs cost nothing.
    """
    made_forward = {r for i in forward.instructions for r in i.results}
    backward_outputs = [output for output in joint.outputs if output not in forward.outputs]
    later = [i for i in joint.instructions if not set(i.results) <= made_forward]
    needed = {x for i in later for x in i.operands if x in made_forward} | {
        value for _, value in backward_outputs if value in made_forward
    }
    stored = _cheapest(forward, needed, sizes)
    order = [r for i in forward.instructions for r in i.results if r in stored]
    return Schedule(
        Builder(forward.name, forward.instructions).program([*forward.outputs, *((name, name) for name in order)]),
        reading(joint, forward, stored).program(backward_outputs),
        tuple(order),
        tuple(gradient_name(forward, name) for name, _ in forward.outputs),
    )


def _cheapest(forward: Program, needed: set[str], sizes: Mapping[str, int]) -> set[str]:
    types = forward.types
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(["source", "sink"])
    for instruction in forward.instructions:
        for result, axes in zip(instruction.results, instruction.types, strict=True):
            free = isinstance(instruction.op, Load)
            graph.add_edge((result, "in"), (result, "out"), capacity=0 if free else elements(axes, sizes))
            if free or _expensive(instruction, types, sizes):
                graph.add_edge("source", (result, "in"))
            for operand in instruction.operands:
                graph.add_edge((operand, "out"), (result, "in"))
    for value in needed:
        graph.add_edge((value, "out"), "sink")
    if not needed:
        return set()
    _, (reachable, _) = nx.minimum_cut(graph, "source", "sink")
    loads = {r for i in forward.instructions if isinstance(i.op, Load) for r in i.results}
    return {v for v in types if v not in loads and (v, "in") in reachable and (v, "out") not in reachable}


def _expensive(instruction: Instruction, types: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int]) -> bool:
    made = sum(elements(axes, sizes) for axes in instruction.types)
    return flops(instruction, types, sizes) > EXPENSIVE * made


def reading(joint: Program, forward: Program, stored: set[str]) -> Builder:
    """The joint program with stored values loaded."""
    types = joint.types
    result = []
    for instruction in joint.instructions:
        kept = [r for r in instruction.results if r in stored]
        result += [Instruction((r,), Load(r, types[r]), (), (types[r],), "stored by the forward pass") for r in kept]
        rest = [r for r in instruction.results if r not in stored]
        if rest:
            # a multi-result instruction that is stored in part is computed again under names of its own
            renamed = tuple(r if r in rest else f"{r}_again" for r in instruction.results)
            result.append(
                Instruction(renamed, instruction.op, instruction.operands, instruction.types, instruction.origin)
            )
    return Builder(joint.name, result)
