"""Operators of chunks, be they numbers [.., 1, 1], diagonals [.., K, 1] or matrices [.., K, K].

Matrices are held as they are (`matrix`), numbers and diagonals as logs. What acts on states and queries are factors:
the matrices themselves, or exp of the logs.
"""

from __future__ import annotations

from torch import Tensor


def factors(operators: Tensor, matrix: bool) -> Tensor:
    """What the operators multiply by."""
    return operators if matrix else operators.exp()


def factors_adjoint(gradient: Tensor, factor: Tensor, matrix: bool) -> Tensor:
    """The gradient of operators from that of their factors."""
    return gradient if matrix else gradient * factor


def compose(later: Tensor, earlier: Tensor, matrix: bool) -> Tensor:
    """The operator of two blocks in a row."""
    return later @ earlier if matrix else later + earlier


def compose_adjoint(gradient: Tensor, later: Tensor, earlier: Tensor, matrix: bool) -> tuple[Tensor, Tensor]:
    """The gradients of the later and of the earlier operator in `compose`."""
    return (gradient @ earlier.mT, later.mT @ gradient) if matrix else (gradient, gradient)


def act(factor: Tensor, state: Tensor) -> Tensor:
    """A @ H."""
    return factor * state if factor.shape[-1] == 1 else factor @ state


def act_adjoint(factor: Tensor, state: Tensor) -> Tensor:
    """A' @ H."""
    return factor * state if factor.shape[-1] == 1 else factor.mT @ state


def outer(after: Tensor, before: Tensor, like: Tensor) -> Tensor:
    """The gradient of A in A @ H: after @ before', or as much of it as a factor like `like` has."""
    if like.shape[-1] != 1:
        return after @ before.mT
    return (after * before).sum((-2, -1) if like.shape[-2] == 1 else -1, keepdim=True)


def pull(queries: Tensor, factor: Tensor) -> Tensor:
    """R @ A."""
    return queries * factor.mT if factor.shape[-1] == 1 else queries @ factor


def pull_adjoint(queries: Tensor, factor: Tensor) -> Tensor:
    """R @ A'."""
    return queries * factor.mT if factor.shape[-1] == 1 else queries @ factor.mT


def pull_outer(queries: Tensor, gradient: Tensor, factor: Tensor) -> Tensor:
    """The gradient of A in R @ A."""
    if factor.shape[-1] != 1:
        return queries.mT @ gradient
    by_channel = (queries * gradient).sum(-2)[..., None]
    return by_channel if factor.shape[-2] != 1 else by_channel.sum(-2, keepdim=True)


def reduce_to(gradient: Tensor, like: Tensor) -> Tensor:
    """A gradient summed over the axes along which `like` was broadcast."""
    return gradient if gradient.shape == like.shape else gradient.sum_to_size(like.shape)
