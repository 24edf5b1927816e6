"""What a program does of a kernel's work: its number decoded into tiles, heads, chunks and sequences.

In a packed call a batch row holds sequences one after another. A program works on one of them, as on a batch row of its
own: `N` are its chunks and `T` its tokens, of which `origin` and `token` come before it. Where sequences go on from a
`position`, `past` chunks came before their first one, which begins `shift` positions before their first token.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.tiling import Tiling

Order = tuple[tuple[str, str], ...]
"""Names and counts of what a program's number stands for, the fastest first."""

BOUNDS = "sequences.bounds"
"""Under this name a packed call is given where its sequences begin and end, [S + 1]; no input can have it."""

STRIP = 32
"""Chunks of one head that programs which read blocks do before they turn to the next head: blocks that these chunks
share, and keys that heads share, are in the cache when the next one wants them."""

STRIPS = "strips"
"""The extent of chunks that are done so."""

BLANKING = 128
"""Programs that write zeros where a row has tokens of no sequence, which are none as a rule."""


@dataclass(frozen=True)
class Units:
    """How many programs of a kernel a sequence has for each head and tile: `per` for every `width` chunks.

    `width` is an expression of the kernel; `count` is the host's for a sequence of N chunks.
    """

    count: str = "N"
    width: str = "1"
    per: int = 1


CHUNKS = Units()
"""A program for every chunk."""


def ends(laid: bool) -> int:
    """How many units of a sequence may not be whole: the last one, and the first of one that goes on from anywhere."""
    return 2 if laid else 1


def number(packed: bool, order: Order, units: Units | None, ends: int) -> str:
    """The host's expression for the number of programs; without `units` a sequence has one for each head and tile."""
    tiles = math.prod(int(count) for name, count in order if name in ("vt", "kt", "row", "tile"))
    levels = [count for name, count in order if name in ("level", "segment")]
    heads = next(count for name, count in order if name in ("h", "h0"))
    factors = ["S" if packed else "B", heads, *levels]
    if units is not None and packed:
        extra = "S" if ends == 1 else f"{ends} * S"
        factors = [heads, units.count if units.count == STRIPS else f"({units.count} + {extra})"]
    elif units is not None:
        factors.append(units.count)
    return " * ".join([*factors, str(tiles)] if tiles > 1 else factors)


def sizes(tiling: Tiling, direction: str) -> list[str]:
    """The host's lines that say how much there is of everything: `N` chunks, and where they are."""
    size = tiling.chunk
    if not tiling.packed:
        return [f"B, H, N = at.B, at.H, at.chunks({size})"]
    if tiling.laid:
        chunks = f"N = (at.T + min(at.T, S) * {2 * (size - 1)}) // {size}"
        if direction == "backward":
            return ["B, H, S, M = at.B, at.H, places.shape[1] - 1, at.L - 1", chunks]
        found = f"at.launch(tiles.resumed_places, 1, bounds, positions, places, S, {size}, at.T, N, warps=4, stages=1)"
        return ["B, H, S, M = at.B, at.H, bounds.shape[0] - 1, at.L - 1", chunks, "places = at.places(3, S)", found]
    # enough chunks for any lengths, which are on the device only
    chunks = f"N = min(at.T // {size} + S, at.T)"
    if direction == "backward":
        return ["B, H, S = at.B, at.H, places.shape[1] - 1", chunks]
    found = f"at.launch(tiles.places, 1, bounds, places, S, {size}, at.T, N, warps=4, stages=1)"
    return ["B, H, S = at.B, at.H, bounds.shape[0] - 1", chunks, "places = at.places(2, S)", found]


def strips(tiling: Tiling) -> str:
    """The host's line for the programs of a head where they go through strips."""
    chunks = ("(N + 2 * S)" if tiling.laid else "(N + S)") if tiling.packed else "N"
    return f"{STRIPS} = -(-{chunks} // min({chunks}, {STRIP})) * min({chunks}, {STRIP})"


def blanked(name: str) -> str:
    """The host's line that makes an output zero where tokens belong to no sequence."""
    return f"at.launch(tiles.blank, {BLANKING}, {name}, places, S, {name}.stride(1), at.T, warps=4, stages=1)"


def decode(kernel: Kernel, order: Order) -> None:
    """Write what a program does where all sequences have as many chunks."""
    kernel.opening.append("pid = tl.program_id(0)")
    for each, extent in order[:-1]:
        if extent == STRIPS:
            # a strip of chunks of one head, then of the next head, and so on
            kernel.opening += [f"strip = tl.minimum(N, {STRIP})", "n = pid % strip", "pid = pid // strip"]
        elif extent != "1":
            kernel.opening += [f"{each} = pid % {extent}", f"pid = pid // {extent}"]
        elif each == "h":
            kernel.opening.append("h = 0")
        if each == "segment":
            kernel.parameter(extent, extent, varying=True)
        if each == "h0" and ("n", STRIPS) in order:
            kernel.opening += ["n += pid % tl.cdiv(N, strip) * strip", "pid = pid // tl.cdiv(N, strip)"]
            kernel.opening += ["if n >= N:", "    return"]
    kernel.opening.append(f"{order[-1][0]} = pid")
    kernel.opening += [f"{x} = {x}.to(tl.int64)" for x, _ in order if x in ("b", "h")]
    for size in re.findall(r"\b[BHN]\b", " ".join(["N", *(extent for _, extent in order)])):
        kernel.size(size)


def decode_packed(kernel: Kernel, order: Order, units: Units | None) -> None:
    """Write what a program does where sequences have chunks of their own number."""
    kernel.opening.append("pid = tl.program_id(0)")
    if units is None:
        _head(kernel, order)
        kernel.opening.append("b = pid")
        _sequence(kernel)
    else:
        _slot(kernel, order)
        _find(kernel, order, units)
    kernel.opening += [f"{x} = {x}.to(tl.int64)" for x, _ in order if x in ("b", "h")]


def _head(kernel: Kernel, order: Order) -> None:
    """Write which tile of which head a program does; `pid` is left with the rest."""
    for each, extent in order:
        if each in ("vt", "kt", "row", "tile", "h", "h0", "level", "segment") and extent != "1":
            kernel.opening += [f"{each} = pid % {extent}", f"pid = pid // {extent}"]
        elif each in ("row", "h", "h0"):
            kernel.opening.append(f"{each} = 0")
        if re.search(r"\bH\b", extent):
            kernel.size("H")
        if each in ("level", "segment"):
            kernel.parameter(extent, extent, varying=True)


def _slot(kernel: Kernel, order: Order) -> None:
    """Write the head and which of the units of all sequences a program does."""
    if ("n", STRIPS) not in order:
        _head(kernel, order)
        kernel.opening.append("slot = pid")
        return
    every = f"{kernel.parameter('slots', 'N', varying=True)} + {kernel.parameter('S', 'S', varying=True)}"
    kernel.opening += [f"strip = tl.minimum({every}, {STRIP})", "slot = pid % strip", "pid = pid // strip"]
    _head(kernel, order)
    kernel.opening.append("slot += pid * strip")


def _find(kernel: Kernel, order: Order, units: Units) -> None:
    """Write the sequence that a unit belongs to, and which of its units it is; one too many ends the program."""
    unit = next(name for name, _ in order if name in ("n", "unit"))
    places, count = kernel.pointer("places"), kernel.parameter("S", "S", varying=True)
    unfinished = ends(kernel.laid)
    kernel.opening.append(
        f"b = tiles.sequence_of(slot, {places} + {count} + 1, {count}, {units.width}, {units.per}, {unfinished})"
    )
    _sequence(kernel)
    begin, chunk = "origin", unit
    if units != Units(units.count):
        begin, chunk = f"origin * {units.per} // {units.width}", f"{unit} * {units.width} // {units.per}"
        if kernel.laid:
            chunk += f" - past % {units.width}"
    before = "b" if unfinished == 1 else f"b * {unfinished}"
    kernel.opening += [f"{unit} = (slot - {begin} - {before}).to(tl.int32)", f"if {chunk} >= N:", "    return"]


def _sequence(kernel: Kernel) -> None:
    """Write where sequence b lies."""
    places, count = kernel.pointer("places"), kernel.parameter("S", "S", varying=True)
    kernel.opening += [
        f"token = tl.load({places} + b)",
        f"T = (tl.load({places} + b + 1) - token).to(tl.int32)",
        f"origin = tl.load({places} + {count} + 1 + b)",
        f"N = (tl.load({places} + {count} + 2 + b) - origin).to(tl.int32)",
    ]
    if kernel.laid:
        kernel.opening += [
            f"position = tl.load({places} + 2 * {count} + 2 + b)",
            f"past = (position // {kernel.chunk}).to(tl.int32)",
            f"shift = (position % {kernel.chunk}).to(tl.int32)",
        ]
