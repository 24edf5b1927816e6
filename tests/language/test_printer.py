"""Text of syntax trees: it parses back to an equal tree, with no parenthesis too many."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl.diagnostics import Source
from maskdsl.language.parse import parse
from maskdsl.language.printer import to_text
from maskdsl.language.syntax import (
    Assignment,
    Attention,
    Binary,
    Call,
    Declaration,
    Declared,
    Expression,
    File,
    Keyword,
    Name,
    Negative,
    Number,
    Range,
    Return,
    Text,
)
from maskdsl.language.tree import clean_doc

NAMES = st.sampled_from(["a", "b_1", "_", "key", "exp", "T", "weak"])
NUMBERS = st.one_of(st.integers(0, 10**20), st.floats(0, 1e300))
WORDS = st.text(st.sampled_from("ab \\\"'#{}\t"), max_size=6)
BOUNDS = st.floats(-1e300, 1e300)


def _larger(smaller: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    keywords = st.lists(st.builds(Keyword, NAMES, smaller), max_size=2).map(tuple)
    return st.one_of(
        st.builds(Negative, smaller),
        st.builds(Binary, st.sampled_from(["+", "-", "*", "/", "**", "@"]), smaller, smaller),
        st.builds(Call, NAMES, st.lists(smaller, max_size=3).map(tuple), keywords),
    )


EXPRESSIONS = st.recursive(
    st.one_of(st.builds(Number, NUMBERS), st.builds(Name, NAMES), st.builds(Text, WORDS)), _larger, max_leaves=12
)
RANGES = st.one_of(
    st.just(Range()),
    st.builds(Range, BOUNDS, st.none()),
    st.builds(Range, st.none(), BOUNDS),
    st.builds(lambda low, width: Range(low, low + width), st.floats(-1e3, 1e3), st.floats(0, 1e3)),
)
DECLARATIONS = st.builds(
    Declaration,
    st.lists(st.builds(Declared, NAMES), min_size=1, max_size=3).map(tuple),
    st.sampled_from(["key", "value", "token", "channel", "level", "head", "head_channel"]),
    RANGES,
)
STATEMENTS = st.one_of(DECLARATIONS, st.builds(Assignment, NAMES, EXPRESSIONS), st.builds(Return, EXPRESSIONS))
DOCS = st.text(st.sampled_from("ab \\\"'#\n"), max_size=20).map(clean_doc)


@st.composite
def files(draw: st.DrawFn) -> File:
    """Trees of whole texts, of any meaning."""
    names = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
    body = st.lists(STATEMENTS, min_size=1, max_size=4).map(tuple)
    return File(tuple(Attention(name, draw(DOCS), draw(body)) for name in names))


@settings(max_examples=300, deadline=None)
@given(files())
def test_text_parses_back(tree: File) -> None:
    assert parse(Source("f.mask", to_text(tree))) == tree


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("((a))", "a"),
        ("(a * (b @ c)) * d", "a * b @ c * d"),
        ("a * (b * c)", "a * (b * c)"),
        ("(a + b) + c", "a + b + c"),
        ("a - (b - c)", "a - (b - c)"),
        ("(a * b) @ c", "(a * b) @ c"),
        ("a @ (b @ c)", "a @ (b @ c)"),
        ("-(a ** 2)", "-a ** 2"),
        ("(-a) ** 2", "(-a) ** 2"),
        ("(-a) * b", "-a * b"),
        ("-(a * b)", "-(a * b)"),
        ("a ** (b ** c)", "a ** b ** c"),
        ("(a ** b) ** c", "(a ** b) ** c"),
        ("a ** (-b)", "a ** -b"),
        ("2 * (-(-b))", "2 * --b"),
        ("+a", "a"),
        ("1e-6 + .5 + 1_000", "1e-06 + 0.5 + 1000"),
        ("f( a,b = 'x', )", 'f(a, b="x")'),
    ],
)
def test_fewest_parentheses(written: str, printed: str) -> None:
    [block] = parse(Source("f.mask", f"attention f:\n    x = {written}\n")).blocks
    assert to_text(block) == f"attention f:\n    x = {printed}\n"


def test_whole_block() -> None:
    text = '''\
attention f:
    """
    A title.

        More.
    """
    q, k : key
    g : token <= 0
    p : head in [-0.5, 1]
    l : level >= 0
    m = semiseparable(g)
    return attend(q, k, v, m, scale=1 / sqrt(K))


attention g:
    """A title."""
    return x
'''
    assert to_text(parse(Source("f.mask", text))) == text


def test_no_node() -> None:
    with pytest.raises(TypeError, match="'int' is not a node"):
        to_text(3)  # type: ignore[arg-type]
