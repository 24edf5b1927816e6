"""What a spec keeps: one memory for each attend and term, with the buffers that its path, levels and window ask for."""

from __future__ import annotations

import re

import pytest
from compilation import attention, library_spec, masked

from maskdsl import library
from maskdsl.lowering.memory import Memory, memories
from maskdsl.mask.nodes import Kind

DECLARED = {
    "g": "token <= 0",
    "h": "head <= 0",
    "c": "channel <= 0",
    "d": "head_channel <= 0",
    "lam": "level",
    "w": "token",
}
MATRIX = "[B, H, K, V]"


def shown(memory: Memory) -> dict[str, str]:
    return {buffer.name: f"[{', '.join(buffer.axes)}]" for buffer in memory.buffers}


@pytest.mark.parametrize(
    ("mask", "buffers"),
    [
        ("causal", {"state": MATRIX}),
        ("semiseparable(g)", {"state": MATRIX}),
        ("semiseparable(c)", {"state": MATRIX}),
        ("delta(k, 1)", {"state": MATRIX}),
        ("fenwick(lam)", {"states": "[B, H, M, K, V]"}),
        ("fenwick(lam, base=3) * semiseparable(g)", {"states": "[B, H, M, K, V]", "logs": "[B, H, M]"}),
        ("fenwick(lam) * semiseparable(h) * semiseparable(g)", {"states": "[B, H, M, K, V]", "logs": "[B, H, M]"}),
        ("fenwick(lam) * semiseparable(-0.5)", {"states": "[B, H, M, K, V]", "logs": "[B, H, M]"}),
        ("fenwick(lam) * semiseparable(c)", {"states": "[B, H, M, K, V]", "logs": "[B, H, M, K]"}),
        ("fenwick(lam) * semiseparable(d)", {"states": "[B, H, M, K, V]", "logs": "[B, H, M, K]"}),
        ("fenwick(lam) * semiseparable(c) * semiseparable(g)", {"states": "[B, H, M, K, V]", "logs": "[B, H, M, K]"}),
        ("fenwick(lam) * semiseparable(g) * delta(k, 1)", {"states": "[B, H, M, K, V]"}),
        ("fenwick(lam) * (delta(k, 1) @ semiseparable(c))", {"states": "[B, H, M, K, V]"}),
        # one weight for all levels is no hierarchy
        ("fenwick(w) * semiseparable(g)", {"state": MATRIX}),
        ("fenwick(1)", {"state": MATRIX}),
        ("window(1)", {}),
        ("window(1) * fenwick(lam) * semiseparable(g)", {}),
        ("window(2)", {"keys": "[B, H, R1, K]", "values": "[B, H, R1, V]"}),
        ("window(9) * window(5)", {"keys": "[B, H, R4, K]", "values": "[B, H, R4, V]"}),
        ("window(5) * semiseparable(g)", {"keys": "[B, H, R4, K]", "values": "[B, H, R4, V]", "logs": "[B, H, R4]"}),
        ("window(5) * semiseparable(c)", {"keys": "[B, H, R4, K]", "values": "[B, H, R4, V]", "logs": "[B, H, R4, K]"}),
        ("window(5) * delta(k, 1) * fenwick(lam)", {"keys": "[B, H, R4, K]", "values": "[B, H, R4, V]"}),
    ],
)
def test_buffers_of_a_term(mask: str, buffers: dict[str, str]) -> None:
    used = [f"{name} : {kind}" for name, kind in DECLARED.items() if re.search(rf"\b{name}\b", mask)]
    (memory,) = memories(masked(mask, *used))
    assert (memory.name, shown(memory)) == ("attend_1_1", buffers)


def test_one_memory_for_each_attend_and_term() -> None:
    spec = attention(
        "q, k : key",
        "v : value",
        "lam : level",
        "y = attend(q, k, v, window(5) + causal + fenwick(lam) * window(3))",
        "return attend(q, k, y, fenwick(lam)) + y",
    )
    found = {memory.name: shown(memory) for memory in memories(spec)}
    assert list(found) == ["y_1", "y_2", "y_3", "attend_1_1"]
    assert found["attend_1_1"] == {"states": "[B, H, M, K, V]"}
    kinds = sorted(tuple(found[name].values()) for name in ("y_1", "y_2", "y_3"))
    assert kinds == [
        ("[B, H, K, V]",),
        ("[B, H, R2, K]", "[B, H, R2, V]"),
        ("[B, H, R4, K]", "[B, H, R4, V]"),
    ]


@pytest.mark.parametrize("name", library.names())
def test_full_names_are_those_of_no_input(name: str) -> None:
    spec = library_spec(name)
    full = [memory.full_name(buffer) for memory in memories(spec) for buffer in memory.buffers]
    assert len(set(full)) == len(full) > 0
    assert not any(each.isidentifier() for each in full)
    weighted = any(each.kind is Kind.LEVEL for each in spec.inputs)
    assert weighted == any(buffer.axes[2] == "M" for memory in memories(spec) for buffer in memory.buffers)
