"""The dense oracle: M[t, s] row by row from the definition of each mask.

A row of a mask is a tensor [B, H, t + 1] of numbers, [B, H, t + 1, K] of diagonals or [B, H, t + 1, K, K] of operators,
one entry for every key position s <= t; a step operator is such a row with a single entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

from maskdsl.language.syntax import Binary, Call, Expression, Name
from maskdsl.mask.levels import Admissibility, level
from maskdsl.runtime.oracle.expressions import ATTEND, Evaluator, Value, arguments
from maskdsl.spec import Spec

NUMBERS, DIAGONALS, OPERATORS = 3, 4, 5


def dense(spec: Spec, inputs: Mapping[str, Tensor]) -> Tensor:
    """The output [B, T, H, V], from masks written out entry by entry; quadratic in T.

    Works in the widest dtype of the inputs, float32 at the least, and is differentiable.
    """
    return Evaluator(spec, inputs, _attend).output()


def _attend(evaluator: Evaluator, call: Call) -> Value:
    """o[t] = scale[t] * sum over s <= t of (q[t]' M[t, s] k[s]) v[s]."""
    given = arguments(call, ATTEND)
    q, k, v = (evaluator.full(given[name]).transpose(1, 2) for name in ("q", "k", "v"))
    outputs = []
    for t, row in enumerate(_rows(evaluator, given["mask"])):
        seen = slice(0, t + 1)
        weights = _bilinear(q[:, :, t], row, k[:, :, seen])
        outputs.append(torch.einsum("bhs,bhsv->bhv", weights, v[:, :, seen]))
    output = torch.stack(outputs, dim=1)
    if "scale" in given:
        output = evaluator.value(given["scale"]).tensor * output
    return Value(output, "V")


def _bilinear(q: Tensor, row: Tensor, k: Tensor) -> Tensor:
    """q' M[t, s] k[s] for every s, [B, H, t + 1]."""
    if row.ndim == NUMBERS:
        return torch.einsum("bhi,bhs,bhsi->bhs", q, row, k)
    if row.ndim == DIAGONALS:
        return torch.einsum("bhi,bhsi,bhsi->bhs", q, row, k)
    return torch.einsum("bhi,bhsij,bhsj->bhs", q, row, k)


def _rows(evaluator: Evaluator, expression: Expression) -> Iterator[Tensor]:
    """M[t, 0..t] for t = 0, 1, ..."""
    mask = evaluator.resolve(expression)
    match mask:
        case Binary("+", left, right):
            pairs = zip(_rows(evaluator, left), _rows(evaluator, right), strict=True)
            return (torch.add(*_alike(x, y)) for x, y in pairs)
        case Binary("*", left, right):
            pairs = zip(_rows(evaluator, left), _rows(evaluator, right), strict=True)
            return (_entrywise(x, y) for x, y in pairs)
        case Call("semiseparable"):
            return _decay_rows(evaluator, mask)
        case Call("fenwick"):
            return _fenwick_rows(evaluator, mask)
        case Call("window"):
            return _window_rows(evaluator, mask)
    return _path_rows(evaluator, mask)


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two rows as rows of one sort: a number stands for that multiple of the identity."""
    size = max(each.shape[-1] if each.ndim > NUMBERS else 1 for each in (x, y))
    sort = max(x.ndim, y.ndim)

    def lift(row: Tensor) -> Tensor:
        if row.ndim == NUMBERS and sort > NUMBERS:
            row = row[..., None].expand(*row.shape, size)
        return torch.diag_embed(row) if row.ndim == DIAGONALS and sort == OPERATORS else row

    return lift(x), lift(y)


def _entrywise(x: Tensor, y: Tensor) -> Tensor:
    """M[t, s] = X[t, s] Y[t, s], one of them numbers or both diagonals."""
    assert NUMBERS in (x.ndim, y.ndim) or x.ndim == y.ndim == DIAGONALS
    rank = max(x.ndim, y.ndim)
    x, y = (row.reshape(*row.shape, *[1] * (rank - row.ndim)) for row in (x, y))
    return x * y


def _decay_rows(evaluator: Evaluator, call: Call) -> Iterator[Tensor]:
    """exp(g[s+1] + ... + g[t])."""
    gates = _gates(evaluator, call)
    exponents = torch.zeros_like(gates[:, :, :0])
    for t in range(evaluator.shape[1]):
        now = gates[:, :, t : t + 1]
        exponents = torch.cat([exponents + now, torch.zeros_like(now)], dim=2)
        yield exponents.exp()


def _gates(evaluator: Evaluator, call: Call) -> Tensor:
    """The log decay, [B, H, T] of numbers or [B, H, T, K] of diagonals."""
    return evaluator.full(arguments(call, ("g",))["g"]).transpose(1, 2)


def _fenwick_rows(evaluator: Evaluator, call: Call) -> Iterator[Tensor]:
    """lam[t, level(t, s)]."""
    given = arguments(call, ("lam", "base", "admissibility"))
    base = evaluator.integer(given["base"]) if "base" in given else 2
    admissibility = cast(Admissibility, evaluator.word(given["admissibility"]) if "admissibility" in given else "weak")
    lam = evaluator.full(given["lam"])
    for t in range(evaluator.shape[1]):
        if lam.ndim == 3:
            yield lam[:, t, :, None].expand(-1, -1, t + 1)
        else:
            yield lam[:, t, :, [level(t, s, base, admissibility) for s in range(t + 1)]]


def _window_rows(evaluator: Evaluator, call: Call) -> Iterator[Tensor]:
    """1 if t - s < w, else 0."""
    width = evaluator.integer(arguments(call, ("w",))["w"])
    batch, length, heads = evaluator.shape
    for t in range(length):
        ones = [float(t - s < width) for s in range(t + 1)]
        yield torch.tensor(ones, dtype=evaluator.dtype, device=evaluator.device).expand(batch, heads, t + 1)


def _path_rows(evaluator: Evaluator, mask: Expression) -> Iterator[Tensor]:
    """M[t, s] = A[t] M[t-1, s] for s < t, and 1 at s = t."""
    row: Tensor | None = None
    for step in _steps(evaluator, mask):
        one = _identity_like(step)
        row = one if row is None else torch.cat([_compose(step, row), one], dim=2)
        yield row


def _steps(evaluator: Evaluator, expression: Expression) -> Iterator[Tensor]:
    """The step operator A[t] of a path mask for t = 0, 1, ..."""
    mask = evaluator.resolve(expression)
    match mask:
        case Binary("@" | "*", left, right):
            pairs = zip(_steps(evaluator, left), _steps(evaluator, right), strict=True)
            return (_compose(x, y) for x, y in pairs)
        case Name("causal"):
            batch, length, heads = evaluator.shape
            return iter(torch.ones(batch, heads, length, dtype=evaluator.dtype, device=evaluator.device).split(1, 2))
        case Call("semiseparable"):
            return iter(_gates(evaluator, mask).exp().split(1, 2))
        case Call("delta"):
            given = arguments(mask, ("k", "beta"))
            k = evaluator.full(given["k"])
            return _rank_one_steps(-evaluator.full(given["beta"])[..., None] * k, k)
        case Call("rank1"):
            given = arguments(mask, ("a", "b"))
            return _rank_one_steps(evaluator.full(given["a"]), evaluator.full(given["b"]))
    raise TypeError(f"The dense oracle knows no step operator of {mask!r}.")


def _rank_one_steps(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """I + a[t] b[t]'."""
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    pairs = zip(a.split(1, 1), b.split(1, 1), strict=True)
    return (identity + torch.einsum("bthi,bthj->bhtij", x, y) for x, y in pairs)


def _compose(x: Tensor, y: Tensor) -> Tensor:
    """The product of operators X Y, entry by entry along the positions."""
    if OPERATORS not in (x.ndim, y.ndim) or NUMBERS in (x.ndim, y.ndim):
        return _entrywise(x, y)
    return torch.matmul(*_alike(x, y))


def _identity_like(step: Tensor) -> Tensor:
    """The neutral step operator of the same sort."""
    return torch.diag_embed(torch.ones_like(step[..., 0])) if step.ndim == OPERATORS else torch.ones_like(step)
