"""Where a token stands in a hierarchy or a ring, as `maskdsl.mask.levels` counts: for steps of one token."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def reach(pos: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """The last of the levels that move on as position `pos` is left: one more than pos + 1 ends in zeros."""
    rest = pos + 1
    level = 0 * pos + 1
    while rest % BASE == 0:
        rest //= BASE
        level += 1
    return level


@triton.jit
def slot_levels(
    pos: tl.tensor, slot: tl.tensor, count: tl.tensor, SLOTS: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr
) -> tl.tensor:
    """level(pos, s), below `count`, of the latest token s < pos with s % SLOTS = slot; 0 where there is none."""
    age = (pos - 1 - slot) % SLOTS
    age = tl.where(age < 0, age + SLOTS, age)
    s = pos - 1 - age
    s = tl.where(s < 0, pos, s)
    t = pos + 0 * s
    level = 0 * s
    if STRONG:
        level += (s < t).to(tl.int64)
    for _ in range(1, count):
        apart = t - s > 1 if STRONG else t != s
        level += apart.to(tl.int64)
        t //= BASE
        s //= BASE
    return level
