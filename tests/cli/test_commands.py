"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from maskdsl import library
from maskdsl.cli import main

GOOD = library.read("retention")
BAD = GOOD.replace("semiseparable", "semiseperable").replace("attend(q,", "attend(qq,")
TWO = f"{GOOD}\n{library.read('gla')}"


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin)


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help_with_examples(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"  maskdsl {command}" in result.stdout.split("Example", 1)[1]


def test_help_lists_every_command_and_the_exit_codes() -> None:
    result = run("--help")
    assert all(f"\n  {command} " in result.stdout for command in main.commands)
    assert "Exit codes: 0" in result.stdout


def test_check_accepts_what_is_right(tmp_path: Path) -> None:
    (tmp_path / "two.mask").write_text(TWO)
    result = run("check", str(tmp_path / "two.mask"), "kda")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path / 'two.mask'}: retention, gla ok\nkda.mask: kda ok\n"


def test_check_shows_every_mistake_of_every_file_and_exits_with_1(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.mask").write_text(BAD)
    result = run("check", str(tmp_path / "one.mask"), "gla", str(tmp_path / "two.mask"))
    assert result.exit_code == 1
    assert result.stdout == "gla.mask: gla ok\n"
    for wrong in ("'qq'", "'semiseperable'", "one.mask", "two.mask", "^^", "Hint: Did you mean 'semiseparable'?"):
        assert wrong in result.stderr
    assert "Traceback" not in result.output


def test_check_reads_a_folder_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "a.mask").write_text(GOOD)
    assert run("check", str(tmp_path)).stdout == f"{tmp_path / 'a.mask'}: retention ok\n"
    assert run("check", "-", stdin=GOOD).stdout == "<stdin>: retention ok\n"


@pytest.mark.parametrize("command", ["explain", "emit", "plot", "run", "verify"])
def test_a_mistake_in_a_spec_is_a_diagnostic_and_exit_code_1(command: str) -> None:
    result = run(command, BAD)
    assert result.exit_code == 1
    assert "Did you mean 'semiseparable'?" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["explain", "emit", "plot", "run", "verify"])
def test_a_spec_that_does_not_exist_is_a_usage_error(command: str) -> None:
    result = run(command, "mamba22")
    assert result.exit_code == 2
    assert "Did you mean 'mamba2'?" in result.stderr


def test_a_block_is_chosen_by_option_or_suffix(tmp_path: Path) -> None:
    file = tmp_path / "two.mask"
    file.write_text(TWO)
    by_option, by_suffix = run("explain", str(file), "--name", "gla"), run("explain", f"{file}::gla")
    assert by_option.exit_code == by_suffix.exit_code == 0
    assert by_option.stdout == by_suffix.stdout == run("explain", "gla").stdout
    none, wrong = run("explain", str(file)), run("explain", f"{file}::glaa")
    assert (none.exit_code, wrong.exit_code) == (2, 2)
    assert "retention, gla" in none.stderr
    assert "Did you mean 'gla'?" in wrong.stderr


def test_a_spec_can_be_text_or_standard_input() -> None:
    expected = run("explain", "retention").stdout
    assert expected.startswith("retention\n=========\n")
    assert run("explain", GOOD).stdout == expected
    assert run("explain", "-", stdin=GOOD).stdout == expected


@pytest.mark.parametrize(
    ("stage", "direction", "part"),
    [
        ("syntax", "forward", "attention gated_deltanet:"),
        ("mask", "forward", "delta("),
        ("normal", "forward", "semiseparable("),
        ("chunk", "forward", "program gated_deltanet"),
        ("chunk", "backward", "return d_q = "),
        ("torch", "forward", "def forward("),
        ("torch", "backward", "def backward("),
        ("chunk", "step", 'name="attend_1_1.state" axes=[B, H, K, V]'),
        ("torch", "step", "def step("),
        ("triton", "step", "def step_kernel("),
        ("ptx", "step", "step_kernel:"),
    ],
)
def test_emit_prints_every_stage(stage: str, direction: str, part: str) -> None:
    result = run("emit", "gated_deltanet", "--stage", stage, "--direction", direction)
    assert result.exit_code == 0
    assert part in result.stdout


def test_an_unknown_stage_is_a_usage_error() -> None:
    result = run("emit", "gla", "--stage", "cubin")
    assert result.exit_code == 2
    assert "'cubin' is not one of 'syntax', 'mask', 'normal', 'chunk', 'torch'" in result.stderr


def test_library_lists_every_definition_with_its_first_line() -> None:
    lines = run("library").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(library.names())
    assert all(len(line.split()) > 3 for line in lines)


def test_plot_writes_a_picture(tmp_path: Path) -> None:
    target = tmp_path / "mask.png"
    result = run("plot", "retention", "-o", str(target), "--length", "8")
    assert result.exit_code == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_plot_names_the_extra_to_install_when_matplotlib_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskdsl.cli.plot.find_spec", lambda name: None)
    result = run("plot", "retention")
    assert result.exit_code == 1
    assert 'pip install "maskdsl[plot]"' in result.stderr


def test_run_prints_shapes_and_times() -> None:
    result = run("run", "retention", "--length", "70", "--heads", "2", "--key", "4", "--value", "3")
    assert result.exit_code == 0
    assert "[1, 70, 2, 3]" in result.stdout
    assert "backward" in result.stdout
