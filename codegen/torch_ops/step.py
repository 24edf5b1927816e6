"""What a step does with a state. Every sequence is at a position of its own, `pos` [B], that stays on its device.

Levels are counted digit by digit, elementwise, as `maskdsl.mask.levels` defines them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from maskdsl.mask.levels import Admissibility


def regroup(
    pos: Tensor,
    new: Tensor,
    rows: Tensor,
    logs: Tensor | None = None,
    base: int = 2,
    admissibility: Admissibility = "weak",
) -> Any:
    """S'[l-1] = the sum of the rows j with carry(pos + 1, pos, j) = l, `new` being row 0; with logs, theirs as well."""
    meet = _meetings(pos, rows.shape[2], base, admissibility)[:, None, :, :, None]
    every_row = torch.cat([new.expand(*rows.shape[:2], 1, *rows.shape[3:]), rows], 2)
    if logs is None:
        return _combined(meet.to(rows.dtype), every_row)
    every_log = torch.nn.functional.pad(logs[..., 0], (0, 0, 1, 0))[:, :, None]
    held = torch.where(meet, every_log, -torch.inf)
    highest = held.amax(3, keepdim=True)
    highest = torch.where(highest == -torch.inf, 0, highest)
    return _combined((held - highest).exp().to(rows.dtype), every_row), highest[:, :, :, 0, :, None]


def enter(pos: Tensor, ring: Tensor, new: Tensor) -> Tensor:
    """The ring [B, h, 1, R, X] with `new` in slot pos mod R."""
    slot = torch.arange(ring.shape[3], device=pos.device)
    return torch.where((slot == pos[:, None] % ring.shape[3])[:, None, None, :, None], new, ring)


def select_slots(pos: Tensor, lam: Tensor, slots: int, base: int, admissibility: Admissibility) -> Tensor:
    """W[i] = lam[level(pos, s)] for the latest token s < pos with s mod slots = i, lam[0] where there is none."""
    slot = torch.arange(slots, device=pos.device)
    held = pos[:, None] - 1 - (pos[:, None] - 1 - slot) % slots
    levels = _levels(pos[:, None], torch.where(held < 0, pos[:, None], held), lam.shape[-1], base, admissibility)
    shape = torch.broadcast_shapes(lam.shape[:-1], (len(pos), *[1] * (lam.ndim - 2)))
    table = levels.view(len(pos), *[1] * (lam.ndim - 2), slots)
    return lam.expand(*shape, lam.shape[-1]).gather(-1, table.expand(*shape, slots))


def _combined(factors: Tensor, rows: Tensor) -> Tensor:
    """Rows [B, h, M + 1, K, V] added up by factors [B, h, M, M + 1, 1 or K]: [B, h, M, K, V]."""
    if factors.shape[-1] == 1:
        return (factors[..., 0] @ rows.flatten(3)).unflatten(3, rows.shape[3:])
    return (factors.movedim(-1, 2) @ rows.transpose(2, 3)).transpose(2, 3)


def _meetings(pos: Tensor, rows: int, base: int, admissibility: Admissibility) -> Tensor:
    """Which levels 0 .. M meet at each level 1 .. M of the next position, [B, M, M + 1].

    Where that position ends in z zeros, levels 0 .. z + 1 go to z + 1 (weak), or each to the next (strong).
    """
    level = torch.arange(rows + 1, device=pos.device)
    zeros = ((pos[:, None] + 1) % _powers(base, rows, pos.device) == 0).sum(-1, keepdim=True)
    moved = level + 1 if admissibility == "strong" else zeros + 1
    return torch.where(level <= zeros + 1, moved, level)[:, None] == level[1:, None]


def _levels(pos: Tensor, s: Tensor, count: int, base: int, admissibility: Admissibility) -> Tensor:
    """level(pos, s) elementwise, for levels below `count`.

    Weak: digits up to the highest that differs. Strong: one, and one for each size of blocks of which pos and s are not
    in the same or in neighbouring ones.
    """
    block = torch.cat([torch.ones_like(pos.flatten()[:1]), _powers(base, count - 1, pos.device)])
    apart = pos[..., None] // block - s[..., None] // block
    if admissibility == "weak":
        return (apart != 0).sum(-1)
    return (s < pos) + (apart > 1).sum(-1)


def _powers(base: int, count: int, device: torch.device) -> Tensor:
    """base ** 1 .. base ** count, as far as they fit into 63 bits."""
    return base ** torch.arange(1, 1 + min(count, int(62 / math.log2(base))), device=device)
