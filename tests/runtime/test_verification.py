"""Verification: it passes what is right, and finds, shrinks and hands over what is wrong."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.codegen import torch_ops
from maskdsl.codegen.torch_ops import slots
from maskdsl.diagnostics import CallError
from maskdsl.lowering.hand import ALONE
from maskdsl.runtime import compiled, sequences
from maskdsl.runtime.sampling import Parts, Shape
from maskdsl.runtime.sequences import Sequences
from maskdsl.runtime.verification import Case, Skipped, compare, verify
from maskdsl.runtime.verification.reference import Reference

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
    gradients, states = {f"d_{each.name}" for each in spec.inputs}, {"attend_1_1.state"}
    compared: dict[str, set[str]] = {}
    for check in report.checks:
        compared.setdefault(check.way, set()).add(check.of)
    everything = {"o"} | gradients | states
    assert compared == {
        "at once": {"o"} | gradients,
        "pieces": everything,
        "packed": everything,
        "steps": {"o"} | states,
    }
    assert len({check.what for check in report.checks}) == 3
    assert len(called) == max(check.calls for check in report.checks) == 6
    assert not report.skipped


def test_what_has_no_kernels_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(Shape(1, 2, 1, 2, 2), "mild", 0, Parts((1,)))
    # calls run as PyTorch runs them, but for those with states
    attention = maskdsl.compile("retention", "triton")

    def refuse(*given: object) -> None:
        if isinstance(given[-1], Sequences) and given[-1].hand != ALONE:
            raise CallError("There are no kernels.")

    monkeypatch.setattr(attention, "_configuration", refuse)
    monkeypatch.setattr(attention, "_step_configuration", lambda *_: None)
    found = list(compare(attention, case))
    skipped = [each for each in found if isinstance(each, Skipped)]
    assert [each.way for each in skipped] == ["pieces"]
    assert all("no kernels" in each.why for each in skipped)
    assert {each.way for each in found} - {each.way for each in skipped} == {"at once", "packed", "steps"}


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
    assert "FAILED at once   compiled = recurrent, float64    o" in printed
    assert "ok     at once   dense = recurrent, float64       o" in printed


# -- faults of states, of which calls at once know nothing ------------------------------------------------------------


def scale_entering(patch: pytest.MonkeyPatch) -> None:
    right = sequences.Sequences._entering
    patch.setattr(
        sequences.Sequences, "_entering", lambda *given: {n: x * (1 + 1e-6) for n, x in right(*given).items()}
    )


def cut_gradients(patch: pytest.MonkeyPatch) -> None:
    right = sequences.Sequences._entering
    patch.setattr(sequences.Sequences, "_entering", lambda *given: {n: x.detach() for n, x in right(*given).items()})


def leave_a_state_unfinished(patch: pytest.MonkeyPatch) -> None:
    right = sequences.Sequences.state
    wrong = lambda call, final: right(call, {n: x * (1 - 1e-6) for n, x in final.items()})  # noqa: E731
    patch.setattr(sequences.Sequences, "state", wrong)


def fill_the_capacity(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sequences.Sequences, "output", lambda call, o: o + ~call.layout.used[..., None, None])


def leak_between_sequences(patch: pytest.MonkeyPatch) -> None:
    right = slots.Slots.__init__

    def wrong(own: slots.Slots, layout: slots.Layout, size: int) -> None:
        right(own, layout, size)
        own.first[:, 1:] = False

    patch.setattr(slots.Slots, "__init__", wrong)


def turn_the_rows_of_steps(patch: pytest.MonkeyPatch) -> None:
    right = compiled.run_token

    def wrong(module: Any, spec: Any, state: Any, token: Any, rows: Tensor | None) -> Tensor:
        return right(module, spec, state, token, None if rows is None else rows.flip(0))

    patch.setattr(compiled, "run_token", wrong)


def drift_beyond_a_chunk(patch: pytest.MonkeyPatch) -> None:
    right = compiled.run_token

    def wrong(module: Any, spec: Any, state: Any, token: Any, rows: Tensor | None) -> Tensor:
        output = right(module, spec, state, token, rows)
        positions = state.positions if rows is None else state.positions[rows]
        return output * (1 + 1e-6 * (positions > 64)[:, None, None])

    patch.setattr(compiled, "run_token", wrong)


FAULTS = {
    scale_entering: ("pieces", "o", "T=2"),
    cut_gradients: ("pieces", "d_k", "T=2"),
    leave_a_state_unfinished: ("pieces", "attend_1_1.state", "T=1"),
    fill_the_capacity: ("packed", "o", "T=1"),
    leak_between_sequences: ("packed", "o", "B=2, T=1"),
    turn_the_rows_of_steps: ("steps", "attend_1_1.state", "B=2, T=1"),
    drift_beyond_a_chunk: ("steps", "o", "T=65"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_states_are_found_and_shrunk(
    fault: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault(monkeypatch)
    report = verify(maskdsl.compile("retention").spec, 30)
    assert report.counterexample is not None
    script = tmp_path / "counterexample.py"
    script.write_text(report.counterexample)
    runpy.run_path(str(script), run_name="__main__")
    failed = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    way, of, size = FAULTS[fault]
    assert size in report.counterexample
    assert failed[0][1] == way
    assert of in [line[6] for line in failed if line[1] == way]


def test_nan_never_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_ops, "scan", lambda a, h, reverse=False: h * torch.nan)
    found = list(compare(maskdsl.compile("retention"), Case(Shape(1, 3, 1, 2, 2), "mild", 0)))
    assert not all(comparison.passed for comparison in found)


def test_a_state_that_is_missing_or_of_another_shape_never_passes() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    reference = Reference(
        lambda given: {"o": given["x"], "s_1.keys": 2 * given["x"], "s_1.values": given["x"]}, {"x": x}
    )
    whole = {"o": x, "s_1.keys": 2 * x, "s_1.values": x}
    kinds = ("output", "state")
    assert reference.errors(whole, torch.float64, kinds) == {"o": 0, "s_1.keys": 0, "s_1.values": 0}
    for wrong in ({"o": x}, whole | {"s_1.keys": x.T}, whole | {"s_1.values": x * torch.nan}):
        assert torch.inf in reference.errors(wrong, torch.float64, kinds).values()


def test_memories_of_one_attend_may_come_in_another_order() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    factors = {"s_1": 1, "s_2": 2, "t_1": 3}
    reference = Reference(lambda given: {f"{n}.state": f * given["x"] for n, f in factors.items()}, {"x": x})
    turned = {"s_1.state": 2 * x, "s_2.state": x, "t_1.state": 3 * x}
    assert set(reference.errors(turned, torch.float64, ("state",)).values()) == {0}
    elsewhere = {"s_1.state": 3 * x, "s_2.state": x, "t_1.state": 2 * x}
    errors = reference.errors(elsewhere, torch.float64, ("state",))
    assert [of for of, error in errors.items() if error > 0.1] == ["s_2.state", "t_1.state"]
