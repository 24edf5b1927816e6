"""Generated programs in full, of small definitions, to be read as code."""

from __future__ import annotations

from pathlib import Path

import pytest
from compilation import library_spec

from maskdsl.codegen.extract import function_source
from maskdsl.runtime.build import Signature

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
    golden = FOLDER / f"{name}_{direction}.py"
    if update_golden:
        golden.write_text(made, encoding="utf-8")
    assert golden.exists(), f"{golden.name} is missing; write it by pytest --update-golden."
    assert made == golden.read_text(encoding="utf-8")
