"""One small kernel a tile function, and what runs or compiles them in a process of its own."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from unittest import mock

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import interpreter

from maskdsl.codegen import tiles


@triton.jit
def _load(pointer, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    return tl.load(pointer + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])


@triton.jit
def _store(pointer, x):
    ROWS: tl.constexpr = x.shape[0]
    COLUMNS: tl.constexpr = x.shape[1]
    tl.store(pointer + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :], x)


@triton.jit
def dot(x, y, out, C: tl.constexpr, K: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    _store(out, tiles.dot(_load(x, C, K), _load(y, K, C), OPERAND, PRECISION))


@triton.jit
def inverse(system, out, C: tl.constexpr, PRECISION: tl.constexpr):
    _store(out, tiles.inverse(_load(system, C, C), PRECISION))


@triton.jit
def cumsum(x, out, C: tl.constexpr, K: tl.constexpr, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr):
    _store(out, tiles.cumsum(_load(x, C, K), REVERSE, EXCLUSIVE))


@triton.jit
def cumsum_vector(x, out, C: tl.constexpr, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr):
    tl.store(out + tl.arange(0, C), tiles.cumsum(tl.load(x + tl.arange(0, C)), REVERSE, EXCLUSIVE))


@triton.jit
def cumsum_narrow(x, out, C: tl.constexpr, K: tl.constexpr, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr):
    _store(out, tiles.cumsum(_load(x, C, K), REVERSE, EXCLUSIVE, False, tl.float32))


@triton.jit
def softplus(x, out, C: tl.constexpr):
    tl.store(out + tl.arange(0, C), tiles.softplus(tl.load(x + tl.arange(0, C))))


@triton.jit
def narrow_exp(x, y, out, C: tl.constexpr):
    lanes = tl.arange(0, C)
    tl.store(out + lanes, tiles.narrow_exp(tl.load(x + lanes).to(tl.float64) + tl.load(y + lanes)))


@triton.jit
def folded(x, out, C: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr):
    _store(out, tiles.folded(_load(x, C, K), ROWS))


@triton.jit(do_not_specialize=["n", "m"])
def held_levels(out, n, m, BASE: tl.constexpr, STRONG: tl.constexpr):
    """Where position n stands: its `reach`, how many of m levels there are to go through, and which."""
    pos = tl.full((), n, tl.int64)
    left = tiles.held_levels(pos, m, BASE, STRONG)
    count = tiles.count_levels(left)
    tl.store(out, tiles.reach(pos, BASE))
    tl.store(out + 1, count)
    for i in range(count):
        tl.store(out + 2 + i, tiles.lowest_level(left))
        left &= left - 1


@triton.jit(do_not_specialize=["n", "m"])
def levels_held(out, n, m, C: tl.constexpr):
    """What a state at position n holds at m levels, and when that meets; the levels of n and C - 1 positions before."""
    position = tl.full((), n, tl.int64)
    for j in range(1, m + 1):
        tl.store(out + 3 * j - 3, tiles.first_at(position, j))
        tl.store(out + 3 * j - 2, tiles.met_at(position, j))
        tl.store(out + 3 * j - 1, tiles.all_met_at(position, j))
    lanes = tl.arange(0, C)
    tl.store(out + 3 * m + lanes, tiles.apart_at(position, position - lanes))


@triton.jit
def spans(g, out, C: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr, WIDE: tl.constexpr):
    _store(out, tiles.spans(tl.load(g + tl.arange(0, C)), ROW, COLUMN, WIDE))


@triton.jit
def spans_adjoint(d, out, C: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr, WIDE: tl.constexpr):
    tl.store(out + tl.arange(0, C), tiles.spans_adjoint(_load(d, C, C), ROW, COLUMN, WIDE))


@triton.jit
def tril(s, out, C: tl.constexpr, DIAGONAL: tl.constexpr):
    _store(out, tiles.tril(_load(s, C, C), DIAGONAL))


@triton.jit
def near(s, out, C: tl.constexpr, WIDTH: tl.constexpr):
    _store(out, tiles.near(_load(s, C, C), WIDTH))


@triton.jit
def select(lam, out, C: tl.constexpr, LP: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr):
    _store(out, tiles.select(_load(lam, C, LP), BASE, STRONG))


@triton.jit
def select_adjoint(d, out, C: tl.constexpr, LP: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr):
    _store(out, tiles.select_adjoint(_load(d, C, C), LP, BASE, STRONG))


@triton.jit
def columns(lam, out, level, C: tl.constexpr, LP: tl.constexpr):
    _store(out, tiles.place_column(tiles.level_column(_load(lam, C, LP), level), level, LP))


@triton.jit(do_not_specialize=["n", "m"])
def pair_weights(
    lam, out, n, m, C: tl.constexpr, LP: tl.constexpr, SIZE: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr
):
    _store(out, tiles.pair_weights(_load(lam, C, LP), n, m, SIZE, BASE, STRONG))


@triton.jit
def decay_dot(
    q, k, g, out,
    C: tl.constexpr, K: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr, DIAGONAL: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    zeros = tl.zeros([C, C], tl.float32)
    s = tiles.decay_dot(
        zeros, _load(q, C, K), _load(k, C, K), _load(g, C, K), ROW, COLUMN, DIAGONAL, OPERAND, PRECISION
    )
    _store(out, s)


@triton.jit
def decay_dots(
    q, r, k, g, out,
    C: tl.constexpr, K: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    zeros = tl.zeros([C, C], tl.float32)
    s = tiles.decay_dots(
        zeros, _load(q, C, K), _load(r, C, K), _load(k, C, K), _load(g, C, K), ROW, COLUMN, OPERAND, PRECISION
    )
    _store(out, s)


@triton.jit
def decay_dot_adjoint(
    d, q, k, g, dq, dk, dg,
    C: tl.constexpr, K: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr, DIAGONAL: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    x, y, z = tiles.decay_dot_adjoint(
        _load(d, C, C), _load(q, C, K), _load(k, C, K), _load(g, C, K), ROW, COLUMN, DIAGONAL, OPERAND, PRECISION
    )
    _store(dq, x)
    _store(dk, y)
    _store(dg, z)


def run(
    name: str, arguments: tuple[Tensor | int, ...], outputs: list[Tensor], constants: Mapping[str, object]
) -> list[Tensor]:
    """Launch one program of a kernel: its operands, its outputs, then the integers among its arguments."""
    tensors = [x for x in arguments if isinstance(x, Tensor)]
    numbers = [x for x in arguments if not isinstance(x, Tensor)]
    globals()[name][(1,)](*tensors, *outputs, *numbers, **_resolved(constants))
    return outputs


def shared_memory(name: str, constants: Mapping[str, object], warps: int, backend: str, target: int | str) -> int:
    """Compile a kernel for a target that need not be here; the bytes of shared memory that it takes."""
    kernel = globals()[name]
    integers = {"n": "i32", "m": "i32", "level": "i32"}
    signature = {x: "constexpr" if x in constants else integers.get(x, "*fp32") for x in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=dict(_resolved(constants)))
    gpu = GPUTarget(backend, target, 64 if backend == "hip" else 32)
    return triton.compile(source, target=gpu, options={"num_warps": warps}).metadata.shared


def _resolved(constants: Mapping[str, object]) -> Mapping[str, object]:
    dtypes = {"fp32": tl.float32, "fp16": tl.float16, "bf16": tl.bfloat16}
    return {key: dtypes.get(value, value) if isinstance(value, str) else value for key, value in constants.items()}


@contextmanager
def triton_process(interpret: bool, overflow: bool = True) -> Iterator[ProcessPoolExecutor]:
    """A process with Triton's interpreter or compiler: which it is gets decided when Triton is imported.

    The interpreter checks all integers for `overflow`, a quarter of its time, which short calls can do without.
    """
    with (
        mock.patch.dict(os.environ, {"TRITON_INTERPRET": str(int(interpret))}),
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        pool.submit(os.getpid if overflow else _ignore_overflow).result()
        yield pool


def _ignore_overflow() -> None:
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)


@triton.jit
def sequences(origins, out, count, width, PER: tl.constexpr, ENDS: tl.constexpr):
    unit = tl.program_id(0)
    tl.store(out + unit, tiles.sequence_of(unit, origins, count, width, PER, ENDS))


def places_of(bounds: list[int], size: int, tokens: int, slots: int, positions: list[int] | None = None) -> Tensor:
    """Where sequences lie in a row of `tokens`, in chunks of `size`, [2, S + 1], or [3, S + 1] from positions on."""
    found = torch.full((2 if positions is None else 3, len(bounds)), -1, dtype=torch.int64)
    given, rest = torch.tensor(bounds, dtype=torch.int32), (found, len(bounds) - 1, size, tokens, slots)
    if positions is None:
        tiles.places[(1,)](given, *rest)
    else:
        tiles.resumed_places[(1,)](given, torch.tensor(positions), *rest)
    return found


def sequences_of(origins: list[int], units: int, width: int, per: int, ends: int = 1) -> list[int]:
    """The sequence of every unit."""
    out = torch.full((units,), -1, dtype=torch.int32)
    sequences[(units,)](torch.tensor(origins), out, len(origins) - 1, width, PER=per, ENDS=ends)
    return list(out.tolist())


def blanked(x: Tensor, used: int, programs: int) -> Tensor:
    """The tensor [1, T, X] with zeros from token `used` on."""
    starts = torch.tensor([0, used])
    tiles.blank[(programs,)](x, starts, 1, x.stride(1), x.shape[1])
    return x
