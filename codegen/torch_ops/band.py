"""Bands of chunk pairs: windows, and the nearest neighbours of a strongly admissible hierarchy."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.inside import one_hot_sum
from maskdsl.codegen.torch_ops.operators import factors, factors_adjoint, pull, pull_adjoint, pull_outer, reduce_to
from maskdsl.mask.levels import Admissibility, level


def band(
    r: Tensor,
    operators: Tensor,
    pushed: Tensor,
    v: Tensor,
    lam: Tensor | None,
    lags: int,
    width: int | None,
    base: int,
    admissibility: Admissibility,
    matrix: bool = False,
) -> Tensor:
    """Pairs of chunks 1 to `lags` apart, position by position; `lam` weighs them by level, `width` bounds t - s."""
    weigh = _Weights(lam, v, width, base, admissibility)
    queries = _pulled(r, factors(operators, matrix), min(lags, v.shape[2] - 1))
    shape = torch.broadcast_shapes(r.shape[:3], v.shape[:3], weigh.batch)
    out = v.new_zeros(*shape, *v.shape[3:])
    for lag in range(1, len(queries)):
        out[:, :, lag:] += weigh((queries[lag] @ pushed[:, :, :-lag].mT), lag) @ v[:, :, :-lag]
    return out


def band_adjoint(
    do: Tensor,
    r: Tensor,
    operators: Tensor,
    pushed: Tensor,
    v: Tensor,
    lam: Tensor | None,
    lags: int,
    width: int | None,
    base: int,
    admissibility: Admissibility,
    matrix: bool = False,
) -> tuple[Tensor, ...]:
    """do -> dR, dA, dP, dv and, under a hierarchy, dlam."""
    weigh = _Weights(lam, v, width, base, admissibility)
    steps = factors(operators, matrix)
    queries = _pulled(r, steps, min(lags, v.shape[2] - 1))
    da, dp, dv = torch.zeros_like(steps), torch.zeros_like(pushed), torch.zeros_like(v)
    d_queries = torch.zeros_like(queries[-1])
    for lag in range(len(queries) - 1, 0, -1):
        keys, values, d_out = pushed[:, :, :-lag], v[:, :, :-lag], do[:, :, lag:]
        scores, d_weighted = queries[lag] @ keys.mT, d_out @ values.mT
        d_scores = weigh(d_weighted, lag)
        weigh.gather(d_weighted * scores, lag)
        dv[:, :, :-lag] += reduce_to(weigh(scores, lag).mT @ d_out, values)
        dp[:, :, :-lag] += reduce_to(d_scores.mT @ queries[lag], keys)
        d_queries = d_queries + d_scores @ keys
        if lag > 1:
            # these queries are those of the lag before, without its first chunk, pulled over one chunk more
            passed = slice(1, steps.shape[2] - lag + 1)
            da[:, :, passed] += reduce_to(
                pull_outer(queries[lag - 1][:, :, 1:], d_queries, steps[:, :, passed]), steps[:, :, passed]
            )
            d_queries = pull_adjoint(d_queries, steps[:, :, passed])
        d_queries = torch.nn.functional.pad(d_queries, (0, 0, 0, 0, 1, 0))
    gradients = (reduce_to(d_queries, r), factors_adjoint(da, steps, matrix), dp, dv)
    return gradients if weigh.gradient is None else (*gradients, weigh.gradient)


def _pulled(r: Tensor, steps: Tensor, lags: int) -> list[Tensor]:
    """For every lag, the queries of chunks lag, lag + 1, ... pulled back to the end of the chunk that far before."""
    queries = [r]
    for lag in range(1, lags + 1):
        rows = queries[-1][:, :, 1:]
        queries.append(rows if lag == 1 else pull(rows, steps[:, :, 1 : steps.shape[2] - lag + 1]))
    return queries


class _Weights:
    """The factor of every pair of positions `lag` chunks apart, and the gradient of the level weights in it."""

    def __init__(
        self, lam: Tensor | None, v: Tensor, width: int | None, base: int, admissibility: Admissibility
    ) -> None:
        self.lam, self.width, self.base, self.admissibility = lam, width, base, admissibility
        self.count, self.size, self.device = v.shape[2], v.shape[3], v.device
        self.batch = v.shape[:3] if lam is None else lam.shape[:3]
        self.gradient = None if lam is None else torch.zeros_like(lam)

    def __call__(self, scores: Tensor, lag: int) -> Tensor:
        """Scores [.., N - lag, C, C] times their factors."""
        scores = self._near(scores, lag)
        if self.lam is None:
            return scores
        lam = self.lam[:, :, lag:]
        table = self._levels(lag)
        return scores * lam.gather(-1, table.expand(*lam.shape[:-1], table.shape[-1]))

    def gather(self, gradient: Tensor, lag: int) -> None:
        """Add the gradient of the factors [.., N - lag, C, C] to that of the level weights."""
        if self.gradient is None:
            return
        gradient = self._near(gradient, lag)
        table, target = self._levels(lag), self.gradient[:, :, lag:]
        if table.shape[-1] == 1:
            # one level for a whole row of a pair of chunks: a single address an element, so that the order is fixed
            index = table.expand(*target.shape[:-1], 1)
            target.scatter_add_(-1, index, reduce_to(gradient.sum(-1, keepdim=True), target[..., :1]))
        else:
            target += reduce_to(one_hot_sum(gradient, table, target.shape[-1]), target)

    def _near(self, scores: Tensor, lag: int) -> Tensor:
        # t - s = lag * size + c - s
        return scores if self.width is None else scores.triu(1 - self.width + lag * self.size)

    def _levels(self, lag: int) -> Tensor:
        return _levels(self.count, self.size, lag, self.base, self.admissibility, self.device)


@functools.lru_cache(maxsize=64)
def _levels(count: int, size: int, lag: int, base: int, admissibility: Admissibility, device: torch.device) -> Tensor:
    """Levels of the pairs of chunks n and n - lag, n = lag, ...: [N - lag, 1, 1], or [C, C] where positions matter.

    Two neighbouring chunks of a strongly admissible hierarchy see each other position by position, all in the same way.
    """
    if admissibility == "strong" and lag == 1:
        return torch.tensor(
            [[level(size + c, s, base, admissibility) for s in range(size)] for c in range(size)], device=device
        )
    inside = [level(n * size, (n - lag) * size, base, admissibility) for n in range(lag, count)]
    return torch.tensor(inside, device=device)[:, None, None]
