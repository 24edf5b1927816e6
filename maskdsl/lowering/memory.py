"""What a spec keeps of the tokens it has seen: one memory for each attend and term of its mask.

At position pos, the number of tokens seen, A[u] being the step operator of token u:

- no hierarchy, no window: `state` [B, H, K, V], the sum over s < pos of A[pos-1] ... A[s+1] k[s] v[s]';
- a hierarchy: `states` [B, H, M, K, V], whose row j-1 is that sum over the s with level(pos, s) = j, for j = 1 .. M.
  A decay that commutes with everything waits in `logs` [B, H, M], or [B, H, M, K] where it is a diagonal, so that a
  step writes only what changes: exp(logs) * states is meant. Paths with rank-one steps have no logs. M = L - 1;
- a window of w: the last w - 1 tokens as `keys` [B, H, w-1, K], each moved on to pos by the A since it came, and
  `values` [B, H, w-1, V], with `logs` of the keys [B, H, w-1] or [B, H, w-1, K] likewise. Token s lies in slot
  s mod (w - 1); what is missing is zero. A window of 1 keeps nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from maskdsl.chunk import axes as ax
from maskdsl.chunk.ops import Axes
from maskdsl.mask.normal import Decay, Term, without_flat_hierarchy
from maskdsl.mask.normalize import normalize
from maskdsl.spec import Attend, Spec

POSITIONS = "state.positions"
"""Under this name programs load how many tokens each sequence has seen, [B]."""

STATE, STATES, KEYS, VALUES, LOGS = "state", "states", "keys", "values", "logs"


@dataclass(frozen=True)
class Buffer:
    """One tensor of a memory."""

    name: str
    axes: Axes


@dataclass(frozen=True)
class Memory:
    """What one term of an attend keeps; `name` is that of the attend and the term's number."""

    name: str
    term: Term
    buffers: tuple[Buffer, ...]

    def full_name(self, buffer: Buffer) -> str:
        """The name of a buffer among those of all memories; no input can have it."""
        return f"{self.name}.{buffer.name}"


@functools.lru_cache(maxsize=64)
def memories(spec: Spec) -> tuple[Memory, ...]:
    """The memories of a spec, in the order of its attends and their terms."""
    attends = [(each.name, each.node) for each in spec.definitions if isinstance(each.node, Attend)]
    return tuple(memory for name, node in attends for memory in memories_of(name, node))


def memories_of(name: str, node: Attend) -> tuple[Memory, ...]:
    """The memories of one attend, one for each term of its normal form; a hierarchy that weighs all alike is none."""
    terms = [without_flat_hierarchy(term)[0] for term in normalize(node.mask).terms]
    return tuple(Memory(f"{name}_{number}", term, _buffers(term)) for number, term in enumerate(terms, start=1))


def _buffers(term: Term) -> tuple[Buffer, ...]:
    if term.window is not None:
        return _ring(term, ax.slots(term.window - 1)) if term.window > 1 else ()
    if term.hierarchy is None:
        return (Buffer(STATE, ("B", "H", "K", "V")),)
    return (Buffer(STATES, ("B", "H", "M", "K", "V")), *_logs(term, "M"))


def _ring(term: Term, slots: str) -> tuple[Buffer, ...]:
    return (Buffer(KEYS, ("B", "H", slots, "K")), Buffer(VALUES, ("B", "H", slots, "V")), *_logs(term, slots))


def stays(term: Term) -> bool:
    """Whether the path leaves what levels and windows keep as it is: one decay waits in logs, no step does nothing."""
    return not term.path or (len(term.path) == 1 and isinstance(term.path[0], Decay))


def _logs(term: Term, rows: str) -> tuple[Buffer, ...]:
    """The logs of a path that is one decay; any other path acts on what is kept itself."""
    match term.path:
        case (Decay(g),):
            return (Buffer(LOGS, ("B", "H", rows, *(("K",) if g.kind.feature else ()))),)
    return ()
