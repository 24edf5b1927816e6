"""Operators of chunks, be they numbers [.., 1, 1], diagonals [.., K, 1] or matrices [.., K, K]."""

from __future__ import annotations

from torch import Tensor


def act(operator: Tensor, state: Tensor) -> Tensor:
    """A @ H."""
    return operator * state if operator.shape[-1] == 1 else operator @ state


def act_adjoint(operator: Tensor, state: Tensor) -> Tensor:
    """A' @ H."""
    return operator * state if operator.shape[-1] == 1 else operator.mT @ state


def outer(after: Tensor, before: Tensor, like: Tensor) -> Tensor:
    """The gradient of A in A @ H: after @ before', or as much of it as an operator like `like` has."""
    if like.shape[-1] != 1:
        return after @ before.mT
    return (after * before).sum((-2, -1) if like.shape[-2] == 1 else -1, keepdim=True)


def pull(queries: Tensor, operator: Tensor) -> Tensor:
    """R @ A."""
    return queries * operator.mT if operator.shape[-1] == 1 else queries @ operator


def pull_adjoint(queries: Tensor, operator: Tensor) -> Tensor:
    """R @ A'."""
    return queries * operator.mT if operator.shape[-1] == 1 else queries @ operator.mT


def pull_outer(queries: Tensor, gradient: Tensor, operator: Tensor) -> Tensor:
    """The gradient of A in R @ A."""
    if operator.shape[-1] != 1:
        return queries.mT @ gradient
    by_channel = (queries * gradient).sum(-2)[..., None]
    return by_channel if operator.shape[-2] != 1 else by_channel.sum(-2, keepdim=True)


def reduce_to(gradient: Tensor, like: Tensor) -> Tensor:
    """A gradient summed over the axes along which `like` was broadcast."""
    return gradient if gradient.shape == like.shape else gradient.sum_to_size(like.shape)
