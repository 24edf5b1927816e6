"""Verification: it passes what is right, and finds, shrinks and hands over what is wrong."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.codegen import torch_ops
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.verification import Case, compare, verify

NAMES = maskdsl.library.names()


@pytest.mark.parametrize("name", NAMES)
def test_every_library_definition_verifies(name: str) -> None:
    report = verify(maskdsl.compile(name).spec, 10)
    assert report.passed, report.counterexample
    assert all(check.passed for check in report.checks)


def test_every_comparison_is_made() -> None:
    spec = maskdsl.compile("mamba2").spec
    called = []
    report = verify(spec, 6, lambda: called.append(1))
    quantities = {"o", *(f"d_{each.name}" for each in spec.inputs)}
    assert {check.of for check in report.checks} == quantities
    assert len({check.what for check in report.checks}) == 3
    assert len(called) == max(check.calls for check in report.checks) == 6


@pytest.fixture
def broken_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch_ops.walk

    def wrong(r: Tensor, *rest: Any, **constants: Any) -> Tensor:
        output = right(r, *rest, **constants).clone()
        output[:, :, 2:] *= 1 + 1e-6
        return output

    monkeypatch.setattr(torch_ops, "walk", wrong)


@pytest.mark.usefixtures("broken_walk")
def test_a_small_error_far_into_the_sequence_is_found_and_shrunk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # the docstring of the definition has quotes of its own, which the script must carry
    report = verify(maskdsl.compile("log_linear_mamba2").spec, 30)
    assert not report.passed
    assert report.counterexample is not None
    assert "T=129" in report.counterexample
    script = tmp_path / "counterexample.py"
    script.write_text(report.counterexample)
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert "FAILED compiled = recurrent, float64    o" in printed
    assert "ok     dense = recurrent, float64       o" in printed


def test_nan_never_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_ops, "scan", lambda a, h, reverse=False: h * torch.nan)
    found = list(compare(maskdsl.compile("retention"), Case(Shape(1, 3, 1, 2, 2), "mild", 0)))
    assert not all(comparison.passed for comparison in found)
