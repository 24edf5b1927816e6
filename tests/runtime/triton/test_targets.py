"""The hand-made module compiled for GPUs that are not here."""

from __future__ import annotations

import os
from pathlib import Path

import decayed_sum
import pytest
import torch

from maskdsl.cli import emit
from maskdsl.runtime.triton.call import Launch
from maskdsl.runtime.triton.kernels import compiled, specialised
from maskdsl.runtime.triton.targets import TARGETS, Resources, excesses, launches_of, resources


def launches(V: int = 16, skip: int = 0) -> dict[str, list[Launch]]:
    """The launches of a call whose values start `skip` numbers into their memory."""
    v = torch.empty(2 * 7 * 3 * V + skip, device="meta")[skip:].view(2, 7, 3, V)
    return launches_of(decayed_sum, {"g": torch.empty(3, device="meta"), "v": v}, (2, 7, 3, 0, V, 0), torch.float32)


def test_a_module_is_recorded() -> None:
    found = launches()
    assert [(each.kernel.__name__, each.programs) for each in found["forward"]] == [("output_kernel", 6)]
    assert [(each.kernel.__name__, each.programs) for each in found["backward"]] == [("gradient_kernel", 6)]


@pytest.mark.parametrize("target", TARGETS)
def test_resources(target: str) -> None:
    both = [each for direction in launches().values() for each in direction]
    for used in resources(both, TARGETS[target]):
        assert 0 < used.registers < 256
        assert (used.spills, used.stack, used.warps, used.stages) == (0, 0, 1, 1)
        assert excesses(used, TARGETS[target]) == []
        assert used.kernel in used.text


def test_excesses_are_sentences() -> None:
    used = Resources("output_kernel", 4, 2, 255, 3, 12, 70_000, "")
    assert excesses(used, TARGETS["sm_90"]) == ["Kernel 'output_kernel' spills 3 registers."]
    assert len(excesses(used, TARGETS["gfx942"])) == 2


def test_sources_are_equal_where_triton_specialises_alike() -> None:
    gpu = TARGETS["sm_90"].gpu
    key = {V: specialised(launches(V)["forward"][0], gpu).key for V in (16, 32, 20)}
    assert key[16] == key[32] != key[20]
    first, second = (specialised(launches()["forward"][0], gpu) for _ in range(2))
    assert len(set(map(id, compiled([first, second], gpu, 1 << 17)))) == 1


def test_a_kernel_that_does_not_compile_is_named() -> None:
    launch = launches()["forward"][0]
    broken = Launch(launch.kernel, 6, (3, *launch.args[1:]), 1, 1, None)
    with pytest.raises(RuntimeError, match=r"Kernel 'output_kernel' of '.*decayed_sum.py' does not compile"):
        resources([broken], TARGETS["sm_90"])


def test_compiled_kernels_lie_in_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASKDSL_CACHE", str(tmp_path))
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    resources(launches()["forward"], TARGETS["sm_90"])
    assert list((tmp_path / "triton").rglob("output_kernel.cubin"))
    assert "TRITON_CACHE_DIR" not in os.environ


def test_the_command_line_names_the_targets() -> None:
    assert set(emit.TARGETS) == set(TARGETS)
