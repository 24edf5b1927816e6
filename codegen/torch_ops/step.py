"""What a step does with a state. Every sequence is at a position of its own, `pos` [B], that stays on its device.

Levels are counted digit by digit, elementwise, as `maskdsl.mask.levels` defines them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.positions import level
from maskdsl.mask.levels import Admissibility


def regroup(
    pos: Tensor,
    new: Tensor,
    rows: Tensor,
    logs: Tensor | None = None,
    base: int = 2,
    admissibility: Admissibility = "weak",
) -> Tensor | tuple[Tensor, Tensor]:
    """S'[l-1] = the sum of the rows j with carry(pos + 1, pos, j) = l, `new` being row 0; with logs, theirs as well.

    Where pos + 1 ends in z zeros, levels 0 .. z + 1 move: all to level z + 1 (weak), or each to the next one (strong).
    """
    own = torch.arange(1, rows.shape[2] + 1, device=pos.device)
    zeros = ((pos[:, None] + 1) % _powers(base, len(own), pos.device) == 0).sum(-1, keepdim=True)
    move, goal = (_by_row(own <= zeros + 1), _by_row(own == zeros + (2 if admissibility == "strong" else 1)))
    change = _shifted if admissibility == "strong" else _joined
    states, kept = change(move, goal, new, rows, torch.zeros_like(rows[..., :1, :1]) if logs is None else logs)
    return states if logs is None else (states, kept)


def _by_row(mask: Tensor) -> Tensor:
    """[B, M] beside states [B, h, M, K, V]."""
    return mask[:, None, :, None, None]


def _joined(move: Tensor, goal: Tensor, new: Tensor, rows: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that move summed in one, under the log of the token's, 0; what is left of them is empty."""
    factors = torch.where(move, logs.exp(), 0).to(rows.dtype)
    if factors.shape[-2] == 1:
        total = (factors[..., 0].mT @ rows.flatten(3)).unflatten(3, rows.shape[3:])
    else:
        total = (factors * rows).sum(2, keepdim=True)
    stay, there = (~move).to(rows.dtype), goal.to(rows.dtype)
    return torch.addcmul(stay * rows, there, new + total), torch.where(move, 0, logs)


def _shifted(move: Tensor, goal: Tensor, new: Tensor, rows: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that move one level on; the last of them meets one that stays, under the larger of both logs."""
    count = rows.shape[2]
    nearer = torch.cat([new.expand(*rows.shape[:2], 1, *rows.shape[3:]), rows], 2)[:, :, :count]
    nearer_logs = torch.cat([torch.zeros_like(logs[:, :, :1]), logs], 2)[:, :, :count]
    kept = torch.where(move, nearer_logs, torch.where(goal, torch.maximum(logs, nearer_logs), logs))
    own = torch.where(move, 0, (logs - kept).exp()).to(rows.dtype)
    other = torch.where(move | goal, (nearer_logs - kept).exp(), 0).to(rows.dtype)
    return torch.addcmul(own * rows, other, nearer), kept


def enter(pos: Tensor, ring: Tensor, new: Tensor) -> Tensor:
    """The ring [B, h, 1, R, X] with `new` in slot pos mod R."""
    slot = torch.arange(ring.shape[3], device=pos.device)
    return torch.where((slot == pos[:, None] % ring.shape[3])[:, None, None, :, None], new, ring)


def select_slots(pos: Tensor, lam: Tensor, slots: int, base: int, admissibility: Admissibility) -> Tensor:
    """W[i] = lam[level(pos, s)] for the latest token s < pos with s mod slots = i, lam[0] where there is none."""
    slot = torch.arange(slots, device=pos.device)
    held = pos[:, None] - 1 - (pos[:, None] - 1 - slot) % slots
    levels = level(pos[:, None], torch.where(held < 0, pos[:, None], held), lam.shape[-1], base, admissibility)
    shape = torch.broadcast_shapes(lam.shape[:-1], (len(pos), *[1] * (lam.ndim - 2)))
    table = levels.view(len(pos), *[1] * (lam.ndim - 2), slots)
    return lam.expand(*shape, lam.shape[-1]).gather(-1, table.expand(*shape, slots))


def _powers(base: int, count: int, device: torch.device) -> Tensor:
    """base ** 1 .. base ** count, as far as they fit into 63 bits."""
    return base ** torch.arange(1, 1 + min(count, int(62 / math.log2(base))), device=device)
