"""What README and examples show runs as it stands."""

from __future__ import annotations

import importlib.util
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
SMALL = {"heads": 2, "key": 4, "value": 4, "key_heads": 1}
PROGRAMS = re.findall(r"```python\n(import .*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def example(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # where dataclasses look their module up
    found.loader.exec_module(module)
    return module


@pytest.fixture
def generate() -> ModuleType:
    return example("generate")


def test_the_readme_has_programs() -> None:
    assert len(PROGRAMS) == 2


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_in_the_readme_runs(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(program, {})
    assert capsys.readouterr().out


def test_a_prompt_goes_on_alike_however_it_is_read(generate: ModuleType) -> None:
    result = CliRunner().invoke(generate.main, ["--steps", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "bytes are the same after each" in result.output
    assert f"at positions [{generate.PROMPT}]" in result.output
    assert "sample 3 of 3" in result.output


def test_a_lost_piece_of_a_prompt_is_seen(generate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "ways", lambda prompt: {"one call": [prompt], "less": [prompt[:, :-1]]})
    torch.manual_seed(0)
    model = generate.Model().double()
    with torch.no_grad(), pytest.raises(AssertionError, match="depends on how the prompt was read"):
        generate.compare(model, generate.as_tokens(b"it reads all of this")[None])


def test_the_benchmark_prints_what_it_times(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = example("benchmark")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", lambda **_: ThreadPoolExecutor(1))
    monkeypatch.setattr(benchmark, "SHAPES", dict.fromkeys("AB", SMALL))
    asked = ["linear_attention", "gated_deltanet", "--no-peers", "--limit", "20", "--repeats", "1"]
    result = CliRunner().invoke(benchmark.main, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| `")]
    assert [line[0] for line in lines] == ["| `linear_attention`", *["| `gated_deltanet`"] * 8]
    packed = [line for line in lines if len(line) == 7]
    assert [line[2] for line in packed] == ["batch", "packed"]
    assert all(float(line[4]) > 0 for line in packed)
    handed = [line for line in lines if "state" in line[3] or line[3] == "alone"]
    assert [line[2:4] for line in handed] == [["20", "alone"], ["20", "from state to state"]]
    assert all(float(line[5]) > 0 for line in handed)
    others = [line for line in lines if line not in packed + handed]
    assert [line[4] for line in others] == [*["maskdsl"] * 4, "softmax"]
    assert all(float(line[5]) > 0 for line in others)
