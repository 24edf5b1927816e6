"""Axis names of the chunk IR: how they are made, read and joined."""

from __future__ import annotations

from collections.abc import Mapping

from maskdsl.chunk.ops import Axes


def heads(ratio: int) -> str:
    """The head axis of a key-side input each of whose heads serves `ratio` heads."""
    return "H" if ratio == 1 else f"H/{ratio}"


def ratio(axis: str) -> int:
    """The inverse of `heads`."""
    return int(axis[2:]) if axis.startswith("H/") else 1


def chunks(size: int) -> str:
    """The axis of chunks of `size` positions."""
    return f"N{size}"


def positions(size: int, rows: int = 1) -> str:
    """The axis of the positions of a chunk, `rows` of them a position."""
    return f"C{size}" if rows == 1 else f"C{size}*{rows}"


def chunk_size(axis: str) -> int:
    """The chunk size that an N, C or E axis belongs to."""
    return int(axis[1:].split("*")[0].split("b")[0])


def rows(axis: str) -> int:
    """How many rows a position has in a C axis."""
    return int(axis.split("*")[1]) if "*" in axis else 1


def nodes(size: int, base: int) -> str:
    """The axis of the nodes of a tree over chunks of `size` positions."""
    return f"E{size}b{base}"


def slots(count: int) -> str:
    """The axis of a ring of `count` tokens."""
    return f"R{count}"


def slot_count(length: int, sequences: int, size: int) -> int:
    """How many slots are enough for any `sequences` of `length` tokens in all, in chunks of `size` positions.

    A sequence of n >= 1 tokens lies in at most (n + 2 (size - 1)) // size chunks, wherever it begins.
    """
    return (length + min(length, sequences) * 2 * (size - 1)) // size


def join(*operands: Axes) -> Axes:
    """The broadcast of several types of one rank; raises ValueError where two axes disagree."""
    result = []
    for column in zip(*operands, strict=True):
        names = {name for name in column if name != "1"}
        if len(names) > 1:
            raise ValueError(f"axes {' and '.join(sorted(names))} do not broadcast")
        result.append(names.pop() if names else "1")
    return tuple(result)


def extent(axis: str, sizes: Mapping[str, int]) -> int:
    """The number of elements of an axis, given those of B, T, H, K, V and L; a program that is laid out has S too."""
    if axis == "1":
        return 1
    match axis[0]:
        case "M":
            return sizes["L"] - 1
        case "R":
            return int(axis[1:])
        case "H":
            return sizes["H"] // ratio(axis)
        case "S":
            return sizes.get("S", 1)
        case "N" if "S" in sizes:
            return slot_count(sizes["T"], sizes["S"], chunk_size(axis))
        case "N":
            return -(-sizes["T"] // chunk_size(axis))
        case "C":
            return chunk_size(axis) * rows(axis)
        case "E" if "S" in sizes:
            # in a program that is laid out a block may end with every slot, at every level
            return slot_count(sizes["T"], sizes["S"], chunk_size(axis)) * sizes["L"]
        case "E":
            base, count, total = int(axis.split("b")[1]), -(-sizes["T"] // chunk_size(axis)), 0
            while count:
                total, count = total + count, count // base
            return total
        case _:
            return sizes[axis]
