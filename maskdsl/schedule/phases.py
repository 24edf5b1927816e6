"""In which kernel, counted from the first, each value of a program can be made at the earliest, or had better be made.

The *phase* of a value is the number of operations between chunks on the longest way to it, and of waits that suit
kernels: for the gates that a first kernel makes, for the tree of a hierarchy, for the precise part of a path.
"""

from __future__ import annotations

from collections.abc import Mapping

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction, Program
from maskdsl.schedule.kinds import (
    BETWEEN,
    HEAVY,
    IN_MEMORY,
    LOOKING,
    PAIRS,
    crosses,
    is_pairs,
    made_at_once,
    solves_back,
)
from maskdsl.schedule.rows import is_slow, of_positions, scales_rows
from maskdsl.schedule.systems import answers, scanned, solved_systems, system_pairs


class Phases:
    """The phases of a program; `gradients` and `precise` are those of its values that depend on d_o, or need precision.

    `rows` are the values of positions that the first kernel makes, `again` what the backward pass computes again of the
    precise part of a path. A kernel that is `roomy` holds two states and what a chunk works on at once.
    """

    def __init__(
        self, program: Program, gradients: frozenset[str], precise: frozenset[str], roomy: bool = False
    ) -> None:
        self.program, self.types, self.gradients, self.precise = program, program.types, gradients, precise
        self.maker = {r: i for i in program.instructions for r in i.results}
        self.totals = tuple(i for i in program.instructions if crosses(i, self.types))
        self.rows, self.again, self._feeding = self._slow_rows(), self._made_again(), self._needed_between()
        self._at_once = roomy and not precise and self._light()
        self._channelwise = any(isinstance(i.op, PAIRS) for i in program.instructions)
        self._worked: dict[str, int] = {}  # the last phase in which something heavy is done for a value
        self._systems = [x for x in solved_systems(program) if isinstance(self.maker[x].op, ops.Inverse)]
        self._pairs, self._scanned, self.answers = system_pairs(program), scanned(program), answers(program)
        self._turned = frozenset[str]() if self._pairs else precise & gradients
        """Gradients inside the path of blocks, which is more work than a kernel has registers for."""
        self._layer = self._layers()
        self._fronts: dict[str, int] = {}
        """The phase that all of a kind wait for: the latest of them."""
        self.of = self._found()
        for kind, belongs in (
            ("rounded", self._rounds),
            ("handed", self._hands_down),
            ("banded", lambda i: isinstance(i.op, ops.BandAdjoint)),
            ("entered", self._enters_path),  # at once, and after all that is done on states
            ("left", self._leaves_pairs),
        ):
            found = [self.of[i.results[0]] for i in program.instructions if belongs(i)]
            if found:
                self._fronts[kind] = max(found)
                self.of = self._found()

    @property
    def handed(self) -> int | None:
        """The phase after the tree of a hierarchy, or a scan that solves systems, in the backward pass.

        Or after any scan, where a kernel has room for all gradients of a chunk: what they share is not kept in between.
        """
        return self._fronts.get("handed")

    def _hands_down(self, instruction: Instruction) -> bool:
        """Whether an instruction carries gradients of states from chunk to chunk, and takes much memory."""
        scan = self._at_once and isinstance(instruction.op, ops.Scan) and instruction.op.reverse
        return scan or isinstance(instruction.op, ops.TreeAdjoint) or solves_back(instruction)

    def _light(self) -> bool:
        """Whether there is one scan, and vectors are inputs but for decays of their rows: little beside its states."""
        types = self.types
        scans = [i for i in self.program.instructions if isinstance(i.op, ops.Scan)]
        made = [i for i in self.program.instructions if isinstance(i.op, ops.Map) and {"K", "V"} & {*i.types[0]}]
        given = [i for i in made if not self.gradients & {*i.results}]
        decayed = all(scales_rows(i, types) and "T" not in i.types[0] for i in given)
        shared = any(axis.startswith("H/") for axes in types.values() for axis in axes)
        return len(scans) == 1 and decayed and not shared

    def phase_of(self, instruction: Instruction, phases: Mapping[str, int] | None = None) -> int:
        """The phase in which an instruction is done.

        Kernels of few registers: the adjoint of a band waits for all that needs none. In the backward pass of a
        hierarchy what happens inside chunks comes after its tree, and what needs the tree after that, so that the
        states of the forward pass are no longer in memory by then. Where scans solve systems it comes after the last.
        """
        known = self.of if phases is None else phases
        op = instruction.op
        looking = isinstance(instruction.op, LOOKING)
        waits = {x: self._waits_for(x) or (looking and self._worked[x] == known[x]) for x in instruction.operands}
        ready = max((known[x] + wait for x, wait in waits.items()), default=0)
        wide = not of_positions(instruction.types[0])
        if self.rows and wide and any(self._after_rows(x) for x in instruction.operands):
            ready = max(ready, 1)
        if self.rows and self.precise and any("K" in self.types[x] for x in instruction.operands):
            # the first kernel reads no vectors
            ready = max(ready, 1)
        if self.handed is not None and type(op) not in IN_MEMORY:
            ready += not self.precise and any(
                known[x] == ready and isinstance(self.maker[x].op, ops.TreeAdjoint) for x in instruction.operands
            )
            if self._inside(instruction):
                # what needs the last gradients of states comes first: they take much memory
                later = bool(self.answers) and instruction.results[0] not in self.answers
                ready = max(ready, self.handed + later)
            if self._made_later(instruction):
                # after what walks leave in memory is gone
                ready = max(ready, self.handed - 1)
        if isinstance(op, ops.KeepAdjoint):
            # beside what the window's pairs give to the same keys and values
            ready = max(ready, self._fronts.get("banded", 0))
        if self._rounds(instruction):
            ready = max(ready, self._fronts.get("rounded", 0))
        if self._enters_path(instruction):
            ready = max(ready + 1, self._fronts.get("entered", 0), (self.handed or 0) + 2 if self._pairs else 0)
        if self._leaves_pairs(instruction):
            ready = max(ready, self._fronts.get("left", 1) - 1)
        return ready + isinstance(op, ops.BandAdjoint) + self.divides(instruction)

    def divides(self, instruction: Instruction) -> bool:
        """Whether the gradient inside a path waits in memory for an instruction: its products would fill no kernel.

        After the first product that a gradient goes through on its way into a path, where it goes on through the
        triangular system; and before the last ones.
        """
        return self._leaves_pairs(instruction) or self._second(instruction)

    def _found(self) -> dict[str, int]:
        phases: dict[str, int] = {}
        for instruction in self.program.instructions:
            phase = self.phase_of(instruction, phases)
            after = made_at_once(instruction)
            for n, result in enumerate(instruction.results):
                phases[result] = phase + (n in after)
                self._worked[result] = max((self._worked[x] for x in instruction.operands), default=-1)
                if isinstance(instruction.op, HEAVY) and n not in after:
                    self._worked[result] = phases[result]
        return phases

    def _slow_rows(self) -> frozenset[str]:
        """The values of positions that a first kernel makes: slow ones that something wider waits for.

        The backward pass finds them where the forward pass has left them.
        """
        slow: set[str] = set()
        behind: set[str] = set()  # values of positions that depend on slow ones
        needed = False
        for instruction in self.program.instructions:
            narrow = of_positions(instruction.types[0])
            if narrow and is_slow(instruction) and not self.gradients & set(instruction.results):
                slow |= set(instruction.results)
            elif not (narrow and (slow | behind) & set(instruction.operands)):
                needed |= bool((slow | behind) & set(instruction.operands))
                continue
            behind |= set(instruction.results)
        return frozenset(slow if needed and not self.gradients else ())

    def _made_again(self) -> frozenset[str]:
        """What the backward pass computes again of the precise part of a path.

        It waits in memory for all that uses it: that part is a kernel of its own.
        """
        narrow = {i.results[0] for i in self.program.instructions if i.op == ops.Cast(wide=False)}
        worked: set[str] = set()
        for instruction in self.program.instructions:
            if isinstance(instruction.op, ops.Dot) or worked & set(instruction.operands):
                worked |= set(instruction.results)
        return frozenset((narrow & worked) - self.gradients if self.gradients else ())

    def _needed_between(self) -> frozenset[str]:
        """All that an operation between chunks needs, or where scans solve systems, the last ones."""
        scans = [i for i in self.program.instructions if solves_back(i)]
        between = scans or [
            i
            for i in self.program.instructions
            if (type(i.op) in IN_MEMORY or isinstance(i.op, BETWEEN))
            # what pairs give to vectors is found inside chunks; where systems are not in the way it may come early
            and not (self.precise and isinstance(i.op, PAIRS))
        ]
        found: set[str] = set()
        for instruction in reversed(self.program.instructions):
            if instruction in between or found & set(instruction.results):
                found |= set(instruction.operands)
        return frozenset(found)

    def _leaves_pairs(self, instruction: Instruction) -> bool:
        """Whether an instruction takes a gradient from pairs of positions to their vectors, at the end of a path."""
        if not isinstance(instruction.op, ops.Dot) or instruction.results[0] not in self._turned:
            return False
        pairs = any(x in self.gradients and is_pairs(self.types[x]) for x in instruction.operands)
        return pairs and not is_pairs(instruction.types[0])

    def _layers(self) -> Mapping[str, int]:
        """How many products of the precise part of a path lie on the longest way of a gradient to a value."""
        layers: dict[str, int] = {}
        for instruction in self.program.instructions:
            layer = max((layers[x] for x in instruction.operands), default=0)
            counts = isinstance(instruction.op, ops.Dot) and instruction.results[0] in self._turned
            layers |= dict.fromkeys(instruction.results, layer + counts)
        return layers

    def _second(self, instruction: Instruction) -> bool:
        """Whether an instruction makes vectors by the second product that a gradient goes through inside a path."""
        reached = max((self._layer[x] for x in instruction.operands), default=0)
        second = reached == 1 and self._layer[instruction.results[0]] == 2
        return second and not is_pairs(instruction.types[0])

    def _rounds(self, instruction: Instruction) -> bool:
        """Whether an instruction rounds what a path hands to states: one kernel leaves all of it in memory."""
        later = (self.gradients | self._scanned) & set(instruction.results)
        return instruction.op == ops.Cast(wide=False) and not later and not of_positions(instruction.types[0])

    def _waits_for(self, value: str) -> bool:
        """Whether a value waits in memory for all that uses it.

        What the backward pass computes again of a path, and where programs split channels the inverse of a system,
        which all of them would work out.
        """
        return value in self.again or (value in self._systems and self._channelwise)

    def _enters_path(self, instruction: Instruction) -> bool:
        """Whether an instruction takes a gradient into the part of a path that is worked out in more precision.

        That part is a kernel of its own: beside the products of states there would be registers for neither.
        """
        if self._pairs:
            return isinstance(instruction.op, ops.Dot) and bool(self._pairs & {*instruction.results})
        gradient = bool(self.gradients & set(instruction.results))
        return gradient and instruction.op == ops.Cast(wide=True) and not of_positions(instruction.types[0])

    def _inside(self, instruction: Instruction) -> bool:
        """Whether an instruction is work on gradients inside chunks that nothing between chunks waits for."""
        heavy = isinstance(instruction.op, ops.Dot | ops.SelectAdjoint | ops.SpansAdjoint) or instruction in self.totals
        results = set(instruction.results)
        return heavy and bool(results & self.gradients) and not results & self._feeding

    def _made_later(self, instruction: Instruction) -> bool:
        """Whether an instruction works again on what a path makes inside chunks, and no walk reads that."""
        results = set(instruction.results)
        heavy = isinstance(instruction.op, ops.Dot) or bool(results & self.again)
        return bool(self.again) and not self._pairs and heavy and not results & (self.gradients | self._feeding)

    def _after_rows(self, value: str) -> bool:
        """Whether a value of positions waits for the first kernel."""
        if value in self.rows:
            return True
        return of_positions(self.types[value]) and any(self._after_rows(x) for x in self.maker[value].operands)
