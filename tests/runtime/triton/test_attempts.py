"""A kernel that Python's parser fails by accident, several threads parsing at once, is compiled again."""

from __future__ import annotations

from typing import Any

import pytest
from triton.backends.compiler import GPUTarget

from maskdsl.runtime.triton import kernels
from maskdsl.runtime.triton.kernels import Source, compiled

TARGET = GPUTarget("cuda", 90, 32)
SOURCE = Source("output_kernel", "made.py", "key", object(), {})  # type: ignore[arg-type]


def failing(times: int, error: Exception) -> Any:
    calls: list[int] = []

    def compile(*args: Any, **kwargs: Any) -> str:
        calls.append(1)
        if len(calls) <= times:
            try:
                raise error
            except Exception as inner:
                raise ValueError("at 4:12: total = tl.zeros([16], tl.float32)") from inner
        return "kernel"

    return compile


def test_an_accident_of_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    torn = SystemError("AST constructor recursion depth mismatch (before=33, after=91)")
    monkeypatch.setattr(kernels.triton, "compile", failing(2, torn))
    assert compiled([SOURCE], TARGET) == ["kernel"]
    monkeypatch.setattr(kernels.triton, "compile", failing(100, torn))
    with pytest.raises(RuntimeError, match=r"'output_kernel' of 'made\.py' does not compile"):
        compiled([SOURCE], TARGET)


def test_a_mistake_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.triton, "compile", failing(1, TypeError("no such function")))
    with pytest.raises(RuntimeError, match="does not compile: at 4:12"):
        compiled([SOURCE], TARGET)
