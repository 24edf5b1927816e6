"""Texts to syntax trees: structure, layout and spans."""

from __future__ import annotations

import pytest

from maskdsl.diagnostics import Source, SpecError
from maskdsl.language.parse import parse
from maskdsl.language.report import walk
from maskdsl.language.syntax import (
    Assignment,
    Attention,
    Binary,
    Call,
    Declaration,
    Declared,
    Expression,
    Keyword,
    Name,
    Negative,
    Number,
    Range,
    Return,
    Span,
    Text,
)

A, B, C, D = (Name(letter) for letter in "abcd")


def block(text: str) -> Attention:
    """The one block of a text."""
    [found] = parse(Source("f.mask", text)).blocks
    return found


def expression(text: str) -> Expression:
    """The expression that `text` is."""
    [statement] = block(f"attention f:\n    x = {text}\n").body
    assert isinstance(statement, Assignment)
    return statement.value


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b * c", Binary("+", A, Binary("*", B, C))),
        ("a - b - c", Binary("-", Binary("-", A, B), C)),
        ("a / b * c", Binary("*", Binary("/", A, B), C)),
        ("a * b @ c * d", Binary("*", Binary("*", A, Binary("@", B, C)), D)),
        ("a @ b @ c", Binary("@", Binary("@", A, B), C)),
        ("-a ** 2", Negative(Binary("**", A, Number(2)))),
        ("a ** b ** c", Binary("**", A, Binary("**", B, C))),
        ("a ** -b", Binary("**", A, Negative(B))),
        ("-a * b", Binary("*", Negative(A), B)),
        ("-a @ b", Binary("@", Negative(A), B)),
        ("a - -b", Binary("-", A, Negative(B))),
        ("+a", A),
        ("(a + b) * c", Binary("*", Binary("+", A, B), C)),
        ("f()", Call("f")),
        ("f(a, b, x=c,)", Call("f", (A, B), (Keyword("x", C),))),
        ("f('word', x=\"it's\")", Call("f", (Text("word"),), (Keyword("x", Text("it's")),))),
        (r'"a\"b\\c"', Text(r'a"b\c')),
        ("f(a,\n  b)  # comment", Call("f", (A, B))),
        ("(\n# comment )\na\n\n)", A),
        ("a \\\n  + b", Binary("+", A, B)),
    ],
)
def test_expressions(text: str, tree: Expression) -> None:
    assert expression(text) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("12", 12), ("1_000", 1000), ("1.", 1.0), (".5", 0.5), ("2.50", 2.5), ("1e3", 1e3), ("1.5E-6", 1.5e-6)],
)
def test_numbers(text: str, value: float) -> None:
    number = expression(text)
    assert number == Number(value)
    assert isinstance(number, Number)
    assert type(number.value) is type(value)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("", Range()),
        (">= 0", Range(0.0, None)),
        ("<= -1.5", Range(None, -1.5)),
        (">= 3", Range(3.0, None)),
        ("in [-1e2, .5]", Range(-100.0, 0.5)),
    ],
)
def test_declarations(text: str, given: Range) -> None:
    assert block(f"attention f:\n    a, b : token {text}\n").body == (
        Declaration((Declared("a"), Declared("b")), "token", given),
    )


TREE = Attention("f", "", (Declaration((Declared("q"),), "key"), Return(Name("q"))))


@pytest.mark.parametrize(
    "text",
    [
        "attention f:\n    q : key\n    return q\n",
        "attention f:\n    q : key\n    return q",
        "attention f:\r\n    q : key\r\n    return q\r\n",
        "attention f:\n\tq : key\n\treturn q\n",
        "attention f:\n q : key\n return q\n",
        "\n\n# title\nattention f:  # header\n\n    # first\n    q : key # kind\n\n  # odd\n\n    return q\n# end",
        "attention f:\n    q : key\n    return (\nq\n  )\n",
        "\n    attention f:\n        q : key\n        return q\n    ",
        "    attention f:\n        q : key\n        return q",
        "attention f:\n    q : key\n    return q\n   ",
        "attention f:\n    q : key\n\n\t\n    return q\n",
    ],
)
def test_layout(text: str) -> None:
    assert block(text) == TREE


def test_several_blocks() -> None:
    text = "attention f:\n    return a\nattention g:\n    return b\n\n\nattention h:\n    return c\n"
    assert [found.name for found in parse(Source("f.mask", text)).blocks] == ["f", "g", "h"]


@pytest.mark.parametrize(
    ("text", "doc"),
    [
        ('"""One line."""', "One line."),
        ('"One line."', "One line."),
        ("'''It is \"it\".'''", 'It is "it".'),
        ('"""Title.\n\n    Body,\n      more.\n    """', "Title.\n\nBody,\n  more."),
        ('"""\n    Title: # no comment\n    """', "Title: # no comment"),
        (r'"""A \sum and a \\ and a \"."""', r'A \sum and a \ and a ".'),
    ],
)
def test_docstrings(text: str, doc: str) -> None:
    assert block(f"attention f:\n    {text}\n    return q\n").doc == doc


def test_spans() -> None:
    text = """\
attention long_name:
    "doc"
    q, kk : key in [-1, 2]
    m = (a + f(b, x=-1)) * 2.5
    return m
"""
    tree = block(text)
    lines = text.split("\n")

    def written(span: Span) -> str:
        assert span.line == span.end_line
        return lines[span.line - 1][span.column - 1 : span.end_column - 1]

    declaration, assignment, result = tree.body
    assert isinstance(declaration, Declaration)
    assert isinstance(assignment, Assignment)
    assert isinstance(result, Return)
    assert tree.span == Span(1, 1, 5, 13)
    assert [written(node.span) for node in tree.body] == [
        "q, kk : key in [-1, 2]",
        "m = (a + f(b, x=-1)) * 2.5",
        "return m",
    ]
    assert [written(name.span) for name in declaration.names] == ["q", "kk"]
    assert written(declaration.range.span) == "in [-1, 2]"
    assert [written(node.span) for node in walk(assignment.value)] == [
        "(a + f(b, x=-1)) * 2.5",
        "a + f(b, x=-1)",
        "a",
        "f(b, x=-1)",
        "b",
        "-1",
        "1",
        "2.5",
    ]
    call = next(node for node in walk(assignment.value) if isinstance(node, Call))
    assert written(call.keywords[0].span) == "x=-1"


def test_spans_over_lines() -> None:
    [statement] = block("attention f:\n    x = f(a,\n  b)\n").body
    assert statement.span == Span(2, 5, 3, 5)


def test_all_errors_in_one_run() -> None:
    text = """\
attention f(q):
    q : kye
    a = 2 ^ 2
    b = (1 + 2
    c = 3 3

attenton g:
    d = = 4
    return d +
"""
    with pytest.raises(SpecError) as caught:
        parse(Source("f.mask", text))
    places = [(found.span.line, found.span.column) for found in caught.value.diagnostics]
    assert places == [(1, 12), (2, 9), (3, 11), (4, 9), (5, 11), (7, 1), (8, 9), (9, 15)]
