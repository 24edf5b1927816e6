"""`maskdsl verify`: its table, its exit code, and the counterexample it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import maskdsl.runtime.verification as verification
from maskdsl.cli import main
from maskdsl.runtime.verification import Check, Report, Skipped


def test_a_right_spec_passes() -> None:
    result = CliRunner().invoke(main, ["verify", "retention", "--examples", "3"])
    assert result.exit_code == 0
    assert "ok" in result.stdout
    assert "FAILED" not in result.stdout
    assert "skipped" not in result.stdout
    for way in ("at once", "pieces", "packed", "steps"):
        assert way in result.stdout
    assert "attend_1_1.state" in result.stdout


def test_what_has_no_kernels_is_named_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check("at once", "compiled = recurrent, float32", "o", 1, 1e-7, 1e-5)
    report = Report((check,), None, (Skipped("packed", "No kernels."), Skipped("steps", "No kernels.")))
    monkeypatch.setattr(verification, "verify", lambda spec, examples, progress, device, backend: report)
    result = CliRunner().invoke(main, ["verify", "retention"])
    assert result.exit_code == 0
    assert "packed skipped" in result.stdout
    assert "steps skipped" in result.stdout
    assert result.stdout.count("Skipped: No kernels.") == 1
    assert "ok: everything is within bounds; not verified: packed, steps." in result.stdout


def test_a_failure_leaves_a_runnable_script_and_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check("at once", "compiled = recurrent, float64", "o", 1, 0.5, 1e-10)
    failed = Report((check,), "print('counterexample')\n")
    monkeypatch.setattr(verification, "verify", lambda spec, examples, progress, device, backend: failed)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["verify", "retention"])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert "retention_counterexample.py" in result.stderr
    assert (tmp_path / "retention_counterexample.py").read_text() == "print('counterexample')\n"
