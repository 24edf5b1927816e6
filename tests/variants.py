"""One spec for every way to compute a mask: the kinds of step operators, with and without a hierarchy or a window."""

from __future__ import annotations

QKV = ("q, k : key", "v : value")
TOKEN, CHANNEL, STEP, WEIGHTS = "g : token <= 0", "g : channel <= 0", "beta : token in [0, 1]", "lam : level >= 0"
DELTA = "delta(l2norm(k), beta)"

VARIANTS: dict[str, tuple[str, ...]] = {
    name: (*QKV, *declared, f"return attend(q, k, v, {mask})")
    for name, (declared, mask) in {
        "number": ((TOKEN,), "semiseparable(g)"),
        "number of a head": (("g : head <= 0",), "semiseparable(g)"),
        "diagonal": ((CHANNEL,), "semiseparable(g)"),
        "diagonal of a head": (("g : head_channel <= 0",), "semiseparable(g)"),
        "operator": ((TOKEN, STEP), f"semiseparable(g) * {DELTA}"),
        "diagonal and operator": ((CHANNEL, STEP), f"{DELTA} @ semiseparable(g)"),
        "number, weak hierarchy": ((TOKEN, WEIGHTS), "semiseparable(g) * fenwick(lam)"),
        "number, weak hierarchy, base 3": ((TOKEN, WEIGHTS), "semiseparable(g) * fenwick(lam, base=3)"),
        "number, strong hierarchy": ((TOKEN, WEIGHTS), 'semiseparable(g) * fenwick(lam, admissibility="strong")'),
        "diagonal, weak hierarchy": ((CHANNEL, WEIGHTS), "semiseparable(g) * fenwick(lam)"),
        "operator, weak hierarchy": ((TOKEN, STEP, WEIGHTS), f"semiseparable(g) * {DELTA} * fenwick(lam)"),
        "number, window": ((TOKEN,), "semiseparable(g) * window(20)"),
        "diagonal, window": ((CHANNEL,), "semiseparable(g) * window(20)"),
        "operator, window": ((TOKEN, STEP), f"(semiseparable(g) * {DELTA}) * window(20)"),
        "sum": ((TOKEN, WEIGHTS), "semiseparable(g) + fenwick(lam)"),
    }.items()
}
"""Lines of a block by what its mask is made of; every one has q, k, v and log decays g."""


WINDOWS: dict[str, tuple[str, ...]] = {
    name: (*QKV, *declared, f"return attend(q, k, v, {mask})")
    for name, (declared, mask) in {
        "constant, window within a chunk": ((), "window(4)"),
        "number, window of a token before": ((TOKEN,), "semiseparable(g) * window(2)"),
        "diagonal, window of a chunk and a token": ((CHANNEL,), "semiseparable(g) * window(9)"),
        "number, window of many chunks": ((TOKEN,), "semiseparable(g) * window(50)"),
        "number, window, weak hierarchy": ((TOKEN, WEIGHTS), "semiseparable(g) * fenwick(lam) * window(20)"),
        "diagonal, window, weak hierarchy, base 3": (
            (CHANNEL, WEIGHTS),
            "semiseparable(g) * fenwick(lam, base=3) * window(13)",
        ),
        "number, window, strong hierarchy": (
            (TOKEN, WEIGHTS),
            'semiseparable(g) * fenwick(lam, admissibility="strong") * window(20)',
        ),
        "diagonal, narrow window, strong hierarchy": (
            (CHANNEL, WEIGHTS),
            'semiseparable(g) * fenwick(lam, admissibility="strong") * window(5)',
        ),
        "weak hierarchy, window of one token": ((WEIGHTS,), "fenwick(lam) * window(1)"),
        "sum of windows": ((TOKEN, WEIGHTS), "semiseparable(g) * window(20) + fenwick(lam) * window(11)"),
        "sum of a window and levels": ((TOKEN, WEIGHTS), "semiseparable(g) * window(7) + fenwick(lam)"),
        "sum of a window and a scan": ((TOKEN,), "window(7) + semiseparable(g)"),
    }.items()
}
"""The same of windows of every width, with and without levels inside."""


BESIDE: dict[str, tuple[str, ...]] = {
    name: (*QKV, *declared, f"return attend(q, k, v, {mask})")
    for name, (declared, mask) in {
        "operator beside a window": ((TOKEN, STEP), f"semiseparable(g) * {DELTA} + window(7)"),
        "diagonal and operator beside levels": (
            (CHANNEL, STEP, WEIGHTS),
            f"{DELTA} @ semiseparable(g) + semiseparable(g) * fenwick(lam)",
        ),
        "rank-one steps along other vectors beside levels": (
            (TOKEN, STEP, WEIGHTS),
            "semiseparable(g) * rank1(-beta * l2norm(q), l2norm(k)) + fenwick(lam)",
        ),
    }.items()
}
"""Rank-one steps in a scan, beside terms whose memories go by position."""


STRONG: dict[str, tuple[str, ...]] = {
    name: (*QKV, *declared, f"return attend(q, k, v, {mask})")
    for name, (declared, mask) in {
        "constant, strong hierarchy": ((WEIGHTS,), 'fenwick(lam, admissibility="strong")'),
        "diagonal, strong hierarchy": ((CHANNEL, WEIGHTS), 'semiseparable(g) * fenwick(lam, admissibility="strong")'),
        "sum of hierarchies": ((WEIGHTS,), 'fenwick(lam, admissibility="strong") + fenwick(lam)'),
    }.items()
}
"""The same of other steps under a strong hierarchy."""


def chunk_of(name: str) -> int:
    """A chunk size small enough for tests: a power of the hierarchy's base."""
    return 9 if "base 3" in name else 8


def block(*lines: str) -> str:
    """A spec of these lines."""
    return "attention test:\n" + "".join(f"    {line}\n" for line in lines)
