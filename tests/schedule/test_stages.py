"""A program divided into kernels: what a kernel reads of others is in memory before, and made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from compilation import library_spec
from hypothesis import assume, given, settings
from strategies import spec_texts

import maskdsl
from maskdsl import library
from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.schedule.configuration import Configuration
from maskdsl.schedule.kinds import BETWEEN, in_memory
from maskdsl.schedule.plan import plan
from maskdsl.schedule.stages import Stage, Stages
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Spec

CONFIGURATION = Configuration((), 64, 64, 16, "bf16")


def spec_of(*lines: str) -> Spec:
    text = "attention test:\n    q, k : key\n    v : value\n" + "".join(f"    {line}\n" for line in lines)
    return maskdsl.compile(text).spec


def made(stages: Stages, stage: Stage) -> Iterator[Instruction]:
    """What a kernel over chunks computes for its values."""
    maker = {r: i for i in stages.program.instructions for r in i.results}
    pending = list(stage.values)
    seen: set[str] = set()
    while pending:
        value = pending.pop()
        if value in seen or (value in stage.available and value not in stage.values):
            continue
        seen.update(maker[value].results)
        yield maker[value]
        pending.extend(maker[value].operands)


def assert_sound(stages: Stages) -> None:
    types = stages.program.types
    maker = {r: i for i in stages.program.instructions for r in i.results}
    written = {r for r, i in maker.items() if isinstance(i.op, ops.Load)}
    for stage in stages.stages:
        if stage.kind == "graph":
            assert stage.instruction is not None
            written |= {*in_memory(stage.instruction)}
            continue
        instructions = list(made(stages, stage))
        read = {x for i in instructions for x in i.operands if x in stage.available and x not in stage.values}
        assert read <= written, f"{stage.values} read {read - written} too early"
        assert not written & set(stage.values), "a value is written twice"
        written |= set(stage.values)
    large = {value for _, value in stages.program.outputs if "T" in types[value]}
    assert large <= written
    assert {i.results[0] for i in stages.totals} <= written
    assert {name for name, _ in stages.host.outputs} == {
        name for name, value in stages.program.outputs if value not in large
    }


@pytest.mark.parametrize("name", library.names())
def test_definitions(name: str) -> None:
    divided = plan(library_spec(name), CONFIGURATION)
    assert_sound(divided.first)
    assert_sound(divided.second)


@settings(max_examples=15, derandomize=True)
@given(spec_texts())
def test_random_specs(text: str) -> None:
    try:
        divided = plan(maskdsl.compile(text).spec, CONFIGURATION)
    except Unsupported:
        assume(False)
    assert_sound(divided.first)
    assert_sound(divided.second)


def test_a_scan_lies_between_two_kernels() -> None:
    first = plan(library_spec("linear_attention"), CONFIGURATION).first
    kinds = [(stage.kind, stage.phase) for stage in first.stages]
    assert kinds == [("chunks", 0), ("graph", 0), ("chunks", 1)]
    states, scan, output = first.stages
    assert scan.instruction is not None
    assert set(scan.instruction.operands) >= set(states.values)
    assert output.values == ("o",) or output.values[0] in {value for _, value in first.program.outputs}


def test_loops_between_chunks_run_once() -> None:
    """What a second loop reads of other chunks is in memory: no loop runs inside another."""
    lines = (
        "g : token <= 0",
        "a = attend(q, k, v, semiseparable(g) * window(70))",
        "return attend(k, q, a, window(66))",
    )
    divided = plan(spec_of(*lines), CONFIGURATION)
    # the backward pass makes the inner window again, and the adjoints of both
    for stages, count in ((divided.first, 2), (divided.second, 3)):
        loops = [i for s in stages.stages if s.kind == "chunks" for i in made(stages, s) if isinstance(i.op, BETWEEN)]
        assert len(loops) == count
        for stage in stages.stages:
            inner = [i for i in made(stages, stage) if isinstance(i.op, BETWEEN)] if stage.kind == "chunks" else []
            assert not any(set(i.results) & set(j.operands) for i in inner for j in inner)


def test_what_a_scan_replaces_is_read_by_nothing_else() -> None:
    divided = plan(spec_of("lam : level", "return attend(q, k, v, fenwick(lam) + causal)"), CONFIGURATION)
    (scan,) = (i for i in divided.first.program.instructions if isinstance(i.op, ops.Scan))
    for stage in divided.first.stages:
        assert scan.operands[1] not in stage.available or stage.instruction == scan


def test_parameters_get_totals() -> None:
    second = plan(library_spec("mamba2"), CONFIGURATION).second
    assert {name for name, _ in second.host.outputs} == {"d_A_log", "d_dt_bias", "d_D"}
    assert all(second.program.types[i.results[0]][2] == "H" for i in second.totals)


def test_what_no_gradient_needs_is_not_made() -> None:
    """The decays of a window without any have no gradient, so that nothing is left for them."""
    second = plan(spec_of("return attend(q, k, v, window(200))"), CONFIGURATION).second
    assert {stage.kind for stage in second.stages} == {"chunks"}


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("delta(k, 1) @ delta(q, 1)", "'test' has several rank-one steps or decays a token"),
        ("semiseparable(g) @ delta(k, 1) @ semiseparable(g)", "'test' has several rank-one steps or decays a token"),
        ("delta(k, 1) * window(20)", "'test' has a window.* over steps that do not commute"),
    ],
)
def test_paths_without_kernels(mask: str, message: str) -> None:
    declared = ("g : channel <= 0",) if "g" in mask else ()
    with pytest.raises(Unsupported, match=message):
        plan(spec_of(*declared, f"return attend(q, k, v, {mask})"), CONFIGURATION)


@pytest.mark.parametrize("name", ["log_linear_gated_deltanet", "log_linear_kda"])
def test_a_path_is_worked_on_again_after_the_walks(name: str) -> None:
    """So that it is not held beside what walks leave in memory for every read; their queries are found as they were."""
    divided = plan(library_spec(name), CONFIGURATION)
    stages = divided.second.stages
    (readers,) = (n for n, s in enumerate(stages) if s.instruction and isinstance(s.instruction.op, ops.WalkAdjoint))
    again = {n for n, s in enumerate(stages) for v in s.values if s.kind == "chunks" and v.endswith("path_narrow")}
    assert again
    assert min(again) > readers
    (walk,) = (i for i in divided.forward.instructions if isinstance(i.op, ops.Walk))
    assert walk.operands[0] in divided.kept


@pytest.mark.parametrize(("name", "loads"), [("gated_deltanet", True), ("kda", False)])
def test_a_scan_back_takes_queries_as_they_are_loaded(name: str, loads: bool) -> None:
    """Factors of rows go to the gradient that they are multiplied by; decays of channels cannot."""
    second = plan(library_spec(name), CONFIGURATION).second
    (scan,) = (s for s in second.stages if s.instruction and isinstance(s.instruction.op, ops.SolvedScan))
    assert ("pulled" not in scan.available) == loads


@pytest.mark.parametrize(("name", "loads"), [("gated_deltanet", True), ("kda", False)])
def test_queries_that_decay_by_channel_are_made_with_keys(name: str, loads: bool) -> None:
    """By the kernel that has the decays at hand already; those that are only scaled by rows are not worth it."""
    first = plan(library_spec(name), CONFIGURATION).first
    assert ("pulled_bare" not in first.stages[-1].available) == loads


def test_a_scan_multiplies_by_the_factors_of_rank_one_steps() -> None:
    """And by the inverse of their system; no matrix is made of them."""
    divided = plan(library_spec("kda"), CONFIGURATION)
    for stages in (divided.first, divided.second):
        types = stages.program.types
        scans = [s for s in stages.stages if s.instruction and isinstance(s.instruction.op, ops.SolvedScan)]
        (scan,) = (s.instruction for s in scans if s.instruction)
        factors = [("K", "1"), ("C64", "K"), ("C64", "K"), ("C64", "V"), ("C64", "C64")]
        assert [types[x][3:] for x in scan.operands[:5]] == factors
        assert not ops.matrices(types.values())


def test_several_decays_a_position_are_supported_only_as_one() -> None:
    lines = "g, f : token <= 0", "return attend(q, k, v, semiseparable(g) @ semiseparable(f))"
    divided = plan(spec_of(*lines), CONFIGURATION)
    assert all(getattr(i.op, "steps", 1) == 1 for i in divided.first.program.instructions)


def test_terms_without_a_common_chunk_are_unsupported() -> None:
    with pytest.raises(Unsupported, match="The terms of 'test' have chunks of different sizes"):
        plan(spec_of("lam : level", "return attend(q, k, v, fenwick(lam) + fenwick(lam, base=3))"), CONFIGURATION)
