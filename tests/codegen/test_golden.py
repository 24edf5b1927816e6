"""Generated programs in full, one small definition, to be read as code."""

from __future__ import annotations

from pathlib import Path

import pytest
from compilation import library_spec

from maskdsl.codegen.extract import function_source
from maskdsl.runtime.build import Signature

FOLDER = Path(__file__).parent / "golden"


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_linear_attention(direction: str, update_golden: bool) -> None:
    made = function_source(Signature().source(library_spec("linear_attention")), direction)
    golden = FOLDER / f"linear_attention_{direction}.py"
    if update_golden:
        golden.write_text(made, encoding="utf-8")
    assert golden.exists(), f"{golden.name} is missing; write it by pytest --update-golden."
    assert made == golden.read_text(encoding="utf-8")
