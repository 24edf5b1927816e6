"""The normal form means what the mask means, has the promised shape, and is a fixpoint."""

import itertools

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_meaning import dense, masks, scalar, values

from maskdsl.mask import normalize as normalize_module
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
from maskdsl.mask.normal import Decay, Hierarchy, NormalForm, RankOne, Term
from maskdsl.mask.normalize import normalize, to_mask
from maskdsl.mask.scalars import ONE, add, multiply, union

g, h = scalar("g", Kind.TOKEN), scalar("h", Kind.TOKEN)
c, d = scalar("c", Kind.CHANNEL), scalar("d", Kind.HEAD_CHANNEL)
k, j = scalar("k", Kind.KEY), scalar("j", Kind.KEY)
lam, mu = scalar("lam", Kind.LEVEL), scalar("mu", Kind.LEVEL)
G, H, C, D = map(Semiseparable, (g, h, c, d))
DELTA, RANK1 = Delta(k, h), Rank1(k, j)
RANK_ONE = RankOne(k, k, Scalar(-h.expr, Kind.TOKEN))
WEAK = Hierarchy(lam, 2, "weak")


def channel(*parts: Scalar) -> Decay:
    return Decay(Scalar(sympy.Add(*(part.expr for part in parts)), Kind.CHANNEL))


@pytest.mark.parametrize(
    ("mask", "terms"),
    [
        (Causal(), [Term((), None, None)]),
        (G, [Term((Decay(g),), None, None)]),
        (Window(3), [Term((), None, 3)]),
        (Times(Times(G, DELTA), Fenwick(lam)), [Term((Decay(g), RANK_ONE), WEAK, None)]),
        (Compose(C, DELTA), [Term((RANK_ONE, Decay(c)), None, None)]),
        (Compose(DELTA, C), [Term((Decay(c), RANK_ONE), None, None)]),
        (Rank1(k, k), [Term((RankOne(k, k, ONE),), None, None)]),
        (Compose(DELTA, RANK1), [Term((RankOne(k, j, ONE), RANK_ONE), None, None)]),
        (Times(G, Compose(C, DELTA)), [Term((RANK_ONE, channel(g, c)), None, None)]),
        (Compose(Compose(D, DELTA), Compose(C, G)), [Term((channel(c, g), RANK_ONE, Decay(d)), None, None)]),
        (Compose(Compose(G, D), Compose(DELTA, C)), [Term((channel(c, g), RANK_ONE, Decay(d)), None, None)]),
        (Times(Window(5), Times(C, Times(Fenwick(lam), Window(2)))), [Term((Decay(c),), WEAK, 2)]),
        (Times(Fenwick(lam), Plus(G, C)), [Term((Decay(c),), WEAK, None), Term((Decay(g),), WEAK, None)]),
        (Times(Delta(k, Scalar(sympy.S.Zero, Kind.CONST)), DELTA), [Term((RANK_ONE,), None, None)]),
    ],
)
def test_normal_form(mask, terms):
    assert normalize(mask) == NormalForm(tuple(terms))


def test_sums_have_one_order():
    parts = [G, Times(DELTA, Fenwick(lam)), Window(2)]
    forms = {normalize(Plus(x, Plus(y, z))) for x, y, z in itertools.permutations(parts)}
    assert len(forms) == 1


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Times(DELTA, RANK1), "has no chunkwise form"),
        (Times(C, DELTA), "has no chunkwise form"),
        (Compose(DELTA, Fenwick(lam)), "has no chunkwise form"),
        (Compose(Plus(G, H), DELTA), "has no chunkwise form"),
        (Times(Fenwick(lam), Fenwick(mu, 3)), "two hierarchies of different base"),
    ],
)
def test_what_is_no_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        normalize(mask)


def test_laws_without_an_end_are_an_error(monkeypatch):
    swap = lambda mask: Times(mask.right, mask.left) if isinstance(mask, Times) else None  # noqa: E731
    monkeypatch.setattr(normalize_module, "LAWS", {"swap": swap})
    with pytest.raises(RuntimeError, match="did not come to an end"):
        normalize(Times(G, Window(2)))


@settings(max_examples=100, deadline=None)
@given(masks, st.integers(0, 2**32))
def test_the_meaning_stays(mask, seed):
    inputs = values(seed)
    np.testing.assert_allclose(dense(to_mask(normalize(mask)), inputs), dense(mask, inputs), rtol=1e-10, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(masks)
def test_the_normal_form_is_a_fixpoint(mask):
    form = normalize(mask)
    assert normalize(to_mask(form)) == form


@settings(max_examples=100, deadline=None)
@given(masks)
def test_paths_have_the_promised_shape(mask):
    for term in normalize(mask).terms:
        decays = [place for place, step in enumerate(term.path) if isinstance(step, Decay)]
        numbers = [place for place in decays if term.path[place].g.kind.feature is None]
        assert numbers in ([], [0])
        assert not numbers or len(decays) == 1
        assert all(later - earlier > 1 for earlier, later in itertools.pairwise(decays))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (Kind.CONST, Kind.CONST, Kind.CONST),
        (Kind.CONST, Kind.HEAD_CHANNEL, Kind.HEAD_CHANNEL),
        (Kind.HEAD, Kind.TOKEN, Kind.TOKEN),
        (Kind.HEAD_CHANNEL, Kind.TOKEN, Kind.CHANNEL),
        (Kind.HEAD_CHANNEL, Kind.HEAD, Kind.HEAD_CHANNEL),
        (Kind.CHANNEL, Kind.KEY, Kind.KEY),
        (Kind.KEY, Kind.TOKEN, Kind.KEY),
        (Kind.LEVEL, Kind.HEAD, Kind.LEVEL),
        (Kind.VALUE, Kind.TOKEN, Kind.VALUE),
    ],
)
def test_kinds_unite(left, right, expected):
    assert union(left, right) == union(right, left) == expected


def test_features_do_not_mix():
    assert union(Kind.KEY, Kind.VALUE) is None
    q, v = scalar("q", Kind.KEY), scalar("v", Kind.VALUE)
    for operation in (add, multiply):
        with pytest.raises(ValueError, match="'key' and 'value' do not broadcast"):
            operation(q, v)
