"""The operations of the chunk IR, one page.

A value is a tensor whose type is a tuple of axis names:

    B T H K V L      batch, token, head, key channel, value channel, level
    H/r              key-side heads, each shared by r consecutive heads
    N64 C64 C64*2    chunks of 64 positions; positions of a chunk; the same with 2 rows a position
    E64b2            nodes of a tree of base 2 over chunks of 64
    M                rows of a state under a hierarchy, one for each level but the first: L - 1
    R19              slots of a ring that holds the last 19 tokens; in laid-out programs these tokens, oldest first
    S                sequences of a batch row, in laid-out programs
    1                an axis of one element, which broadcasts

A value is at token level, [B, T, h] or [B, T, h, X], or at chunk level, [B, h, N, C] or [B, h, N, rows, columns].
A step of a path has `steps` decays a position, so its log decays are [B, h, N, C*steps(, K)]; a *point* p lies after
p of them, and the point `offset` of position c is p = c * steps + offset. The operator A of a chunk is a number
[B, h, N, 1, 1], a diagonal [B, h, N, K, 1] or a matrix [B, h, N, K, K]; it acts on states H, [B, h, N, K, V].

A matrix is held as it is, a number or a diagonal as its log: a state goes from S to exp(A) * S + H, and blocks
compose by adding logs. The operations between chunks take A and EA so, and give gradients with respect to what they
take; their formulas below are written for matrices.

A step has one token, the axis T being 1. What it reads and writes of a state is [B, h, M, K, V], or [B, h, 1, R, X] for
a ring; `pos` [B] is how many tokens each sequence has seen, hence the token's position.

In a program that is *laid out*, a batch row holds S sequences one after another, each from a position of its own on,
and N counts slots: slot n holds those tokens of one sequence that lie in one of its chunks, with zeros where it has
none. Chunks begin at multiples of their size from position 0 of a sequence, whatever position it is resumed from; an
empty sequence has no slots, and slots that are left over are zero. `maskdsl.chunk.sequences` says which is which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import sympy

from maskdsl.mask.levels import Admissibility
from maskdsl.scalar.symbols import symbol

Axes = tuple[str, ...]
_Operand = TypeVar("_Operand")


def argument(index: int) -> sympy.Symbol:
    """The symbol by which the expression of a `Map` mentions an operand."""
    return symbol(f"x{index}")


@dataclass(frozen=True)
class Operation:
    """What an instruction does; the fields are its constants."""


def matrices(operands: Iterable[Axes]) -> bool:
    """Whether the operators among the operands of an operation between chunks are matrices, hence no logs."""
    return any(axes[-2:] == ("K", "K") for axes in operands)


# -- inputs and layout


@dataclass(frozen=True)
class Load(Operation):
    """An input, a stored value or a gradient handed in, by name."""

    name: str
    axes: Axes


@dataclass(frozen=True)
class Constant(Operation):
    """A tensor of `axes` filled with one number, an expression over the dimensions."""

    expr: sympy.Expr
    axes: Axes


@dataclass(frozen=True)
class Identity(Operation):
    """The identity matrix over key channels, [1, 1, 1, K, K]."""


@dataclass(frozen=True)
class Align(Operation):
    """The same elements with axes of one element inserted or dropped."""

    axes: Axes


@dataclass(frozen=True)
class Expand(Operation):
    """Broadcast axes of one element to `axes`."""

    axes: Axes


@dataclass(frozen=True)
class Repeat(Operation):
    """Key-side heads to all heads: head h reads key-side head h // r. `dim` is the head axis."""

    dim: int


@dataclass(frozen=True)
class GroupSum(Operation):
    """All heads summed over the groups of r that share a key-side head: the adjoint of `Repeat`."""

    ratio: int
    dim: int


@dataclass(frozen=True)
class Chunk(Operation):
    """Token level to chunk level, the last chunk padded with zeros."""

    size: int


@dataclass(frozen=True)
class Unchunk(Operation):
    """Chunk level to token level, the padding dropped."""

    size: int


@dataclass(frozen=True)
class Shift(Operation):
    """result[n] = x[n - by] along the chunk axis, zero where there is no such chunk, or it is of another sequence."""

    by: int


@dataclass(frozen=True)
class Transpose(Operation):
    """The last two axes exchanged."""


@dataclass(frozen=True)
class Weave(Operation):
    """r operands interleaved along axis `dim`: result[c * r + i] = operand i [c]."""

    dim: int


@dataclass(frozen=True)
class Pick(Operation):
    """result[c] = x[c * stride + offset] along axis `dim`."""

    offset: int
    stride: int
    dim: int


@dataclass(frozen=True)
class Place(Operation):
    """result[c * stride + offset] = x[c] along axis `dim`, zero elsewhere: the adjoint of `Pick`."""

    offset: int
    stride: int
    dim: int


@dataclass(frozen=True)
class Cast(Operation):
    """The same numbers in float64 (`wide`), or back in the precision of the call."""

    wide: bool


# -- arithmetic


@dataclass(frozen=True)
class Map(Operation):
    """An elementwise expression over `x0`, `x1`, ... (the operands, broadcast) and the dimensions."""

    expr: sympy.Expr


@dataclass(frozen=True)
class Sum(Operation):
    """The sum over the axes `dims`, which stay as axes of one element."""

    dims: tuple[int, ...]


@dataclass(frozen=True)
class Dot(Operation):
    """The matrix product of the last two axes of x and y, each transposed first where asked."""

    transpose_x: bool = False
    transpose_y: bool = False


@dataclass(frozen=True)
class Cumsum(Operation):
    """The running sum along the position axis, from the end where `reverse`, without the element if `exclusive`."""

    reverse: bool = False
    exclusive: bool = False


@dataclass(frozen=True)
class Inverse(Operation):
    """The inverse of I - L for a strictly lower triangular L: a triangular solve for every right-hand side at once.

    `wide` asks for more digits than ten bits have, where what the inverse is multiplied by nearly cancels.
    """

    wide: bool = False


# -- pairs of positions of one chunk


@dataclass(frozen=True)
class Spans(Operation):
    """E[c, s] = the sum of the log decays from point (s, column) to point (c, row), 0 where that is backwards."""

    steps: int
    row: int
    column: int


@dataclass(frozen=True)
class SpansAdjoint(Operation):
    """dE -> dg."""

    steps: int
    row: int
    column: int


@dataclass(frozen=True)
class DecayDot(Operation):
    """(q, k, g) -> S[c, s] = sum over channels of q[c] k[s] exp(span of g between them), for s <= c + diagonal.

    Spans are as in `Spans`, one a channel. No exponent is ever positive.
    """

    steps: int
    row: int
    column: int
    diagonal: int


@dataclass(frozen=True)
class DecayDots(Operation):
    """(q, r, k, g) -> the `DecayDot` of q and k up to the diagonal, and above it the transpose of that of r and k."""

    steps: int
    row: int
    column: int


@dataclass(frozen=True)
class DecayDotAdjoint(Operation):
    """(dS, q, k, g) -> dq, dk, dg."""

    steps: int
    row: int
    column: int
    diagonal: int


@dataclass(frozen=True)
class Tril(Operation):
    """Keep S[c, s] where s <= c + diagonal, zero elsewhere."""

    diagonal: int = 0


@dataclass(frozen=True)
class Near(Operation):
    """Keep S[c, s] where c - s < width, zero elsewhere."""

    width: int


@dataclass(frozen=True)
class Select(Operation):
    """lam -> W[c, s] = lam[c, level(c, s)] for s <= c, zero elsewhere.

    A sequence shorter than a chunk may come with fewer levels than a chunk has: those beyond read the last one, on
    padding.
    """

    base: int
    admissibility: Admissibility


@dataclass(frozen=True)
class SelectAdjoint(Operation):
    """dW -> dlam."""

    base: int
    admissibility: Admissibility


# -- the graph between chunks


@dataclass(frozen=True)
class Scan(Operation):
    """(A, H[, I]) -> S[, F]: S[0] = I, S[n + 1] = A[n] S[n] + H[n], F = S[N].

    Reversed: P[N - 1] = I, P[n - 1] = A[n]' P[n] + H[n], F = P[-1]. S[n] is there only for n divisible by `every`. I
    and F are [B, H, S, K, V]: I is there where the scan has an `initial` state, and zero otherwise; F is there where it
    has a `final` one. In a program that is laid out every sequence has a scan of its own slots.
    """

    reverse: bool = False
    every: int = 1
    initial: bool = False
    final: bool = False


@dataclass(frozen=True)
class SolvedScan(Operation):
    """(A, a, b, u, X[, H][, I]) -> S, W[, F]: a scan whose chunks solve a system for what they write.

    S[0] = I, W[n] = X[n] (u[n] + b[n] S[n]), S[n + 1] = A[n] S[n] + a[n]' W[n] + H[n], no H being zero. Reversed:
    S[N - 1] = I, W[n] = X[n]' (u[n] + a[n] S[n]), S[n - 1] = A[n]' S[n] + b[n]' W[n] + H[n]. X [.., R, R] is the
    inverse of a system of R rows a chunk, a and b are [.., R, K], u and W [.., R, V]; A is a number or a diagonal. I
    and F are as in `Scan`.
    """

    reverse: bool = False
    initial: bool = False
    final: bool = False

    def rest(self, operands: Sequence[_Operand]) -> tuple[_Operand | None, _Operand | None]:
        """H and I of the operands, None for what is absent."""
        writes = operands[5] if len(operands) > 5 + self.initial else None
        return writes, operands[-1] if self.initial else None


@dataclass(frozen=True)
class Resume(Operation):
    """(R, A, P, w, S) -> R @ S for the states S of a scan of A and P' w, of which only every second one is read.

    o[n] = R[n] S[n] for even n, and R[n] (A[n-1] S[n-1] + P[n-1]' w[n-1]), multiplied out, for odd n. A is a number, P
    [.., C, K] are the keys pushed to the end of their chunk.
    """


@dataclass(frozen=True)
class Tree(Operation):
    """(A, H[, P, v][, I]) -> EA, EH[, F]: the affine map of every whole aligned block of base**p chunks, for all p.

    Blocks compose: (A2, H2) after (A1, H1) is (A2 A1, A2 H1 + H2); of logs, (A2 + A1, exp(A2) * H1 + H2).

    In a program that is laid out, blocks are aligned by position 0 of a sequence and hold as much as it has of them,
    and a tree may be of chunks to which P' v is written. F is what that leaves at each level, as in `Relay` of the same
    `admissibility`, where the tree has a `final` state; I comes in where it has an `initial` one as well.
    """

    base: int
    initial: bool = False
    final: bool = False
    admissibility: Admissibility = "weak"


@dataclass(frozen=True)
class TreeAdjoint(Operation):
    """(EA, EH, dEA, dEH[, dF, A][, P, v][, I]) -> dA, dH[, dI]; what P and v get is another operation's business.

    P and v are there under strong admissibility, where the last chunk decays what keys of the one before it leave.
    """

    base: int
    initial: bool = False
    final: bool = False
    admissibility: Admissibility = "weak"


@dataclass(frozen=True)
class LeftAdjoint(Operation):
    """(dF[, A], P, v) -> dP, dv: the gradients of a tree's final states with respect to keys and values.

    Only those of a last chunk that is not full have any; what full chunks write comes in as H. Under strong
    admissibility those of the chunk before the last position's have some too, and A is there.
    """

    base: int
    admissibility: Admissibility = "weak"


@dataclass(frozen=True)
class Walk(Operation):
    """(R, EA, EH, lam[, I]) -> o: the reads of a hierarchy beyond a chunk's near neighbours, nearest block first.

    For each block that chunk n reads: o += lam[:, level] * (R @ EH[block]), then R = R @ EA[block]. R [.., C, K] is
    the query pulled back to the start of chunk n (weak) or of chunk n - 1 (strong). In a program that is laid out it
    may go on to the `initial` states of sequences, which it reads by level as `Relay` does.
    """

    base: int
    admissibility: Admissibility
    initial: bool = False


@dataclass(frozen=True)
class WalkAdjoint(Operation):
    """(do, R, EA, EH, lam[, I]) -> dR, dEA, dEH, dlam[, dI]."""

    base: int
    admissibility: Admissibility
    initial: bool = False


@dataclass(frozen=True)
class Band(Operation):
    """(R, A, P, v[, lam][, keys, values]) -> o: pairs of chunks 1 to `lags` apart, position by position.

    o[n] = sum over lags of ((R[n] A[n-1] ... A[n-lag+1] P[n-lag]') * W) v[n-lag], where P [.., C, K] are the keys
    pushed to the end of their chunk and W[c, s] is 1 where t - s < width (any distance where None), times lam[t,
    level(t, s)].

    In a program that is laid out, chunks of other sequences are none, and a window may go on to the `initial` tokens of
    sequences: o[n] += ((R[n] A[n-1] ... A[0] keys') * W) values, of the memories that `Slide` has.
    """

    lags: int
    width: int | None
    base: int
    admissibility: Admissibility
    initial: bool = False

    def rest(self, operands: Sequence[_Operand]) -> tuple[_Operand | None, Sequence[_Operand]]:
        """lam, None where it is absent, and the memories of the operands."""
        lam = operands[4] if len(operands) > 4 + 2 * self.initial else None
        return lam, operands[-2:] if self.initial else ()


@dataclass(frozen=True)
class BandAdjoint(Operation):
    """(do, R, A, P, v[, lam][, keys, values]) -> dR, dA, dP, dv[, dlam][, dkeys, dvalues]."""

    lags: int
    width: int | None
    base: int
    admissibility: Admissibility
    initial: bool = False


@dataclass(frozen=True)
class Keep(Operation):
    """(A, P, v[, keys, values]) -> keys, values: the memories that `Slide` leaves.

    Those are the last width - 1 tokens of every sequence of a laid-out program: a key of chunk n is P[n] moved on by
    the chunks after it, one of the `initial` memory is moved on by all chunks; zero where there was no token.
    """

    width: int
    initial: bool = False


@dataclass(frozen=True)
class KeepAdjoint(Operation):
    """(dkeys, dvalues, A, P, v[, keys, values]) -> dA, dP, dv[, and the gradients of what came in]."""

    width: int
    initial: bool = False


# -- the state of a step


@dataclass(frozen=True)
class Split(Operation):
    """lam -> the weight of level 0 and the weights of all others, along the axis L in place `dim`."""

    dim: int


@dataclass(frozen=True)
class Regroup(Operation):
    """(pos, X, S[, logs]) -> S'[, logs']: the rows of a state as the next token sees them.

    Row S[j-1] stands for level j as seen from pos, and is zero where no position is; X [.., 1, K, V] stands for level
    0. S'[l-1] is the sum of those with carry(pos + 1, pos, j) = l; what has no row any more is dropped. With logs,
    exp(logs) * S is meant, the log of X is 0, and logs'[l-1] is the largest of those that meet (0 where none do), so
    that no exponent is positive.
    """

    base: int
    admissibility: Admissibility


@dataclass(frozen=True)
class Enter(Operation):
    """(pos, ring, x) -> the ring [.., R, X] with x [.., 1, X] in slot pos mod R, the other slots as they are."""


@dataclass(frozen=True)
class SelectSlots(Operation):
    """(pos, lam) -> W[i] = lam[level(pos, s)] for the latest token s < pos with s mod slots = i, lam[0] where none is.

    The axis L becomes that of the ring's slots.
    """

    slots: int
    base: int
    admissibility: Admissibility


# -- sequences with states


@dataclass(frozen=True)
class Lay(Operation):
    """Token level to chunk level in a program that is laid out: tokens to their places in slots, zeros elsewhere."""

    size: int


@dataclass(frozen=True)
class Unlay(Operation):
    """Chunk level to token level in a program that is laid out; tokens of no sequence are zero."""

    size: int


@dataclass(frozen=True)
class Relay(Operation):
    """(R, A, P, v, I[, lam][, a, b]) -> o, F: every slot reads a state and hands it on to the next of its sequence.

    S[n] is I of the sequence in its first slot, else what the slot before handed on: A[n] S[n] + a[n]' (b[n] S[n]) +
    P[n]' v[n]. o[n] = R[n] S[n], and F is what the last slot handed on, I where there is none. A is a number or a
    diagonal, as its log; R, P and v are as in `Band`, a and b factors of rank-one steps; I and F are [B, h, S, K, V].

    With level weights, I and F are [B, h, S, M, K, V], a state for each level from 1 on as seen from the first token
    of a slot, at position p: o[n] = sum over j of lam[t, carry(t, p, j)] R[n] S_j[n]. A slot whose last token is at
    e - 1 hands on as S_l the sum of what it had at the j with carry(e, p, j) = l and of its keys s with level(e, s)
    = l; what comes to a level beyond the last is dropped.
    """

    base: int
    admissibility: Admissibility


@dataclass(frozen=True)
class RelayAdjoint(Operation):
    """(do, dF, R, A, P, v, I[, lam][, a, b]) -> dR, dA, dP, dv, dI[, dlam][, da, db]."""

    base: int
    admissibility: Admissibility


@dataclass(frozen=True)
class Slide(Operation):
    """(R, A, P, v, keys, values[, lam][, a, b]) -> o, keys, values: a window, from slot to slot of a sequence.

    The memory of a slot are the width - 1 tokens before its first one, the oldest first: keys [B, h, S, R, K], each
    moved on by the steps since, and values [B, h, S, R, V], zero where there was no token. o[n] = ((R[n] keys') * X)
    values, where X[c, s] is 1 where t - s < width, times lam[t, level(t, s)]. A, a and b move keys on as they do states
    in `Relay`. The results are the memories after the last slots, those given where there is none.
    """

    width: int
    base: int
    admissibility: Admissibility


@dataclass(frozen=True)
class SlideAdjoint(Operation):
    """(do, dkeys, dvalues, R, A, P, v, keys, values[, lam][, a, b]) -> the gradients of R and all that follows it."""

    width: int
    base: int
    admissibility: Admissibility


HANDING: dict[type[Operation], tuple[int, int]] = {Relay: (5, 2), Slide: (6, 3)}
"""Operations that hand memories on from slot to slot: how many operands they have at the least, and their results."""


def optional(operands: Sequence[_Operand]) -> tuple[_Operand | None, _Operand | None, _Operand | None]:
    """lam, a and b of the operands beyond those that an operation of `HANDING` always has; None for what is absent."""
    lam = operands[0] if len(operands) % 2 else None
    a, b = operands[-2:] if len(operands) > 1 else (None, None)
    return lam, a, b
