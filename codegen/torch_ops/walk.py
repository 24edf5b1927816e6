"""The walk over a hierarchy: what every chunk reads of the blocks before it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.operators import pull, pull_adjoint, pull_outer, reduce_to
from maskdsl.codegen.torch_ops.tree import level_starts
from maskdsl.mask.levels import Admissibility, level

Reads = tuple[tuple[int, Tensor, Tensor], ...]
"""Reads of a hierarchy, nearest first: (level, rows [M, n] of chunks that read together, nodes [M] that they read)."""


@functools.lru_cache(maxsize=64)
def _reads(chunks: int, size: int, base: int, admissibility: Admissibility, device: torch.device) -> Reads:
    starts = level_starts(chunks, base)
    inside = level(size - 1, 0, base, admissibility)
    groups: list[tuple[int, int, dict[int, list[int]]]] = []
    for p in range(len(starts) - 1):
        slots = base - 1 if admissibility == "weak" else 2
        for slot in range(slots):
            readers: dict[int, list[int]] = {}
            for n in range(chunks):
                node = _read(n, p, slot, base, admissibility)
                if node is not None:
                    readers.setdefault(node, []).append(n)
            groups.append((p, inside + p + (1 if admissibility == "weak" else 2), readers))
    reads = []
    for p, weight, readers in groups:
        for width in sorted({len(rows) for rows in readers.values()}):
            same = {node: rows for node, rows in readers.items() if len(rows) == width}
            rows = torch.tensor(list(same.values()), device=device)
            reads.append((weight, rows, torch.tensor(list(same), device=device) + starts[p]))
    return tuple(reads)


def _read(n: int, p: int, slot: int, base: int, admissibility: Admissibility) -> int | None:
    """The block of base**p chunks that chunk n reads in a slot of level p, slots nearest first; None for none."""
    if admissibility == "weak":
        # the left siblings of the block that n is in
        own = n // base**p
        return own - 1 - slot if own % base > slot else None
    # the parent's left neighbour: its right child where n is in the right half of its parent, and its left child
    parent = n >> (p + 1)
    right = (n >> p) & 1
    if parent == 0 or (slot == 0 and not right):
        return None
    return 2 * (parent - 1) + (1 - slot)


def walk(r: Tensor, ea: Tensor, eh: Tensor, lam: Tensor, base: int, admissibility: Admissibility) -> Tensor:
    """The reads of every chunk, level by level: o += lam[level] * (R @ H), then R = R @ A."""
    shape = torch.broadcast_shapes(r.shape[:2], eh.shape[:2], lam.shape[:2])
    count, size = r.shape[2:4]
    out = r.new_zeros(*shape, count, size, eh.shape[-1])
    r = r.clone()
    for weight, rows, nodes in _reads(count, size, base, admissibility, r.device):
        queries = r[:, :, rows].flatten(3, 4)
        read = (queries @ eh[:, :, nodes]).unflatten(3, (-1, size))
        out[:, :, rows] += lam[:, :, rows, :, weight, None] * read
        r[:, :, rows] = pull(queries, ea[:, :, nodes]).unflatten(3, (-1, size))
    return out


def walk_adjoint(
    do: Tensor, r: Tensor, ea: Tensor, eh: Tensor, lam: Tensor, base: int, admissibility: Admissibility
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """do -> dR, dEA, dEH, dlam; the pulled queries are formed again."""
    count, size = r.shape[2:4]
    reads = _reads(count, size, base, admissibility, r.device)
    pulled, current = [], r.clone()
    for _, rows, nodes in reads:
        queries = current[:, :, rows].flatten(3, 4)
        pulled.append(queries)
        current[:, :, rows] = pull(queries, ea[:, :, nodes]).unflatten(3, (-1, size))
    dr = torch.zeros_like(r)
    dea, deh, dlam = torch.zeros_like(ea), torch.zeros_like(eh), torch.zeros_like(lam)
    for (weight, rows, nodes), queries in zip(reversed(reads), reversed(pulled), strict=True):
        a, h = ea[:, :, nodes], eh[:, :, nodes]
        d_read = do[:, :, rows].flatten(3, 4)
        dlam[:, :, rows, :, weight] += reduce_to(
            ((queries @ h) * d_read).sum(-1).unflatten(3, (-1, size)), lam[:, :, rows, :, 0]
        )
        d_read = d_read * lam[:, :, rows, :, weight].flatten(3, 4)[..., None]
        d_next = dr[:, :, rows].flatten(3, 4)
        deh[:, :, nodes] += reduce_to(queries.mT @ d_read, h)
        dea[:, :, nodes] += reduce_to(pull_outer(queries, d_next, a), a)
        d_queries = pull_adjoint(d_next, a) + d_read @ h.mT
        dr[:, :, rows] = reduce_to(d_queries.unflatten(3, (-1, size)), dr[:, :, rows])
    return dr, dea, deh, dlam
