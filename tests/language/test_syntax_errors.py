"""Every syntax error: its rendered text and its place."""

from __future__ import annotations

import pytest

from maskdsl.diagnostics import Source, SpecError
from maskdsl.language.load import specs

CASES = [
    pytest.param(
        """\
# nothing
""",
        [(1, 1)],
        """\
There is no attention block here.
  File "f.mask", line 1, column 1
    1 | # nothing
      | ^
  Hint: A spec begins with 'attention name:' and holds inputs, assignments and a return, all indented.
""",
        id="no block",
    ),
    pytest.param(
        """\
q : key
v : value
""",
        [(1, 1)],
        """\
The line belongs to no attention block.
  File "f.mask", line 1, column 1
    1 | q : key
      | ^ expected 'attention'
  Hint: A spec begins with 'attention name:' and holds inputs, assignments and a return, all indented.
""",
        id="stray line",
    ),
    pytest.param(
        """\
attenton f:
    q : key
    v : value
    return attend(q, q, v, causal)
""",
        [(1, 1)],
        """\
Unknown word 'attenton'.
  File "f.mask", line 1, column 1
    1 | attenton f:
      | ^^^^^^^^ expected 'attention'
  Hint: Did you mean 'attention'?
""",
        id="misspelt attention",
    ),
    pytest.param(
        """\
attention :
    q : key
    v : value
    return attend(q, q, v, causal)
""",
        [(1, 11)],
        """\
The block has no name.
  File "f.mask", line 1, column 11
    1 | attention :
      |           ^ expected a name
  Hint: Write 'attention name:'.
""",
        id="block without a name",
    ),
    pytest.param(
        """\
attention f
    q : key
    v : value
    return attend(q, q, v, causal)
""",
        [(1, 12)],
        """\
The header lacks its colon.
  File "f.mask", line 1, column 12
    1 | attention f
      |            ^ expected ':'
  Hint: Write 'attention f:'.
""",
        id="missing colon",
    ),
    pytest.param(
        """\
attention f(q, v):
    return attend(q, q, v, causal)
""",
        [(1, 12)],
        """\
A block has no parameter list.
  File "f.mask", line 1, column 12
    1 | attention f(q, v):
      |            ^ expected ':'
  Hint: Write 'attention f:' and declare the inputs below it, as in 'q, k : key'.
""",
        id="parameter list",
    ),
    pytest.param(
        """\
attention f: return 1
""",
        [(1, 14)],
        """\
The header goes on behind its colon.
  File "f.mask", line 1, column 14
    1 | attention f: return 1
      |              ^^^^^^ expected the end of the line
  Hint: Start the block on the next line.
""",
        id="header goes on",
    ),
    pytest.param(
        """\
attention f:

attention g:
    q : key
    v : value
    return attend(q, q, v, causal)
""",
        [(1, 13)],
        """\
The block 'f' is empty.
  File "f.mask", line 1, column 13
    1 | attention f:
      |             ^ expected an indented block
  Hint: A spec begins with 'attention name:' and holds inputs, assignments and a return, all indented.
""",
        id="empty block",
    ),
    pytest.param(
        """\
attention f:
q : key
v : value
return attend(q, q, v, causal)
""",
        [(2, 1)],
        """\
The line is not indented.
  File "f.mask", line 2, column 1
    2 | q : key
      | ^ expected an indented block
  Hint: Indent the lines below the header, for example by four spaces.
""",
        id="not indented",
    ),
    pytest.param(
        """\
attention f:
    q : key
      v : value
    return attend(q, q, v, causal)
""",
        [(3, 1)],
        """\
The line is indented more than the lines before it.
  File "f.mask", line 3, column 1
    3 |       v : value
      | ^^^^^^ unexpected indentation
  Hint: Indent all lines of a block alike.
""",
        id="indented more",
    ),
    pytest.param(
        """\
attention f:
    q : key
  v : value
    return attend(q, q, v, causal)
""",
        [(3, 1)],
        """\
The line is indented less than the lines before it.
  File "f.mask", line 3, column 1
    3 |   v : value
      | ^^ unexpected indentation
  Hint: Indent all lines of a block alike.
""",
        id="indented less",
    ),
    pytest.param(
        """\
attention f:
    q : key
\tv : value
    return attend(q, q, v, causal)
""",
        [(3, 1)],
        """\
The indentation mixes tabs and spaces.
  File "f.mask", line 3, column 1
    3 | \tv : value
      | ^ differs from the lines before it
  Hint: Indent with spaces only.
""",
        id="tabs and spaces",
    ),
    pytest.param(
        '''\
attention f:
    """What it is.
    q : key
''',
        [(2, 5)],
        '''\
The docstring is never closed.
  File "f.mask", line 2, column 5
    2 |     """What it is.
      |     ^^^ no closing """
  Hint: Close it with """.
''',
        id="open docstring",
    ),
    pytest.param(
        """\
attention f:
    q : key
    v : value
    "late"
    return attend(q, q, v, causal)
""",
        [(4, 5)],
        """\
A docstring stands only directly below the header.
  File "f.mask", line 4, column 5
    4 |     "late"
      |     ^^^^^^ expected a statement
""",
        id="docstring later",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l, admissibility="weak))
""",
        [(5, 53)],
        """\
The quoted text is never closed.
  File "f.mask", line 5, column 53
    5 |     return attend(q, k, v, fenwick(l, admissibility="weak))
      |                                                     ^ no closing " on this line
  Hint: Close it with the same quotes.
""",
        id="open quotes",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    m = semiseparable(-exp(1)
    return attend(q, k, v, m)
""",
        [(4, 22)],
        """\
'(' is never closed.
  File "f.mask", line 4, column 22
    4 |     m = semiseparable(-exp(1)
      |                      ^ expected ')' before the end of the line
  Hint: Add a ')'.
""",
        id="open parenthesis",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    m = semiseparable(-exp(1)))
    return attend(q, k, v, m)
""",
        [(4, 31)],
        """\
')' has no matching '('.
  File "f.mask", line 4, column 31
    4 |     m = semiseparable(-exp(1)))
      |                               ^ nothing to close
  Hint: Remove the ')' or add a '('.
""",
        id="unmatched parenthesis",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    r = 2 ^ 2
    return attend(q, k, v, causal, scale=r)
""",
        [(4, 11)],
        """\
'^' is not part of the language.
  File "f.mask", line 4, column 11
    4 |     r = 2 ^ 2
      |           ^ not an operator
  Hint: Write '**' for a power.
""",
        id="power",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return 2 \N{MULTIPLICATION SIGN} attend(q, k, v, causal)
""",
        [(4, 14)],
        """\
'\N{MULTIPLICATION SIGN}' is not part of the language.
  File "f.mask", line 4, column 14
    4 |     return 2 \N{MULTIPLICATION SIGN} attend(q, k, v, causal)
      |              ^ not an operator
  Hint: Write '*'.
""",
        id="multiplication sign",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    λ = 1
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'λ' cannot be part of a name.
  File "f.mask", line 4, column 5
    4 |     λ = 1
      |     ^ names consist of ASCII letters, digits and '_'
""",
        id="unicode name",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    r = 1; s = 2
    return r * s * attend(q, k, v, causal)
""",
        [(4, 10)],
        """\
';' is not part of the language.
  File "f.mask", line 4, column 10
    4 |     r = 1; s = 2
      |          ^ unexpected
  Hint: Put every statement on a line of its own.
""",
        id="semicolon",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v.T, causal)
""",
        [(4, 26)],
        """\
'.' is not part of the language.
  File "f.mask", line 4, column 26
    4 |     return attend(q, k, v.T, causal)
      |                          ^ unexpected
""",
        id="attribute",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q[0], k, v, causal)
""",
        [(4, 20)],
        """\
'[' is unexpected here.
  File "f.mask", line 4, column 20
    4 |     return attend(q[0], k, v, causal)
      |                    ^ expected an operator, ',' or ')'
  Hint: The language has no indexing; all operations act on whole inputs.
""",
        id="indexing",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend([q], k, v, causal)
""",
        [(4, 19)],
        """\
An expression is missing.
  File "f.mask", line 4, column 19
    4 |     return attend([q], k, v, causal)
      |                   ^ expected an expression
  Hint: Use parentheses to group.
""",
        id="list",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return 2 attend(q, k, v, causal)
""",
        [(4, 14)],
        """\
An operator is missing.
  File "f.mask", line 4, column 14
    4 |     return 2 attend(q, k, v, causal)
      |              ^^^^^^ expected an operator or the end of the line
  Hint: Write '2 * attend'.
""",
        id="missing operator",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    x : token
    return 2x * attend(q, k, v, causal)
""",
        [(5, 13)],
        """\
An operator is missing.
  File "f.mask", line 5, column 13
    5 |     return 2x * attend(q, k, v, causal)
      |             ^ expected an operator or the end of the line
  Hint: Write '2 * x'.
""",
        id="missing product",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q k, v, causal)
""",
        [(4, 21)],
        """\
An operator is missing.
  File "f.mask", line 4, column 21
    4 |     return attend(q k, v, causal)
      |                     ^ expected an operator, ',' or ')'
""",
        id="missing comma",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return 1 + * attend(q, k, v, causal)
""",
        [(4, 16)],
        """\
An expression is missing.
  File "f.mask", line 4, column 16
    4 |     return 1 + * attend(q, k, v, causal)
      |                ^ expected an expression
""",
        id="missing operand",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return
""",
        [(4, 11)],
        """\
An expression is missing.
  File "f.mask", line 4, column 11
    4 |     return
      |           ^ expected an expression
""",
        id="missing expression",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal) // 2
""",
        [(4, 37)],
        """\
The language has no '//'.
  File "f.mask", line 4, column 37
    4 |     return attend(q, k, v, causal) // 2
      |                                     ^ expected an expression
  Hint: Write a single '/'.
""",
        id="floor division",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    x == 1
    return attend(q, k, v, causal)
""",
        [(4, 8)],
        """\
The language has no comparisons.
  File "f.mask", line 4, column 8
    4 |     x == 1
      |        ^ expected an expression
  Hint: Write a single '='.
""",
        id="comparison",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    x += 1
    return attend(q, k, v, causal)
""",
        [(4, 7)],
        """\
Each name is assigned only once.
  File "f.mask", line 4, column 7
    4 |     x += 1
      |       ^ '+=' is not an operator
  Hint: Assign the result to a new name.
""",
        id="augmented assignment",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    x := 1
    return attend(q, k, v, causal)
""",
        [(4, 8)],
        """\
A kind is missing after the colon.
  File "f.mask", line 4, column 8
    4 |     x := 1
      |        ^ expected a kind
  Hint: Write 'x = ...' to assign an expression. The kinds are head, head_channel, token, channel, level, key, value.
""",
        id="walrus",
    ),
    pytest.param(
        """\
attention f:
    q, k = key
    v : value
    return attend(q, k, v, causal)
""",
        [(2, 10)],
        """\
An assignment has one name.
  File "f.mask", line 2, column 10
    2 |     q, k = key
      |          ^ expected ':'
  Hint: Write 'q, k : kind' for inputs, or assign one name a line.
""",
        id="several names assigned",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v value
    return attend(q, k, v, causal)
""",
        [(3, 7)],
        """\
The statement lacks a ':' or '='.
  File "f.mask", line 3, column 7
    3 |     v value
      |       ^^^^^ expected ':' or '='
  Hint: Write 'v : value'.
""",
        id="missing colon or equals",
    ),
    pytest.param(
        """\
attention f:
    q, k, : key
    v : value
    return attend(q, k, v, causal)
""",
        [(2, 11)],
        """\
A name is missing after the comma.
  File "f.mask", line 2, column 11
    2 |     q, k, : key
      |           ^ expected a name
""",
        id="missing name",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    exp(1)
    return attend(q, k, v, causal)
""",
        [(4, 8)],
        """\
The line is no declaration, assignment or return.
  File "f.mask", line 4, column 8
    4 |     exp(1)
      |        ^ expected ':' or '='
  Hint: Write 'name : kind', 'name = expression' or 'return expression'.
""",
        id="expression as statement",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    1 + 2
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
A statement begins with a name or 'return'.
  File "f.mask", line 4, column 5
    4 |     1 + 2
      |     ^ expected a statement
  Hint: Write 'name : kind', 'name = expression' or 'return expression'.
""",
        id="number as statement",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    for x in q:
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'for' has no meaning in the language.
  File "f.mask", line 4, column 5
    4 |     for x in q:
      |     ^^^ not a statement
  Hint: A block holds inputs 'name : kind', assignments 'name = expression' and one 'return'.
""",
        id="python statement",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    lambda : token
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'lambda' cannot be a name.
  File "f.mask", line 4, column 5
    4 |     lambda : token
      |     ^^^^^^ reserved, as in Python
  Hint: Choose another name, for example 'lambda_'.
""",
        id="python keyword",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    in = 1
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'in' cannot be a name.
  File "f.mask", line 4, column 5
    4 |     in = 1
      |     ^^ a reserved word
  Hint: Choose another name.
""",
        id="own keyword",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    attention = 1
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'attention' cannot be used here.
  File "f.mask", line 4, column 5
    4 |     attention = 1
      |     ^^^^^^^^^ a reserved word
  Hint: Choose another name.
""",
        id="attention as a name",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    g : -exp(1)
    return attend(q, k, v, causal)
""",
        [(4, 9)],
        """\
A kind is missing after the colon.
  File "f.mask", line 4, column 9
    4 |     g : -exp(1)
      |         ^ expected a kind
  Hint: Write 'g = ...' to assign an expression. The kinds are head, head_channel, token, channel, level, key, value.
""",
        id="colon for equals",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    g : exp(1)
    return attend(q, k, v, causal)
""",
        [(4, 12)],
        """\
A declaration holds a kind and a range, not an expression.
  File "f.mask", line 4, column 12
    4 |     g : exp(1)
      |            ^ expected a range or the end of the line
  Hint: Write 'g = exp...'.
""",
        id="colon for equals, call",
    ),
    pytest.param(
        """\
attention f:
    q, k : kye
    v : value
    return attend(q, k, v, causal)
""",
        [(2, 12)],
        """\
Unknown kind 'kye'.
  File "f.mask", line 2, column 12
    2 |     q, k : kye
      |            ^^^ not a kind of input
  Hint: Did you mean 'key'?
""",
        id="unknown kind",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    g : decay
    return attend(q, k, v, causal)
""",
        [(4, 9)],
        """\
Unknown kind 'decay'.
  File "f.mask", line 4, column 9
    4 |     g : decay
      |         ^^^^^ not a kind of input
  Hint: The kinds are 'head', 'head_channel', 'token', 'channel', 'level', 'key', 'value'.
""",
        id="strange kind",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    g : token < 0
    return attend(q, k, v, causal)
""",
        [(4, 15)],
        """\
'<' is not part of the language.
  File "f.mask", line 4, column 15
    4 |     g : token < 0
      |               ^ not an operator
  Hint: Write '<='. A range includes its ends.
""",
        id="strict range",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    g : token in (0, 1)
    return attend(q, k, v, causal)
""",
        [(4, 18)],
        """\
The interval lacks its bracket.
  File "f.mask", line 4, column 18
    4 |     g : token in (0, 1)
      |                  ^ expected '['
  Hint: Write 'in [0, 1]'.
""",
        id="range in parentheses",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    g : token >= x
    return attend(q, k, v, causal)
""",
        [(4, 18)],
        """\
An end of a range is a number.
  File "f.mask", line 4, column 18
    4 |     g : token >= x
      |                  ^ expected a number
  Hint: Write '>= 0', '<= 0' or 'in [0, 1]'.
""",
        id="range of a name",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    g : token in [0]
    return attend(q, k, v, causal)
""",
        [(4, 20)],
        """\
The declaration is malformed.
  File "f.mask", line 4, column 20
    4 |     g : token in [0]
      |                    ^ expected ','
  Hint: Write a range as '>= 0', '<= 0' or 'in [0, 1]'.
""",
        id="half a range",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    g : token in [1, 0]
    return g * attend(q, k, v, causal)
""",
        [(4, 15)],
        """\
The range is empty.
  File "f.mask", line 4, column 15
    4 |     g : token in [1, 0]
      |               ^^^^^^^^^ no number lies in it
  Hint: Write 'in [0, 1]'.
""",
        id="empty range",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v=v, causal)
""",
        [(4, 30)],
        """\
An argument without a name stands after one with a name.
  File "f.mask", line 4, column 30
    4 |     return attend(q, k, v=v, causal)
      |                              ^^^^^^ not named
  Hint: Put the arguments without a name first.
""",
        id="order of arguments",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return 1e999 * attend(q, k, v, causal)
""",
        [(4, 12)],
        """\
The number is too large.
  File "f.mask", line 4, column 12
    4 |     return 1e999 * attend(q, k, v, causal)
      |            ^^^^^ larger than a float64 can be
""",
        id="large number",
    ),
    pytest.param(
        """\
attention f:
    q : key
    v : value
    return attend(q, q, v, causal)
attention f:
    q : key
    v : value
    return attend(q, q, v, causal)
""",
        [(5, 11)],
        """\
There are two blocks of the name 'f'.
  File "f.mask", line 5, column 11
    5 | attention f:
      |           ^
    1 | attention f:
      |           ^ the first one is here
""",
        id="blocks of one name",
    ),
]


@pytest.mark.parametrize(("text", "places", "rendered"), CASES)
def test_rendered_text_and_places(text: str, places: list[tuple[int, int]], rendered: str) -> None:
    with pytest.raises(SpecError) as caught:
        specs(Source("f.mask", text))
    assert str(caught.value) + "\n" == rendered
    assert [(found.span.line, found.span.column) for found in caught.value.diagnostics] == places
