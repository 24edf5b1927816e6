"""A path inside one chunk, reduced to what chunks hand to each other.

The step operator of a position is a product of decays and of rank-one steps I + a b'. Let W be what the rank-one steps
read: w = b' S before each step. With T, B and Q the decayed dots of b with a, b with k and q with a,

    (I - T) W = B~ S0 + B V,          B~ the b pulled back to the chunk's start,

so that one triangular system gives everything (the WY or UT form, Bischof and Van Loan 1987; Yang et al.,
arXiv 2406.06484). Several rank-one steps a position are woven into one system; decays of any kind only change the dots.

Where a step pushes along the very key that is written, a = c k as in the delta rule, what both write is k~' Y with

    (I - cB) Y = V + c B~ S0,         Y = V + c W.

A scan solves the system of a chunk for the state that has come there. Blocks of a hierarchy and bands are read before
any state is known: they take the solution for all states, which is more work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sympy

from maskdsl.chunk import ops
from maskdsl.lowering.emit import Emitter
from maskdsl.lowering.timeline import Timeline, Vector


@dataclass(frozen=True)
class Reflection:
    """A rank-one step I + a b' of every position, at a point of the timeline."""

    a: Vector
    b: Vector
    point: int


@dataclass(frozen=True)
class Block:
    """A chunk as the graph between chunks sees it.

    scores [.., C, C] are q[c]' M[c, s] k[s]; pulled [.., C, K] the queries at the chunk's start; pushed [.., C, K] the
    keys at its end. The product of its steps is exp(decay) + leaving' carried, the second part with rank-one steps
    only: leaving, carried [.., C, K].
    """

    scores: str
    pulled: str
    pushed: str
    decay: str
    rank_one: tuple[str, ...] = ()

    def changed(self, change: Callable[[str], str]) -> Block:
        """The block with every value changed."""
        scores, pulled, pushed, decay = map(change, (self.scores, self.pulled, self.pushed, self.decay))
        return Block(scores, pulled, pushed, decay, tuple(map(change, self.rank_one)))


@dataclass(frozen=True)
class Steps:
    """The rank-one steps of a chunk, R rows for all of them, before their system is solved.

    (I - system) W = reads V + entering S0; W adds leaving' W to the state after the chunk and answers W to what queries
    read. Without `reads` the keys' own writes are among these: W is Y, and reads are the identity.
    """

    system: str
    entering: str
    leaving: str
    answers: str
    reads: str | None


def decays(time: Timeline, q: Vector, k: Vector) -> Block:
    """The block of a path but for its rank-one steps; queries and keys stand at the end of their position."""
    end = time.steps
    return Block(
        time.pairs(q, end, k, end, 0, "scores"),
        time.pulled(q, end, "pulled"),
        time.pushed(k, end, "pushed"),
        time.total(),
    )


def steps(emit: Emitter, time: Timeline, reflections: Sequence[Reflection], q: Vector, k: Vector) -> Steps:
    """The rank-one steps of a path."""
    end = time.steps
    if len(reflections) == 1 and _writes_key(reflections[0], k, end):
        (step,) = reflections
        reader, plain = Vector(step.b.value, step.a.coefficient), decays(time, q, k)
        return Steps(
            system=time.pairs(reader, step.point, k, end, -1, "system"),
            entering=time.pulled(reader, step.point, "entering"),
            leaving=plain.pushed,
            answers=plain.scores,
            reads=None,
        )
    return Steps(
        system=emit.weave(3, [_reads_of(emit, time, reflections, reader) for reader in range(len(reflections))]),
        reads=emit.weave(3, [time.pairs(r.b, r.point, k, end, -1, "reads") for r in reflections]),
        answers=emit.weave(4, [time.pairs(q, end, r.a, r.point, 0, "answers") for r in reflections]),
        entering=emit.weave(3, [time.pulled(r.b, r.point, "entering") for r in reflections]),
        leaving=emit.weave(3, [time.pushed(r.a, r.point, "leaving") for r in reflections]),
    )


def solved(emit: Emitter, found: Steps) -> str:
    """The inverse of the system of rank-one steps."""
    return emit(ops.Inverse(wide=found.reads is not None), found.system, name="inverse")


def block(emit: Emitter, time: Timeline, reflections: Sequence[Reflection], q: Vector, k: Vector) -> Block:
    """The block of a path, its system solved for every state."""
    plain = decays(time, q, k)
    if not reflections:
        return plain
    found = steps(emit, time, reflections, q, k)
    inverse = solved(emit, found)
    carried = emit.dot(inverse, found.entering, "carried")
    pulled = emit.add(plain.pulled, emit.dot(found.answers, carried, "pulled_corrections"), "pulled_path")
    if found.reads is None:
        scores = emit.dot(found.answers, inverse, "scores_path")
        pushed = emit.dot(inverse, found.leaving, "pushed_path", tx=True)
    else:
        written = emit.dot(inverse, found.reads, "written")
        scores = emit.add(plain.scores, emit.dot(found.answers, written, "corrections"), "scores_path")
        corrections = emit.dot(written, found.leaving, "pushed_corrections", tx=True)
        pushed = emit.add(plain.pushed, corrections, "pushed_path")
    return Block(scores, pulled, pushed, plain.decay, (found.leaving, carried))


def _writes_key(step: Reflection, k: Vector, end: int) -> bool:
    """Whether a step pushes along a multiple of the key, at its place."""
    return step.a.value == k.value and step.point == end and step.b.coefficient == k.coefficient == sympy.S.One


def _reads_of(emit: Emitter, time: Timeline, reflections: Sequence[Reflection], reader: int) -> str:
    """What step `reader` of a position reads of all steps: earlier positions', and its own that act before it."""
    b = reflections[reader]
    columns = [
        time.pairs(b.b, b.point, a.a, a.point, 0 if source < reader else -1, "system")
        for source, a in enumerate(reflections)
    ]
    return emit.weave(4, columns)
