"""Levels of tensors of positions: `maskdsl.mask.levels`, elementwise, without reading a position back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from maskdsl.mask.levels import Admissibility

_LARGEST = 2**62


def level(t: Tensor, s: Tensor, levels: int, base: int, admissibility: Admissibility) -> Tensor:
    """The level of s <= t as seen from t, at the most `levels` - 1.

    Weak: the number of digits up to the highest in which they differ. Strong: one for t != s, and one for every size of
    blocks in which theirs are no neighbours.
    """
    if admissibility == "weak":
        apart = [t // width != s // width for width in _widths(base, levels - 1)]
    else:
        apart = [t != s][: levels - 1] + [t // width - s // width > 1 for width in _widths(base, levels - 2)]
    found = torch.zeros_like(t - s)
    for each in apart:
        found = found + each
    return found


def carry(t: Tensor, pos: Tensor, levels: int, base: int, admissibility: Admissibility) -> Tensor:
    """The level, as seen from t >= pos, of what has level 1, 2, ... `levels` - 1 as seen from `pos`: a last axis.

    Strong: that of the first position of the run that `pos` has at a level; where it has none, nothing moves.
    """
    t, pos = t[..., None], pos[..., None]
    own = torch.arange(1, levels, device=t.device)
    if admissibility == "weak":
        return torch.maximum(own, level(t, pos, levels, base, admissibility))
    # shifts of 63 would overflow, and no position has that many digits
    digit = (own - 1).clamp(max=62)
    first = ((pos >> digit) - 1) << digit
    return torch.where(first < 0, own, level(t, first.clamp(min=0), levels, base, admissibility))


def occupied(pos: Tensor, levels: int, base: int, admissibility: Admissibility) -> Tensor:
    """Whether anything before `pos` has level 1, 2, ... `levels` - 1: a last axis.

    Weak: where `pos` has a digit. Strong: up to the highest level.
    """
    pos = pos[..., None]
    own = torch.arange(levels - 1, device=pos.device)
    if admissibility == "strong":
        return 2 * pos >> own.clamp(max=62) >= 2
    # no position has a digit beyond the widest
    widths = base ** own[: len([*_widths(base, levels - 1)])]
    return torch.nn.functional.pad(pos // widths % base != 0, (0, len(own) - len(widths)))


def _widths(base: int, count: int) -> Iterator[int]:
    for power in range(count):
        if base**power > _LARGEST:
            return
        yield base**power
