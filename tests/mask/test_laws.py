"""One case or more for each law: what it makes of a tree, that the meaning stays, and where it does not apply."""

import numpy as np
import pytest
import sympy
from mask_meaning import dense, scalar, values

from maskdsl.mask.laws import LAWS
from maskdsl.mask.nodes import (
    Causal,
    Compose,
    Delta,
    Fenwick,
    Kind,
    Plus,
    Rank1,
    Scalar,
    Semiseparable,
    Times,
    Window,
)

g, h = scalar("g", Kind.TOKEN), scalar("h", Kind.TOKEN)
head = scalar("head", Kind.HEAD)
c, d = scalar("c", Kind.CHANNEL), scalar("d", Kind.HEAD_CHANNEL)
k, j = scalar("k", Kind.KEY), scalar("j", Kind.KEY)
lam, mu = scalar("lam", Kind.LEVEL), scalar("mu", Kind.LEVEL)
zero, one = (Scalar(sympy.Integer(n), Kind.CONST) for n in (0, 1))
float_one = Scalar(sympy.Float(1.0), Kind.CONST)

G, H, HEAD, C, D = map(Semiseparable, (g, h, head, c, d))
DELTA, RANK1 = Delta(k, h), Rank1(k, j)
F, FM, W = Fenwick(lam), Fenwick(mu), Window(3)


def total(*parts: Scalar, kind: Kind) -> Scalar:
    return Scalar(sympy.Add(*(part.expr for part in parts)), kind)


GH = Semiseparable(total(g, h, kind=Kind.TOKEN))
GC = Semiseparable(total(g, c, kind=Kind.CHANNEL))

CASES = [
    ("times-distributes", Times(Plus(F, G), W), Plus(Times(F, W), Times(G, W))),
    ("times-distributes", Times(W, Plus(F, G)), Plus(Times(W, F), Times(W, G))),
    ("causal-is-neutral", Times(Causal(), F), F),
    ("causal-is-neutral", Times(DELTA, Causal()), DELTA),
    ("causal-is-neutral", Compose(Causal(), DELTA), DELTA),
    ("causal-is-neutral", Compose(DELTA, Causal()), DELTA),
    ("operators-associate", Times(G, Times(F, W)), Times(Times(G, F), W)),
    ("operators-associate", Plus(G, Plus(F, W)), Plus(Plus(G, F), W)),
    ("operators-associate", Compose(C, Compose(DELTA, RANK1)), Compose(Compose(C, DELTA), RANK1)),
    ("times-commutes", Times(F, DELTA), Times(DELTA, F)),
    ("times-commutes", Times(Times(W, F), C), Times(Times(C, F), W)),
    ("plus-commutes", Plus(W, F), Plus(F, W)),
    ("plus-commutes", Plus(F, W), None),
    ("semiseparables-multiply", Times(G, H), GH),
    ("semiseparables-multiply", Times(C, D), Semiseparable(total(c, d, kind=Kind.CHANNEL))),
    ("semiseparables-multiply", Times(G, C), GC),
    ("semiseparables-multiply", Times(HEAD, D), Semiseparable(total(head, d, kind=Kind.HEAD_CHANNEL))),
    ("semiseparables-multiply", Times(G, D), Semiseparable(total(g, d, kind=Kind.CHANNEL))),
    ("semiseparables-multiply", Times(Times(G, F), H), Times(GH, F)),
    ("numbers-compose", Times(G, DELTA), Compose(G, DELTA)),
    ("numbers-compose", Times(DELTA, G), Compose(G, DELTA)),
    ("numbers-compose", Times(Times(RANK1, F), G), Times(Compose(G, RANK1), F)),
    ("numbers-compose", Times(G, F), None),
    ("fenwicks-multiply", Times(F, FM), Fenwick(Scalar(lam.expr * mu.expr, Kind.LEVEL))),
    ("fenwicks-multiply", Times(F, Fenwick(g)), Fenwick(Scalar(lam.expr * g.expr, Kind.LEVEL))),
    ("fenwicks-multiply", Times(Fenwick(lam, 3), Fenwick(mu, 3)), Fenwick(Scalar(lam.expr * mu.expr, Kind.LEVEL), 3)),
    ("fenwicks-multiply", Times(F, Fenwick(mu, 3)), None),
    ("fenwicks-multiply", Times(F, Fenwick(mu, 2, "strong")), None),
    ("windows-multiply", Times(Window(3), Window(2)), Window(2)),
    ("windows-multiply", Times(Times(Window(1), G), Window(4)), Times(Window(1), G)),
    ("delta-of-zero", Delta(k, zero), Causal()),
    ("delta-of-zero", Delta(k, one), None),
    ("rank1-of-one-vector", Rank1(k, k), Delta(k, Scalar(sympy.Integer(-1), Kind.CONST))),
    ("fenwick-of-ones", Fenwick(one), Causal()),
    ("fenwick-of-ones", Fenwick(float_one, 3), Causal()),
    ("fenwick-of-ones", Fenwick(g), None),
    ("number-decays-commute", Compose(G, DELTA), Compose(DELTA, G)),
    ("number-decays-commute", Compose(Compose(C, G), RANK1), Compose(Compose(C, RANK1), G)),
    ("number-decays-commute", Compose(DELTA, G), None),
    ("number-decays-commute", Compose(C, DELTA), None),
    ("adjacent-decays-merge", Compose(G, H), GH),
    (
        "adjacent-decays-merge",
        Compose(Compose(DELTA, C), D),
        Compose(DELTA, Semiseparable(total(c, d, kind=Kind.CHANNEL))),
    ),
    ("adjacent-decays-merge", Compose(Compose(C, DELTA), D), None),
    ("diagonals-absorb-numbers", Compose(C, G), GC),
    ("diagonals-absorb-numbers", Compose(Compose(Compose(D, RANK1), C), G), Compose(Compose(D, RANK1), GC)),
    ("diagonals-absorb-numbers", Compose(Compose(C, DELTA), G), Compose(GC, DELTA)),
    ("diagonals-absorb-numbers", Compose(DELTA, G), None),
]


@pytest.mark.parametrize(("law", "before", "after"), CASES, ids=lambda case: case if isinstance(case, str) else "")
def test_law(law, before, after):
    assert LAWS[law](before) == after
    if after is not None:
        inputs = values(seed=0)
        np.testing.assert_allclose(dense(after, inputs), dense(before, inputs), rtol=1e-13, atol=1e-15)


def test_every_law_has_a_case():
    assert {law for law, _, after in CASES if after is not None} == set(LAWS)


@pytest.mark.parametrize("law", LAWS)
def test_no_law_changes_a_mask_of_one_constructor(law):
    for mask in (Causal(), G, C, DELTA, RANK1, F, W):
        assert LAWS[law](mask) is None
