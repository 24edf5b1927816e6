"""The hand-made module behind autograd, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import decayed_calls
import pytest
import torch
from tile_kernels import triton_process
from torch import Tensor

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a function of `decayed_calls` in a process in which Triton is the interpreter."""
    with triton_process(interpret=True) as pool:
        yield lambda function, *args, **options: pool.submit(function, *args, **options).result()


def inputs(B: int = 2, T: int = 7, H: int = 3, V: int = 5, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    v, weights = (torch.randn(B, T, H, V, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return -torch.rand(H, generator=generator), v, weights


def check(found: decayed_calls.Outcome, wanted: decayed_calls.Outcome, tolerance: float = 1e-5) -> None:
    for name in found._fields:
        result, reference = getattr(found, name), getattr(wanted, name)
        assert result.shape == reference.shape, name
        assert (result - reference).norm() <= tolerance * reference.norm(), name


@pytest.mark.parametrize("options", [{}, {"recomputed": True}, {"autocast": True}])
def test_output_and_gradients(run: Run, options: dict[str, bool]) -> None:
    g, v, weights = inputs()
    check(run(decayed_calls.outcome, g, v, weights, **options), decayed_calls.expected(g, v, weights))


def test_dtypes(run: Run) -> None:
    """Half-precision vectors beside a float32 gate: every gradient comes in the dtype of its input."""
    g, v, weights = inputs(dtype=torch.float16)
    found = run(decayed_calls.outcome, g, v, weights)
    assert [x.dtype for x in found] == [torch.float16, torch.float32, torch.float16]
    check(found, decayed_calls.expected(g, v, weights), 1e-3)


def layouts(x: Tensor) -> dict[str, Tensor]:
    """The same values: rows apart, channels apart, at an odd address."""
    wide = torch.stack([x, -x], -2).flatten(-2)
    odd = torch.empty(x.numel() + 1).to(x)[1:].view(x.shape)
    return {
        "rows": wide[..., : x.shape[-1]],
        "channels": torch.stack([x, -x], -1)[..., 0],
        "heads first": x.transpose(1, 2).contiguous().transpose(1, 2),
        "odd": odd.copy_(x),
    }


@pytest.mark.parametrize("layout", ["rows", "channels", "heads first", "odd"])
def test_layouts(run: Run, layout: str) -> None:
    g, v, weights = inputs()
    found = run(decayed_calls.outcome, g, layouts(v)[layout].detach(), layouts(weights)[layout])
    check(found, decayed_calls.expected(g, v, weights))


def test_expanded(run: Run) -> None:
    g, v, _ = inputs()
    v = v[:1, :1].expand(2, 7, 3, 5)
    check(run(decayed_calls.summed, g, v), decayed_calls.expected(g, v, torch.ones(v.shape)))


@pytest.mark.parametrize("sizes", [(0, 7, 3, 5), (2, 0, 3, 5)])
def test_nothing(run: Run, sizes: tuple[int, ...]) -> None:
    g, v, weights = inputs(*sizes)
    found = run(decayed_calls.outcome, g, v, weights)
    assert found.o.shape == found.d_v.shape == sizes
    assert found.d_g.tolist() == [0, 0, 0]


def test_refuses_double_backward(run: Run) -> None:
    with pytest.raises(RuntimeError, match="once_differentiable"):
        run(decayed_calls.twice, *inputs()[:2])


def test_what_is_kept(run: Run) -> None:
    g, v, _ = inputs()
    assert run(decayed_calls.kept, g, v) == []
    assert run(decayed_calls.kept, g.requires_grad_(), v) == [(3,), (2, 7, 3, 5), (2, 7, 3, 5)]


def test_one_plan_a_layout(run: Run) -> None:
    g, v, _ = inputs()
    assert run(decayed_calls.plans, g, v, v.clone()) == 1
    assert run(decayed_calls.plans, g, v, layouts(v)["rows"], v[:, :5]) == 3
