"""How many blocks a hierarchy over chunks has, and in what passes they are made: what host code asks for."""

from __future__ import annotations

from collections.abc import Iterator


def depth(chunks: int, base: int) -> int:
    """The highest level p with a whole block of base**p chunks; 0 for no chunks."""
    p = 0
    while base ** (p + 1) <= chunks:
        p += 1
    return p


def blocks(chunks: int, base: int, highest: int | None = None) -> int:
    """The number of whole aligned blocks of all levels, or of those up to the `highest`."""
    top = depth(chunks, base)
    return sum(chunks // base**p for p in range((top if highest is None else min(top, highest)) + 1))


def runs(chunks: int, base: int, level: int) -> int:
    """How many runs of base**level readers the blocks above that level may have."""
    return max(0, depth(chunks, base) - level) * programs(chunks, base, level) * (base - 1)


def reads(chunks: int, base: int, strong: bool) -> int:
    """An upper bound, at least 1, of the blocks that a chunk reads."""
    return (depth(chunks, base) + 1) * (2 if strong else base - 1)


def all_reads(chunks: int, base: int) -> int:
    """The weak blocks that all chunks together read: the sum of the digits of all their numbers."""
    total, width = 0, 1
    while width < chunks:
        rounds, digit = chunks // (width * base), chunks // width % base
        total += rounds * width * (base * (base - 1) // 2)
        total += width * (digit * (digit - 1) // 2) + digit * (chunks % width)
        width *= base
    return total


def passes(chunks: int, base: int, span: int, first: int = 0) -> list[tuple[int, int]]:
    """The levels (low, high) of passes that each join `span` levels, upwards from level `first`."""
    top = depth(chunks, base)
    return [(low, min(low + span, top)) for low in range(first, top, span)]


def programs(chunks: int, base: int, level: int) -> int:
    """How many blocks of a level, the last perhaps not whole, cover the chunks."""
    return -(-chunks // base**level)


def downwards(chunks: int, base: int, span: int) -> Iterator[tuple[int, int]]:
    """`passes` from the top."""
    return reversed(passes(chunks, base, span))
