"""Generated programs in full, of small definitions, to be read as code."""

from __future__ import annotations

from pathlib import Path

import pytest
from compilation import library_spec

from maskdsl.codegen.extract import function_source
from maskdsl.codegen.triton_step import emit_step
from maskdsl.runtime.build import Signature
from maskdsl.schedule.token import StepConfiguration

FOLDER = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("linear_attention", "forward"),
        ("linear_attention", "backward"),
        ("linear_attention", "step"),
        ("log_linear_gla", "step"),
    ],
)
def test_generated_programs(name: str, direction: str, update_golden: bool) -> None:
    spec, signature = library_spec(name), Signature()
    module = signature.step_source(spec) if direction == "step" else signature.source(spec)
    made = function_source(module, direction)
    assert_golden(f"{name}_{direction}.py", made, update_golden)


@pytest.mark.parametrize("name", ["gated_deltanet", "log_linear_mamba2", "windowed_decay"])
def test_kernels_of_steps(name: str, update_golden: bool) -> None:
    made = function_source(emit_step(library_spec(name), StepConfiguration((), 128, 64, 16, slots=False)), "step")
    assert_golden(f"{name}_step_kernel.py", made, update_golden)


def assert_golden(name: str, made: str, update: bool) -> None:
    golden = FOLDER / name
    if update:
        golden.write_text(made, encoding="utf-8")
    assert golden.exists(), f"{name} is missing; write it by pytest --update-golden."
    assert made == golden.read_text(encoding="utf-8")
