"""The tree over chunks, upwards and, for gradients, downwards."""

from __future__ import annotations

import functools

from torch import Tensor

from maskdsl.codegen.torch_ops.operators import (
    act,
    act_adjoint,
    compose,
    compose_adjoint,
    factors,
    factors_adjoint,
    outer,
    reduce_to,
)


def tree(operators: Tensor, writes: Tensor, base: int, matrix: bool = False) -> tuple[Tensor, Tensor]:
    """The affine map of every whole aligned block of base**p chunks: leaves first, then level by level."""
    starts = level_starts(writes.shape[2], base)
    ea = operators.new_empty(*operators.shape[:2], starts[-1], *operators.shape[3:])
    eh = writes.new_empty(*writes.shape[:2], starts[-1], *writes.shape[3:])
    ea[:, :, : starts[1]], eh[:, :, : starts[1]] = operators, writes
    for below, own, end in zip(starts, starts[1:], starts[2:], strict=False):
        a, h = (_children(x, below, end - own, base) for x in (ea, eh))
        block_a, block_h = a[0], h[0]
        for child_a, child_h in zip(a[1:], h[1:], strict=True):
            block_a, block_h = _join(child_a, child_h, block_a, block_h, matrix)
        ea[:, :, own:end], eh[:, :, own:end] = block_a, block_h
    return ea, eh


def tree_adjoint(
    ea: Tensor, eh: Tensor, dea: Tensor, deh: Tensor, base: int, matrix: bool = False
) -> tuple[Tensor, Tensor]:
    """The gradients of the leaves, from those of all nodes, level by level downwards."""
    dea, deh = dea.clone(), deh.clone()
    starts = starts_of_nodes(eh.shape[2], base)
    for below, own, end in list(zip(starts, starts[1:], starts[2:], strict=False))[::-1]:
        count = end - own
        a, h, da, dh = (_children(x, below, count, base) for x in (ea, eh, dea, deh))
        prefixes = [(a[0], h[0])]
        for child_a, child_h in zip(a[1:-1], h[1:-1], strict=True):
            prefixes.append(_join(child_a, child_h, *prefixes[-1], matrix))
        d_a, d_h = dea[:, :, own:end], deh[:, :, own:end]
        for child in range(base - 1, 0, -1):
            block_a, block_h = prefixes[child - 1]
            factor = factors(a[child], matrix)
            dh[child].add_(d_h)
            da[child].add_(factors_adjoint(reduce_to(outer(d_h, block_h, factor), factor), factor, matrix))
            d_later, d_a = compose_adjoint(d_a, a[child], block_a, matrix)
            da[child].add_(d_later)
            d_h = act_adjoint(factor, d_h)
        da[0].add_(d_a)
        dh[0].add_(d_h)
    return dea[:, :, : starts[1]], deh[:, :, : starts[1]]


def _join(later_a: Tensor, later_h: Tensor, a: Tensor, h: Tensor, matrix: bool) -> tuple[Tensor, Tensor]:
    """The affine map of two blocks in a row."""
    return compose(later_a, a, matrix), act(factors(later_a, matrix), h) + later_h


def _children(x: Tensor, start: int, parents: int, base: int) -> tuple[Tensor, ...]:
    """The children of a level's nodes, by their place among their siblings: views."""
    return x[:, :, start : start + parents * base].unflatten(2, (parents, base)).unbind(3)


@functools.lru_cache(maxsize=256)
def level_starts(chunks: int, base: int) -> tuple[int, ...]:
    """Where the nodes of each level begin among all nodes, and their number at the end."""
    starts, count = [0], chunks
    while count:
        starts.append(starts[-1] + count)
        count //= base
    return tuple(starts)


@functools.lru_cache(maxsize=256)
def starts_of_nodes(nodes: int, base: int) -> tuple[int, ...]:
    """`level_starts` of the tree that has this many nodes in all."""
    low, high = 1, nodes
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if level_starts(middle, base)[-1] < nodes else (low, middle)
    return level_starts(low, base)
