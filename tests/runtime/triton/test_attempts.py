"""A kernel that does not compile, or asks for too much, at first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from triton.backends.compiler import GPUTarget

from maskdsl.runtime.triton import kernels
from maskdsl.runtime.triton.kernels import Source, compiled

TARGET = GPUTarget("cuda", 90, 32)
SOURCE = Source("output_kernel", "made.py", "key", object(), {"num_stages": 3})  # type: ignore[arg-type]
SHARED = 1000


def kernel_of(shared: int) -> SimpleNamespace:
    return SimpleNamespace(metadata=SimpleNamespace(shared=shared))


def failing(times: int, error: Exception) -> Any:
    calls: list[int] = []

    def compile(*args: Any, **kwargs: Any) -> SimpleNamespace:
        calls.append(1)
        if len(calls) <= times:
            try:
                raise error
            except Exception as inner:
                raise ValueError("at 4:12: total = tl.zeros([16], tl.float32)") from inner
        return kernel_of(SHARED)

    return compile


def test_an_accident_of_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    torn = SystemError("AST constructor recursion depth mismatch (before=33, after=91)")
    monkeypatch.setattr(kernels.triton, "compile", failing(2, torn))
    assert compiled([SOURCE], TARGET, SHARED) == [kernel_of(SHARED)]
    monkeypatch.setattr(kernels.triton, "compile", failing(100, torn))
    with pytest.raises(RuntimeError, match=r"'output_kernel' of 'made\.py' does not compile"):
        compiled([SOURCE], TARGET, SHARED)


def test_a_mistake_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.triton, "compile", failing(2, TypeError("no such function")))
    with pytest.raises(RuntimeError, match="does not compile: at 4:12"):
        compiled([SOURCE], TARGET, SHARED)


def test_an_error_among_its_own_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    error = TypeError("no such function")
    error.__context__ = ValueError("at 4:12")
    error.__context__.__context__ = error
    monkeypatch.setattr(kernels.triton, "compile", failing(2, error))
    with pytest.raises(RuntimeError, match="does not compile: at 4:12"):
        compiled([SOURCE], TARGET, SHARED)


def test_loads_run_ahead_as_far_as_there_is_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(source: object, target: GPUTarget, options: dict[str, int]) -> SimpleNamespace:
        return kernel_of(400 * options["num_stages"])

    monkeypatch.setattr(kernels.triton, "compile", compile)
    assert compiled([SOURCE], TARGET, 1200) == [kernel_of(1200)]
    assert compiled([SOURCE], TARGET, 1199) == [kernel_of(800)]
    assert compiled([SOURCE], TARGET, 799) == [kernel_of(400)]
    assert compiled([SOURCE], TARGET, 399) == [kernel_of(400)]


def test_a_loop_that_triton_fails_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more, without loads that run ahead."""

    def compile(source: object, target: GPUTarget, options: dict[str, int]) -> SimpleNamespace:
        if options["num_stages"] > 1:
            raise RuntimeError("PassManager::run failed")
        return kernel_of(400)

    monkeypatch.setattr(kernels.triton, "compile", compile)
    assert compiled([SOURCE], TARGET, 1200) == [kernel_of(400)]
