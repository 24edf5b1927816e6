"""Kernels of library definitions: verified in Triton's interpreter, and compiled for GPUs that are not here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from compilation import library_spec
from tile_kernels import triton_process

from maskdsl.cli import main
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.driver import Example, stages
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.runtime.verification import verify


def test_definitions_verify_in_the_interpreter() -> None:
    with triton_process(interpret=True, overflow=False) as pool:
        for name in ("mamba2", "log_linear_mamba2", "gated_deltanet"):
            report = pool.submit(verify, library_spec(name), 2, backend="triton").result()
            assert report.passed, report.counterexample
            found = {check.of for check in report.checks if check.what == "compiled = recurrent, float32"}
            assert {"o", "d_q", "d_A_log"} <= found
            assert "compiled = recurrent, float64" not in {check.what for check in report.checks}


def output_after_nan(name: str, gate: str) -> torch.Tensor:
    """The output [1, T, 1, V] of a call whose gate at position 10 is NaN."""
    spec = library_spec(name)
    inputs = random_inputs(spec, Shape(1, 70, 1, 16, 16, 8))
    inputs[gate][0, 10] = torch.nan
    return Attention(spec, "triton")(**inputs)


@pytest.mark.parametrize(
    ("name", "gate"),
    [("mamba2", "dt"), ("log_linear_mamba2", "dt"), ("gla", "f"), ("gated_deltanet", "a"), ("kda", "f")],
)
def test_a_gate_that_is_no_number_is_no_result(name: str, gate: str) -> None:
    with triton_process(interpret=True) as pool:
        output = pool.submit(output_after_nan, name, gate).result()
    assert output[:, 10:].isnan().all()


@pytest.mark.parametrize(("target", "comment"), [("sm_90", "//"), ("gfx942", ";")])
def test_assembly(target: str, comment: str) -> None:
    text = stages(library_spec("mamba2"), "ptx", "forward", Example(key=16, value=16, target=target))
    summaries = re.findall(rf"^{comment} (\w+): \d+ registers, .* shared memory, \d+ warps", text, re.MULTILINE)
    assert len(summaries) > 1
    assert all(f".globl {name}" in re.sub(r"\s+", " ", text) or f".entry {name}" in text for name in summaries)


def test_the_command_shows_kernels() -> None:
    sizes = ["--heads", "6", "--key-heads", "2", "--key", "24", "--value", "80"]
    result = CliRunner().invoke(main, ["emit", "mamba2", "--stage", "triton", *sizes])
    assert result.exit_code == 0
    assert "@triton.jit" in result.stdout
    assert "\ndef forward(at" in result.stdout
    assert "\ndef backward(at" not in result.stdout


def test_the_command_says_what_has_no_kernels(tmp_path: Path) -> None:
    spec = tmp_path / "two_steps.mask"
    spec.write_text(
        "attention two_steps:\n    q, k : key\n    v : value\n    return attend(q, k, v, delta(k, 1) @ delta(q, 1))\n",
        encoding="utf-8",
    )
    result = CliRunner().invoke(main, ["emit", str(spec), "--stage", "triton"])
    assert result.exit_code == 1
    assert "'two_steps' has several rank-one steps" in result.stderr


def test_key_heads_divide_heads() -> None:
    result = CliRunner().invoke(main, ["emit", "mamba2", "--stage", "triton", "--key-heads", "3"])
    assert result.exit_code == 2
    assert "3 key heads do not divide 4 heads." in result.stderr
