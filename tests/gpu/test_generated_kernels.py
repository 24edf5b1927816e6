"""Generated Triton kernels on a GPU against float64, in every precision, at the edges where kernels have gone wrong."""

from __future__ import annotations

import pytest
import torch
import torch.utils.checkpoint
from compilation import library_spec
from gpu_calls import ALLOWED, NAMES, inputs_of, shape_of
from torch import Tensor

from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.regimes import REGIMES, Regime
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.verification import verify
from maskdsl.spec import Spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def outcome(attention: Attention, inputs: dict[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
    output = attention(**inputs)
    gradients = torch.autograd.grad(output, list(inputs.values()), weights.to(output.dtype))
    return {"o": output.detach(), **{f"d_{name}": g for name, g in zip(inputs, gradients, strict=True)}}


def reference(spec: Spec, inputs: dict[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
    """By the PyTorch programs in float64, which the property tests hold against both oracles."""
    wide = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    return outcome(Attention(spec, "torch"), wide, weights)


def check(spec: Spec, shape: Shape, dtype: torch.dtype, regime: Regime = "mild", allowed: float | None = None) -> None:
    inputs = inputs_of(spec, shape, dtype, regime)
    weights = torch.randn(shape.B, shape.T, shape.H, shape.V, device="cuda").to(dtype)
    found, exact = outcome(Attention(spec, "triton"), inputs, weights), reference(spec, inputs, weights)
    for name, expected in exact.items():
        error = (found[name].double() - expected).norm() / expected.norm().clamp(min=1e-30)
        # the gradient of a parameter is a sum of terms of both signs over all tokens, of which little may be left
        limit = (allowed or ALLOWED[dtype]) * (1 if expected.ndim > 2 else 3)
        assert error <= limit, f"{name}: {error:.1e} at {shape}, {dtype}, {regime}"


@pytest.mark.parametrize("name", NAMES)
def test_random_calls_in_float32(name: str) -> None:
    report = verify(library_spec(name), 4, device="cuda", backend="triton")  # each shape compiles anew
    assert report.passed, report.counterexample


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("name", NAMES)
def test_precisions_and_edges_of_chunks(name: str, dtype: torch.dtype) -> None:
    spec = library_spec(name)
    for length in (1, 63, 64, 65, 129, 1000):
        check(spec, shape_of(spec, length), dtype)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", ["log_linear_mamba2", "log_linear_gla", "two_timescale", "windowed_decay"])
def test_gates_of_every_regime(name: str, regime: Regime) -> None:
    """Outputs and vectors; a gate that forgets everything has gradients near zero, which float32 calls verify."""
    spec = library_spec(name)
    inputs = inputs_of(spec, shape_of(spec, 200), torch.bfloat16, regime)
    weights = torch.randn(2, 200, 4, 64, device="cuda").bfloat16()
    found, exact = outcome(Attention(spec, "triton"), inputs, weights), reference(spec, inputs, weights)
    for name_, expected in exact.items():
        assert found[name_].isfinite().all()
        if name_ in ("o", "d_q", "d_k", "d_v"):
            assert (found[name_].double() - expected).norm() <= 1e-2 * expected.norm()


@pytest.mark.parametrize(("K", "V"), [(1, 8), (16, 24), (48, 72), (80, 96), (100, 112), (128, 192), (256, 256)])
@pytest.mark.parametrize("name", ["log_linear_mamba2", "gla"])
def test_sizes_of_heads(name: str, K: int, V: int) -> None:
    spec = library_spec(name)
    check(spec, shape_of(spec, 200, K=K, V=V, H=3, key_heads=3), torch.bfloat16)
    check(spec, shape_of(spec, 130, K=K, V=V, H=3, key_heads=1), torch.float32)


@pytest.mark.parametrize("name", ["log_linear_mamba2", "mamba2", "log_linear_gla", "gla"])
def test_long_sequences(name: str) -> None:
    spec = library_spec(name)
    check(spec, shape_of(spec, 65536, B=1, H=2, key_heads=1), torch.bfloat16)
    check(spec, shape_of(spec, 65536 - 63, B=1, H=2, key_heads=1), torch.float32, allowed=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_twice(name: str) -> None:
    spec = library_spec(name)
    shape = shape_of(spec, 1000, K=128, V=192)
    inputs = inputs_of(spec, shape, torch.bfloat16)
    weights = torch.randn(shape.B, shape.T, shape.H, shape.V, device="cuda").bfloat16()
    first = outcome(Attention(spec, "triton"), inputs, weights)
    second = outcome(Attention(spec, "triton"), inputs, weights)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["log_linear_mamba2", "gla", "windowed_decay"])
def test_memory_that_nobody_wrote_is_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new tensor is poisoned, and inputs are prefixes of tensors that end in NaN."""
    spec = library_spec(name)
    empty = torch.empty

    def poisoned(*args: object, **kwargs: object) -> Tensor:
        made = empty(*args, **kwargs)  # type: ignore[call-overload]
        return made.fill_(float("nan")) if made.is_floating_point() and made.device.type == "cuda" else made

    for length in (1, 63, 65, 130, 321):
        shape = shape_of(spec, length)
        inputs = inputs_of(spec, shape, torch.bfloat16)
        weights = torch.randn(shape.B, length, shape.H, shape.V, device="cuda").bfloat16()
        exact = reference(spec, inputs, weights)
        padded = {}
        for each in spec.inputs:
            x = inputs[each.name].detach()
            if "T" in each.kind.value:
                tail = x.new_full((x.shape[0], 70, *x.shape[2:]), float("nan"))
                x = torch.cat([x, tail], 1)[:, :length]
            padded[each.name] = x.requires_grad_()
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", poisoned)
            found = outcome(Attention(spec, "triton"), padded, weights)
        for of, expected in exact.items():
            assert (found[of].double() - expected).norm() <= 1e-2 * expected.norm(), f"{of} at {length}"


@pytest.mark.parametrize("name", ["log_linear_mamba2", "gla"])
def test_layouts(name: str) -> None:
    """Strided inputs, gradients of stride 0, and heads before positions in memory."""
    spec = library_spec(name)
    shape = shape_of(spec, 150)
    inputs = inputs_of(spec, shape, torch.bfloat16)
    exact = reference(spec, inputs, torch.ones(2, 150, 4, 64, device="cuda"))
    for turn in (lambda x: x, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2) if x.dim() > 2 else x):
        leaves = {name: turn(x.detach()).requires_grad_() for name, x in inputs.items()}
        output = Attention(spec, "triton")(**leaves)
        output.sum().backward()
        assert (output.double() - exact["o"]).norm() <= 1e-2 * exact["o"].norm()
        for name_, x in leaves.items():
            assert x.grad is not None
            expected = exact[f"d_{name_}"]
            assert (x.grad.double() - expected).norm() <= 1e-2 * expected.norm()
    wide = torch.randn(2, 150, 4, 130, device="cuda", dtype=torch.bfloat16)
    changed = dict(inputs) | {"v": wide[..., 65:129]}
    packed = dict(inputs) | {"v": wide[..., 65:129].contiguous()}
    attention = Attention(spec, "triton")
    assert torch.equal(attention(**changed), attention(**packed))


def test_offsets_beyond_32_bits() -> None:
    """One row of a batch of more than 2**31 numbers is what it is alone."""
    spec = library_spec("retention")
    attention = Attention(spec, "triton")
    T, H, V = 4096, 64, 256
    B = 2**31 // (T * H * V) + 2
    q, k = (torch.randn(B, T, 1, 16, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    v = torch.randn(B, T, H, V, device="cuda", dtype=torch.bfloat16)
    g = -torch.rand(H, device="cuda")
    last = attention(q=q, k=k, v=v, g=g)[-1]
    alone = attention(q=q[-1:], k=k[-1:], v=v[-1:], g=g)[0]
    assert torch.equal(last, alone)


def test_grids_beyond_65535() -> None:
    spec = library_spec("log_linear_attention")
    check(spec, shape_of(spec, 130, B=700, H=48, K=16, V=16, key_heads=1), torch.bfloat16)


def test_autocast_and_checkpointing() -> None:
    spec = library_spec("log_linear_mamba2")
    shape = shape_of(spec, 150)
    inputs = inputs_of(spec, shape, torch.float32)
    weights = torch.randn(2, 150, 4, 64, device="cuda")
    plain = outcome(Attention(spec, "triton"), inputs, weights)
    attention = Attention(spec, "triton")
    with torch.autocast("cuda", torch.bfloat16):
        assert all(torch.equal(x, plain[name]) for name, x in outcome(attention, inputs, weights).items())
    output = torch.utils.checkpoint.checkpoint(lambda *x: attention(*x), *inputs.values(), use_reentrant=False)
    gradients = torch.autograd.grad(output, list(inputs.values()), weights)
    assert all(torch.equal(g, plain[f"d_{name}"]) for name, g in zip(inputs, gradients, strict=True))
    kept = attention(**inputs)
    first = torch.autograd.grad(kept, list(inputs.values()), weights, retain_graph=True)
    second = torch.autograd.grad(kept, list(inputs.values()), weights)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_auto_takes_kernels_where_there_are_some() -> None:
    spec = library_spec("mamba2")
    inputs = inputs_of(spec, shape_of(spec, 70), torch.bfloat16)
    attention = Attention(spec, "auto")
    attention(**inputs)
    assert "@triton.jit" in attention.source()
    attention(**{name: x.detach().double() for name, x in inputs.items()})
    assert "@triton.jit" not in attention.source()
