"""`maskdsl bench`: its table, its files, and what it refuses."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from maskdsl import library
from maskdsl.cli import main
from maskdsl.runtime.benchmark import DTYPES, PEERS
from maskdsl.runtime.benchmark.decoding_peers import PEERS as STEP_PEERS

module = sys.modules["maskdsl.cli.bench"]  # the package's attribute of this name is the command
SMALL = ("--heads", "2", "--key", "4", "--value", "4", "--warmup", "0", "--repeats", "1")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments, *SMALL])


def test_every_length_and_system_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    times, picture = tmp_path / "times.csv", tmp_path / "times.png"
    lengths = ("--length", "16", "--length", "70", "--key-heads", "1", "--check", "--against", "fla")
    result = run("log_linear_gla", *lengths, "--csv", str(times), "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert "log_linear_gla, B = 1, H = 2, Hk = 1, K = 4, V = 4, fp32" in result.stdout
    assert "fla at T = 16, 70: 'fla' has no operator for 'log_linear_gla'." in result.stdout
    assert "torch " in result.stdout.splitlines()[-3]
    rows = list(csv.DictReader(times.open(encoding="utf-8")))
    assert [(row["system"], row["length"]) for row in rows] == [
        (s, t) for t in ("16", "70") for s in ("maskdsl", "fla")
    ]
    measured = [row for row in rows if row["system"] == "maskdsl"]
    assert all(float(row[name]) > 0 for row in measured for name in ("forward", "training", "first", "forward_share"))
    errors = [name for name in rows[0] if name.startswith("error_")]
    assert errors == ["error_o", "error_d_q", "error_d_k", "error_d_v", "error_d_f", "error_d_lam"]
    assert all(float(row[name]) < 1e-5 for row in measured for name in errors)
    assert picture.stat().st_size > 0


def test_steps_have_a_row_for_every_batch_position_and_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    times, picture = tmp_path / "times.csv", tmp_path / "times.png"
    asked = ("--length", "0", "--length", "70", "--batch", "1", "--batch", "3", "--against", "softmax")
    result = run("log_linear_gla", "--step", *asked, "--csv", str(times), "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert "log_linear_gla, H = 2, Hk = 2, K = 4, V = 4, fp32" in result.stdout
    rows = list(csv.DictReader(times.open(encoding="utf-8")))
    assert [(row["batch"], row["position"], row["system"]) for row in rows] == [
        (b, p, s) for b in ("1", "3") for p in ("0", "70") for s in ("maskdsl", "softmax")
    ]
    assert all(float(row[name]) > 0 for row in rows for name in ("step", "share", "megabytes"))
    assert picture.stat().st_size > 0


def test_all_stands_for_every_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = run("retention", "--length", "8", "--against", "all")
    assert all(f"{peer} at T = 8: '{peer}' " in result.stdout for peer in PEERS)


def test_the_choices_are_those_of_the_runtime() -> None:
    assert tuple(PEERS) == module.PEERS
    assert tuple(STEP_PEERS) == module.STEP_PEERS
    assert tuple(DTYPES) == module.DTYPES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backend", "cobol"), "Unknown backend 'cobol'"),
        (("--key-heads", "3"), "The key heads have to divide the heads."),
        (("--against", "nobody"), "'nobody' is not one of"),
        (("--dtype", "int8"), "'int8' is not one of"),
        (("--batch", "1", "--batch", "2"), "Several batches go with --step; give --batch once."),
        (("--length", "0"), "A sequence has at least one token"),
        (("--against", "softmax"), "'softmax' is not timed against whole sequences: choose from flash, cudnn, fla,"),
        (("--step", "--against", "flash"), "'flash' is not timed against a step: choose from softmax, fla, all."),
        (("--step", "--check"), "maskdsl verify SPEC"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: tuple[str, ...], message: str) -> None:
    result = run("retention", "--length", "8", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_plot_without_matplotlib_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    result = run("retention", "--length", "8", "--plot", str(tmp_path / "times.png"))
    assert result.exit_code == 1
    assert 'pip install "maskdsl[plot]"' in result.stderr


def test_a_picture_of_an_unknown_format_is_a_usage_error(tmp_path: Path) -> None:
    result = run("retention", "--length", "8", "--plot", str(tmp_path / "times.nothing"))
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_mistake_in_a_spec_is_a_diagnostic() -> None:
    result = run(library.read("retention").replace("attend(q,", "attend(qq,"))
    assert result.exit_code == 1
    assert "'qq'" in result.stderr
