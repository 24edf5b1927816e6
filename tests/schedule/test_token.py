"""How the kernels of single tokens divide their work."""

from __future__ import annotations

import pytest
from compilation import attention, library_spec

from maskdsl.schedule import token
from maskdsl.schedule.token import AHEAD, StepConfiguration, StepPlan, step_plan
from maskdsl.spec import Spec

NORMED = attention(
    "q, k : key",
    "v : value",
    "lam : level",
    "return l2norm(attend(q, k, v, fenwick(lam)))",
)


def planned(spec: Spec, key: int, value: int) -> StepPlan:
    return step_plan(spec, StepConfiguration((), key, value, 16, slots=False))


@pytest.mark.parametrize(
    ("name", "key", "value", "columns", "parts", "apart"),
    [
        ("log_linear_gated_deltanet", 128, 128, 32, 4, True),
        # logs have no columns, so one program does all of a head: at once if it is small
        ("log_linear_mamba2", 128, 64, 64, 1, False),
        ("log_linear_mamba2", 128, 128, 32, 4, False),
        ("log_linear_mamba2", 100, 50, 64, 1, False),
    ],
)
def test_columns(name: str, key: int, value: int, columns: int, parts: int, apart: bool) -> None:
    plan = planned(library_spec(name), key, value)
    assert (plan.columns, plan.parts, plan.apart) == (columns, parts, apart)


@pytest.mark.parametrize("value", [1, 64, 128, 256])
@pytest.mark.parametrize("key", [1, 64, 128, 256])
def test_levels_run_ahead_as_far_as_there_is_room(key: int, value: int) -> None:
    """Also where a program holds all columns, as for the norm of an output."""
    for spec in (NORMED, library_spec("log_linear_gla")):
        plan = planned(spec, key, value)
        assert plan.stages == 1 or (plan.stages - 1) * key * plan.columns <= AHEAD
    assert planned(NORMED, 256, 256).stages == 1
    assert planned(NORMED, 64, 64).stages == token.STAGES


@pytest.mark.parametrize("value", [1, 64, 256])
@pytest.mark.parametrize("key", [1, 128, 256])
def test_rows_fold_evenly(key: int, value: int) -> None:
    assert key % planned(library_spec("log_linear_mamba2"), key, value).folded == 0


def test_constants_are_those_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token, "STAGES", 2)
    monkeypatch.setattr(token, "APART", 2048)
    plan = planned(library_spec("log_linear_gated_deltanet"), 128, 128)
    assert (plan.stages, plan.columns, plan.warps) == (2, 16, 2)
