"""A path inside one chunk, reduced to four values: scores, pulled queries, pushed keys and the chunk's operator.

The step operator of a position is a product of decays and of rank-one steps I + a b'. Let W be what the rank-one steps
read: w = b' S before each step. With T, B and Q the decayed dots of b with a, b with k and q with a,

    (I - T) W = B~ S0 + B V,          B~ the b pulled back to the chunk's start,

so that one triangular system gives everything (the WY or UT form, Bischof and Van Loan 1987; Yang et al.,
arXiv 2406.06484). Several rank-one steps a position are woven into one system; decays of any kind only change the dots.

Where a step pushes along the very key that is written, a = c k as in the delta rule, what both write is k~' Y with

    (I - cB) Y = V + c B~ S0,         Y = V + c W,

and the inverse of that system alone takes the place of two products with it.
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


def block(emit: Emitter, time: Timeline, reflections: Sequence[Reflection], q: Vector, k: Vector) -> Block:
    """The block of a path; queries and keys stand at the end of their position."""
    end = time.steps
    scores = time.pairs(q, end, k, end, 0, "scores")
    pulled = time.pulled(q, end, "pulled")
    pushed = time.pushed(k, end, "pushed")
    if not reflections:
        return Block(scores, pulled, pushed, time.total())

    if len(reflections) == 1 and _writes_key(reflections[0], k, end):
        return _delta(emit, time, reflections[0], scores, pulled, pushed, k)
    system = emit.weave(3, [_reads_of(emit, time, reflections, reader) for reader in range(len(reflections))])
    reads = emit.weave(3, [time.pairs(r.b, r.point, k, end, -1, "reads") for r in reflections])
    answers = emit.weave(4, [time.pairs(q, end, r.a, r.point, 0, "answers") for r in reflections])
    entering = emit.weave(3, [time.pulled(r.b, r.point, "entering") for r in reflections])
    leaving = emit.weave(3, [time.pushed(r.a, r.point, "leaving") for r in reflections])

    inverse = emit(ops.Inverse(wide=True), system, name="inverse")
    written = emit.dot(inverse, reads, "written")
    carried = emit.dot(inverse, entering, "carried")
    return Block(
        scores=emit.add(scores, emit.dot(answers, written, "corrections"), "scores_path"),
        pulled=emit.add(pulled, emit.dot(answers, carried, "pulled_corrections"), "pulled_path"),
        pushed=emit.add(pushed, emit.dot(written, leaving, "pushed_corrections", tx=True), "pushed_path"),
        decay=time.total(),
        rank_one=(leaving, carried),
    )


def _writes_key(step: Reflection, k: Vector, end: int) -> bool:
    """Whether a step pushes along a multiple of the key, at its place."""
    return step.a.value == k.value and step.point == end and step.b.coefficient == k.coefficient == sympy.S.One


def _delta(emit: Emitter, time: Timeline, step: Reflection, scores: str, pulled: str, pushed: str, k: Vector) -> Block:
    """The block of a path with one step a position, along a multiple of the key."""
    reader = Vector(step.b.value, step.a.coefficient)
    system = time.pairs(reader, step.point, k, time.steps, -1, "system")
    inverse = emit(ops.Inverse(), system, name="inverse")
    carried = emit.dot(inverse, time.pulled(reader, step.point, "entering"), "carried")
    return Block(
        scores=emit.dot(scores, inverse, "scores_path"),
        pulled=emit.add(pulled, emit.dot(scores, carried, "pulled_corrections"), "pulled_path"),
        pushed=emit.dot(inverse, pushed, "pushed_path", tx=True),
        decay=time.total(),
        rank_one=(pushed, carried),
    )


def _reads_of(emit: Emitter, time: Timeline, reflections: Sequence[Reflection], reader: int) -> str:
    """What step `reader` of a position reads of all steps: earlier positions', and its own that act before it."""
    b = reflections[reader]
    columns = [
        time.pairs(b.b, b.point, a.a, a.point, 0 if source < reader else -1, "system")
        for source, a in enumerate(reflections)
    ]
    return emit.weave(4, columns)
