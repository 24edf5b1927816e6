"""Blocks to checked specs: kinds, masks, definitions, and several mistakes in one run."""

from __future__ import annotations

import itertools

import pytest
import sympy

from maskdsl.diagnostics import Source, SpecError
from maskdsl.language.check import check
from maskdsl.language.load import specs
from maskdsl.language.parse import parse
from maskdsl.language.syntax import Range
from maskdsl.mask.nodes import (
    Causal,
    Compose,
    Delta,
    Fenwick,
    Kind,
    Mask,
    Plus,
    Rank1,
    Scalar,
    Semiseparable,
    Times,
    Window,
)
from maskdsl.mask.scalars import union
from maskdsl.scalar.build import dimension, symbol
from maskdsl.scalar.functions import sigmoid, softplus
from maskdsl.spec import Attend, Definition, Input, L2Norm, Spec

EXAMPLE = '''\
attention log_linear_gated_deltanet:
    """Gated DeltaNet whose states form a Fenwick hierarchy (Guo et al., arXiv 2506.04761, section 3.3)."""

    q, k           : key            # [B, T, Hk, K]
    v              : value          # [B, T, H, V]
    a, b           : token          # [B, T, H]
    A_log, dt_bias : head           # [H]
    lam            : level >= 0     # [B, T, H, L]

    g    = -exp(A_log) * softplus(a + dt_bias)     # log decay; the compiler proves g <= 0
    beta = sigmoid(b)
    kn   = l2norm(k)

    mask = semiseparable(g) * delta(kn, beta) * fenwick(lam)
    return attend(l2norm(q), beta * kn, v, mask, scale=1/sqrt(K))
'''

Q, K, V = (Scalar(symbol(name), kind) for name, kind in (("q", Kind.KEY), ("k", Kind.KEY), ("v", Kind.VALUE)))
ONE = Scalar(sympy.Integer(1), Kind.CONST)


def checked(text: str) -> Spec:
    """The one spec of a text, through both doors."""
    source = Source("f.mask", text)
    [block] = parse(source).blocks
    [spec] = specs(source)
    assert check(block, source) == spec
    return spec


def body(*lines: str) -> str:
    """A block of these lines, with the inputs `q`, `k` and `v`."""
    return "attention f:\n    q, k : key\n    v : value\n" + "".join(f"    {line}\n" for line in lines)


def mask_of(text: str, *lines: str) -> Mask:
    """The mask that `text` stands for."""
    definition = checked(body(*lines, f"return attend(q, k, v, {text})")).definitions[-1]
    assert isinstance(definition.node, Attend)
    return definition.node.mask


def test_example() -> None:
    spec = checked(EXAMPLE)
    a, b, a_log, dt_bias = (symbol(name) for name in ("a", "b", "A_log", "dt_bias"))
    kn = Scalar(symbol("kn"), Kind.KEY)
    beta = Scalar(sigmoid(b), Kind.TOKEN)
    mask = Times(
        Times(Semiseparable(Scalar(-sympy.exp(a_log) * softplus(a + dt_bias), Kind.TOKEN)), Delta(kn, beta)),
        Fenwick(Scalar(symbol("lam", 0.0), Kind.LEVEL)),
    )
    attend = Attend(
        q=Scalar(symbol("l2norm_1"), Kind.KEY),
        k=Scalar(sigmoid(b) * kn.expr, Kind.KEY),
        v=V,
        mask=mask,
        scale=Scalar(1 / sympy.sqrt(dimension("K")), Kind.CONST),
    )
    assert spec.name == "log_linear_gated_deltanet"
    assert spec.doc.startswith("Gated DeltaNet whose")
    assert spec.inputs == (
        Input("q", Kind.KEY, Range()),
        Input("k", Kind.KEY, Range()),
        Input("v", Kind.VALUE, Range()),
        Input("a", Kind.TOKEN, Range()),
        Input("b", Kind.TOKEN, Range()),
        Input("A_log", Kind.HEAD, Range()),
        Input("dt_bias", Kind.HEAD, Range()),
        Input("lam", Kind.LEVEL, Range(0.0, None)),
    )
    assert spec.definitions == (
        Definition("kn", L2Norm(K, 1e-6), Kind.KEY),
        Definition("l2norm_1", L2Norm(Q, 1e-6), Kind.KEY),
        Definition("attend_1", attend, Kind.VALUE),
    )
    assert spec.output == Scalar(symbol("attend_1"), Kind.VALUE)
    assert spec.syntax == parse(Source("f.mask", EXAMPLE)).blocks[0]


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("causal", Causal()),
        ("window(2 * 64)", Window(128)),
        ("window(w=4)", Window(4)),
        ("semiseparable(-1)", Semiseparable(Scalar(sympy.Integer(-1), Kind.CONST))),
        ("delta(k, 1)", Delta(K, ONE)),
        ("delta(beta=1, k=k)", Delta(K, ONE)),
        ("rank1(q, b=k)", Rank1(Q, K)),
        ("fenwick(1)", Fenwick(ONE)),
        ('fenwick(1, 2, "strong")', Fenwick(ONE, 2, "strong")),
        ("fenwick(1, base=3)", Fenwick(ONE, 3)),
        ("causal * window(3)", Times(Causal(), Window(3))),
        ("causal + window(3)", Plus(Causal(), Window(3))),
        ("causal @ delta(k, 1)", Compose(Causal(), Delta(K, ONE))),
        ("(causal * delta(k, 1)) @ causal", Compose(Times(Causal(), Delta(K, ONE)), Causal())),
        ("(causal @ causal) @ causal", Compose(Compose(Causal(), Causal()), Causal())),
        ("fenwick(1) * fenwick(1)", Times(Fenwick(ONE), Fenwick(ONE))),
        ("delta(k, 1) * (causal + window(3))", Times(Delta(K, ONE), Plus(Causal(), Window(3)))),
        ("fenwick(1) + fenwick(1, base=3)", Plus(Fenwick(ONE), Fenwick(ONE, 3))),
    ],
)
def test_masks(text: str, mask: Mask) -> None:
    assert mask_of(text) == mask


def test_diagonal_masks_multiply_and_compose() -> None:
    c = Semiseparable(Scalar(symbol("c", None, 0.0), Kind.CHANNEL))
    p = Semiseparable(Scalar(symbol("p", None, 0.0), Kind.HEAD_CHANNEL))
    lines = ("c : channel <= 0", "p : head_channel <= 0")
    assert mask_of("semiseparable(c) * semiseparable(p)", *lines) == Times(c, p)
    assert mask_of("(semiseparable(c) * semiseparable(p)) @ causal", *lines) == Compose(Times(c, p), Causal())


@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        (Kind.CONST, Kind.CONST, Kind.CONST),
        (Kind.CONST, Kind.LEVEL, Kind.LEVEL),
        (Kind.HEAD, Kind.HEAD_CHANNEL, Kind.HEAD_CHANNEL),
        (Kind.TOKEN, Kind.HEAD_CHANNEL, Kind.CHANNEL),
        (Kind.TOKEN, Kind.HEAD, Kind.TOKEN),
        (Kind.TOKEN, Kind.LEVEL, Kind.LEVEL),
        (Kind.HEAD, Kind.VALUE, Kind.VALUE),
        (Kind.KEY, Kind.CHANNEL, Kind.KEY),
        (Kind.KEY, Kind.TOKEN, Kind.KEY),
        (Kind.KEY, Kind.HEAD_CHANNEL, Kind.KEY),
        (Kind.KEY, Kind.VALUE, None),
        (Kind.KEY, Kind.LEVEL, None),
        (Kind.VALUE, Kind.CHANNEL, None),
        (Kind.LEVEL, Kind.HEAD_CHANNEL, None),
    ],
)
def test_kinds_broadcast(left: Kind, right: Kind, kind: Kind | None) -> None:
    assert union(left, right) is union(right, left) is kind


def test_kinds_with_themselves_and_constants() -> None:
    assert all(union(kind, kind) is kind is union(kind, Kind.CONST) for kind in Kind)
    assert all(union(a, b) or a.feature != b.feature for a, b in itertools.product(Kind, Kind))


def test_ranges_reach_the_symbols() -> None:
    spec = checked(body("p : token in [0, 1]", "return attend(q, k, v, semiseparable(log(p)))"))
    [definition] = spec.definitions
    assert isinstance(definition.node, Attend)
    assert definition.node.mask == Semiseparable(Scalar(sympy.log(symbol("p", 0.0, 1.0)), Kind.TOKEN))


def test_equal_norms_are_one_definition() -> None:
    lines = ("kn = l2norm(k)", "again = l2norm(k, eps=1e-6)")
    spec = checked(body(*lines, "return attend(q, again * l2norm(k), v, delta(kn, 1))"))
    assert [definition.name for definition in spec.definitions] == ["kn", "attend_1"]


def test_generated_names_collide_with_nothing() -> None:
    spec = checked(body("l2norm_1 : token", "return attend(l2norm(q), l2norm(k), v, causal) * l2norm_1"))
    assert [definition.name for definition in spec.definitions] == ["l2norm_2", "l2norm_3", "attend_1"]


def test_attend_of_attend() -> None:
    spec = checked(body("one = attend(q, k, v, causal)", "return one - silu(v) * attend(k, q, 2 * one, causal, 1/2)"))
    first, second = spec.definitions
    assert (first.name, second.name) == ("one", "attend_1")
    assert isinstance(second.node, Attend)
    assert second.node.v == Scalar(2 * symbol("one"), Kind.VALUE)
    assert second.node.scale == Scalar(sympy.Rational(1, 2), Kind.CONST)


def test_independent_mistakes_in_one_run() -> None:
    text = """\
attention f:
    q, k : key
    v : value
    w : vlue
    unused : token
    g = softplus(x)
    m = delta(k, 1) * rank1(q, k) * semiseparable(gg)
    n = (1 + 2
    return attend(q, k, v, m + g @ window(2), scale=n) * w

attention g:
    q : key
    v : value
    o = attend(q, v, v, causal) + attend(q, q, v, -causal)
"""
    with pytest.raises(SpecError) as caught:
        specs(Source("f.mask", text))
    assert [(found.code, found.span.line, found.span.column) for found in caught.value.diagnostics] == [
        ("unknown-kind", 4, 9),
        ("unused", 5, 5),
        ("unknown-name", 6, 18),
        ("operator-product", 7, 23),
        ("unknown-name", 7, 51),
        ("parenthesis", 8, 9),
        ("kind-mismatch", 14, 19),
        ("mask-operator", 14, 51),
        ("no-return", 14, 59),
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["g = x + x", "h = g * x", "return attend(q, k, v, semiseparable(h)) * g"],
        ["g = softplus(lam", "return attend(q, k, v, semiseparable(g)) * lam"],
        ["a : tokn", "return attend(q, k, v, semiseparable(a)) / L"],
        ["exp : token", "return attend(q, k, v, semiseparable(exp))"],
        ["gate : token <= 0", "return attend(q, k, v, semiseparable(gat))"],
    ],
)
def test_one_mistake_is_reported_once(lines: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        specs(Source("f.mask", body(*lines)))
    assert len(caught.value.diagnostics) == 1
