"""Every mistake that the checker finds: its rendered text and its place."""

from __future__ import annotations

import pytest

from maskdsl.diagnostics import Source, SpecError
from maskdsl.language.load import specs

CASES = [
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    gate : token <= 0
    return attend(q, k, v, semiseparable(gat))
""",
        [(5, 42)],
        """\
Unknown name 'gat'.
  File "f.mask", line 5, column 42
    5 |     return attend(q, k, v, semiseparable(gat))
      |                                          ^^^ defined nowhere
  Hint: Did you mean 'gate'?
""",
        id="unknown name",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, zebra)
""",
        [(4, 28)],
        """\
Unknown name 'zebra'.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, zebra)
      |                            ^^^^^ defined nowhere
  Hint: Declare it as an input or assign it.
""",
        id="unknown name, nothing near",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    a : token
    return attend(q, k, v, semiseparable(softplu(a)))
""",
        [(5, 42)],
        """\
Unknown function 'softplu'.
  File "f.mask", line 5, column 42
    5 |     return attend(q, k, v, semiseparable(softplu(a)))
      |                                          ^^^^^^^ not a function of the language
  Hint: Did you mean 'softplus'?
""",
        id="unknown function",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    m = fenwick(w)
    w : level
    return attend(q, k, v, m)
""",
        [(4, 17)],
        """\
'w' is used before it is defined.
  File "f.mask", line 4, column 17
    4 |     m = fenwick(w)
      |                 ^ not defined yet
    5 |     w : level
      |     ^ defined here
  Hint: Move its line up.
""",
        id="used before",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, delta)
""",
        [(4, 28)],
        """\
'delta' is a function.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, delta)
      |                            ^^^^^ expected its arguments
  Hint: Call it, as in 'delta(...)'.
""",
        id="function not called",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v = value
    return attend(q, k, v, causal)
""",
        [(3, 9)],
        """\
'value' is a kind, not an expression.
  File "f.mask", line 3, column 9
    3 |     v = value
      |         ^^^^^ expected an expression
  Hint: Declare an input with ':', as in 'x : value'.
""",
        id="kind for an input",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal())
""",
        [(4, 28)],
        """\
'causal' is not a function.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, causal())
      |                            ^^^^^^ takes no arguments
  Hint: Write 'causal' without parentheses.
""",
        id="not a function",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    v : value
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'v' is declared twice.
  File "f.mask", line 4, column 5
    4 |     v : value
      |     ^ each name has one meaning
    3 |     v : value
      |     ^ declared here
  Hint: Choose another name.
""",
        id="declared twice",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    m = causal
    m = window(4)
    return attend(q, k, v, m)
""",
        [(5, 5)],
        """\
'm' is assigned twice.
  File "f.mask", line 5, column 5
    5 |     m = window(4)
      |     ^ each name has one meaning
    4 |     m = causal
      |     ^ assigned here
  Hint: Choose another name.
""",
        id="assigned twice",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    k = l2norm(q)
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'k' is assigned, but it is declared already.
  File "f.mask", line 4, column 5
    4 |     k = l2norm(q)
      |     ^ each name has one meaning
    2 |     q, k : key
      |        ^ declared here
  Hint: Choose another name.
""",
        id="assigned over an input",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    exp : token
    return exp * attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'exp' is built in and cannot be a name.
  File "f.mask", line 4, column 5
    4 |     exp : token
      |     ^^^ built in
  Hint: Choose another name, for example 'exp_'.
""",
        id="function as a name",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    T = 2
    return T * attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'T' is built in and cannot be a name.
  File "f.mask", line 4, column 5
    4 |     T = 2
      |     ^ built in
  Hint: Choose another name, for example 'T_'.
""",
        id="dimension as a name",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    a, b : token
    return a * attend(q, k, v, causal)
""",
        [(4, 8)],
        """\
'b' is declared and never used.
  File "f.mask", line 4, column 8
    4 |     a, b : token
      |        ^ not used in this block
  Hint: Use it or remove it.
""",
        id="unused input",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    m = window(4)
    return attend(q, k, v, causal)
""",
        [(4, 5)],
        """\
'm' is assigned and never used.
  File "f.mask", line 4, column 5
    4 |     m = window(4)
      |     ^ not used in this block
  Hint: Use it or remove it.
""",
        id="unused assignment",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    o = attend(q, k, v, causal)
""",
        [(4, 32)],
        """\
The block 'f' has no return.
  File "f.mask", line 4, column 32
    4 |     o = attend(q, k, v, causal)
      |                                ^ expected a return below this line
  Hint: End it with a line such as 'return attend(q, k, v, mask)'.
""",
        id="no return",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal)
    x : token
""",
        [(5, 5)],
        """\
The block goes on after its return.
  File "f.mask", line 5, column 5
    5 |     x : token
      |     ^^^^^^^^^ never reached
  Hint: Move the return to the end.
""",
        id="after the return",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal)
    return attend(q, k, v, causal)
""",
        [(5, 5)],
        """\
The block goes on after its return.
  File "f.mask", line 5, column 5
    5 |     return attend(q, k, v, causal)
      |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ never reached
  Hint: Remove one return.
""",
        id="two returns",
    ),
    pytest.param(
        """\
attention f:
    return causal
""",
        [(2, 12)],
        """\
A spec returns an expression of the kind 'value'.
  File "f.mask", line 2, column 12
    2 |     return causal
      |            ^^^^^^ this is a mask
  Hint: Return 'attend(q, k, v, mask)' with this mask.
""",
        id="returns a mask",
    ),
    pytest.param(
        """\
attention f:
    q : key
    return l2norm(q)
""",
        [(3, 12)],
        """\
A spec returns an expression of the kind 'value'.
  File "f.mask", line 3, column 12
    3 |     return l2norm(q)
      |            ^^^^^^^^^ this is 'key'
  Hint: Return the result of 'attend'.
""",
        id="returns a key",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal) / L
""",
        [(4, 38)],
        """\
'L' has no size here.
  File "f.mask", line 4, column 38
    4 |     return attend(q, k, v, causal) / L
      |                                      ^ no input has the axis 'L'
""",
        id="size without an axis",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal, scale="one")
""",
        [(4, 42)],
        """\
A quoted word has no value.
  File "f.mask", line 4, column 42
    4 |     return attend(q, k, v, causal, scale="one")
      |                                          ^^^^^ expected an expression
  Hint: Quoted words are arguments, as in 'admissibility="strong"'.
""",
        id="quoted word",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal) / 0
""",
        [(4, 12)],
        """\
The expression is no finite real number.
  File "f.mask", line 4, column 12
    4 |     return attend(q, k, v, causal) / 0
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^ never finite and real
  Hint: Look for a division by zero, or a root or logarithm of a number below zero.
""",
        id="division by zero",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal, scale=sqrt(-2))
""",
        [(4, 42)],
        """\
The expression is no finite real number.
  File "f.mask", line 4, column 42
    4 |     return attend(q, k, v, causal, scale=sqrt(-2))
      |                                          ^^^^^^^^ never finite and real
  Hint: Look for a division by zero, or a root or logarithm of a number below zero.
""",
        id="root of a negative number",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal, scale=9**9**9)
""",
        [(4, 42)],
        """\
The power is too large.
  File "f.mask", line 4, column 42
    4 |     return attend(q, k, v, causal, scale=9**9**9)
      |                                          ^^^^^^^ larger than a float64 can be
""",
        id="large power",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal) + q
""",
        [(4, 12)],
        """\
'value' and 'key' do not broadcast.
  File "f.mask", line 4, column 12
    4 |     return attend(q, k, v, causal) + q
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^ shapes [B, T, H, V] and [B, T, Hk, K]
  Hint: One side has to have no axis 'K'.
""",
        id="kinds do not broadcast",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return max(v, 0, l) * attend(q, k, v, causal)
""",
        [(5, 12)],
        """\
'value' and 'level' do not broadcast.
  File "f.mask", line 5, column 12
    5 |     return max(v, 0, l) * attend(q, k, v, causal)
      |            ^^^^^^^^^^^^ shapes [B, T, H, V] and [B, T, H, L]
  Hint: One side has to have no axis 'L'.
""",
        id="kinds of a function",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return exp(v, 1) + attend(q, k, v, causal)
""",
        [(4, 19)],
        """\
'exp' takes 1 argument.
  File "f.mask", line 4, column 19
    4 |     return exp(v, 1) + attend(q, k, v, causal)
      |                   ^ given 2
""",
        id="too many for a function",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return min(v) + attend(q, k, v, causal)
""",
        [(4, 12)],
        """\
'min' takes 2 arguments or more.
  File "f.mask", line 4, column 12
    4 |     return min(v) + attend(q, k, v, causal)
      |            ^^^ given 1
""",
        id="too few for a function",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return exp(x=v) + attend(q, k, v, causal)
""",
        [(4, 16)],
        """\
'exp' has no argument 'x'.
  File "f.mask", line 4, column 16
    4 |     return exp(x=v) + attend(q, k, v, causal)
      |                ^^^ a named argument
  Hint: Write the value without a name.
""",
        id="named argument of a function",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return v + attend(q, k)
""",
        [(4, 16)],
        """\
'attend' lacks 'v' and 'mask'.
  File "f.mask", line 4, column 16
    4 |     return v + attend(q, k)
      |                ^^^^^^ expected more arguments
  Hint: Write 'attend(q, k, v, mask, scale=1)'.
""",
        id="lacks arguments",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal, 1, 2)
""",
        [(4, 39)],
        """\
There are too many arguments.
  File "f.mask", line 4, column 39
    4 |     return attend(q, k, v, causal, 1, 2)
      |                                       ^ one too many
  Hint: Write 'attend(q, k, v, mask, scale=1)'.
""",
        id="too many arguments",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l, bas=3))
""",
        [(5, 39)],
        """\
'fenwick' has no argument 'bas'.
  File "f.mask", line 5, column 39
    5 |     return attend(q, k, v, fenwick(l, bas=3))
      |                                       ^^^ unknown argument
  Hint: Did you mean 'base'?
""",
        id="unknown argument",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal, k=q)
""",
        [(4, 36)],
        """\
'k' is given twice.
  File "f.mask", line 4, column 36
    4 |     return attend(q, k, v, causal, k=q)
      |                                    ^ given already
    4 |     return attend(q, k, v, causal, k=q)
      |                      ^ given here
  Hint: Remove one of the two.
""",
        id="argument twice",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l, admissibility="stron"))
""",
        [(5, 53)],
        """\
'admissibility' takes "weak" or "strong", not "stron".
  File "f.mask", line 5, column 53
    5 |     return attend(q, k, v, fenwick(l, admissibility="stron"))
      |                                                     ^^^^^^^ expected "weak" or "strong"
  Hint: Did you mean 'strong'?
""",
        id="unknown word",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l, admissibility=2))
""",
        [(5, 53)],
        """\
'admissibility' takes "weak" or "strong".
  File "f.mask", line 5, column 53
    5 |     return attend(q, k, v, fenwick(l, admissibility=2))
      |                                                     ^ expected a quoted word
""",
        id="not a word",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l, base=1))
""",
        [(5, 44)],
        """\
'fenwick' takes a whole number >= 2 as its argument 'base'.
  File "f.mask", line 5, column 44
    5 |     return attend(q, k, v, fenwick(l, base=1))
      |                                            ^ this is 1
  Hint: Write a whole number >= 2.
""",
        id="base 1",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l, base=2.5))
""",
        [(5, 44)],
        """\
'fenwick' takes a whole number >= 2 as its argument 'base'.
  File "f.mask", line 5, column 44
    5 |     return attend(q, k, v, fenwick(l, base=2.5))
      |                                            ^^^ this is 2.5
  Hint: Write a whole number >= 2.
""",
        id="fractional base",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l, base=3, admissibility="strong"))
""",
        [(5, 44)],
        """\
Strong admissibility is defined for base 2 only.
  File "f.mask", line 5, column 44
    5 |     return attend(q, k, v, fenwick(l, base=3, admissibility="strong"))
      |                                            ^ expected 2
  Hint: Use 'base=2', or weak admissibility.
""",
        id="strong base 3",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, window(4 - 4))
""",
        [(4, 35)],
        """\
'window' takes a whole number >= 1 as its argument 'w'.
  File "f.mask", line 4, column 35
    4 |     return attend(q, k, v, window(4 - 4))
      |                                   ^^^^^ this is 0
  Hint: Write a whole number >= 1.
""",
        id="window of no width",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, window(T))
""",
        [(4, 35)],
        """\
'window' takes a whole number >= 1 as its argument 'w'.
  File "f.mask", line 4, column 35
    4 |     return attend(q, k, v, window(T))
      |                                   ^ not known before the call
  Hint: Write the number itself.
""",
        id="window of a size",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(l2norm(q, eps=-1), k, v, causal)
""",
        [(4, 33)],
        """\
'l2norm' takes a number >= 0 as its argument 'eps'.
  File "f.mask", line 4, column 33
    4 |     return attend(l2norm(q, eps=-1), k, v, causal)
      |                                 ^^ this is -1
  Hint: Write a number >= 0.
""",
        id="negative eps",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    a : token
    return l2norm(a) * attend(q, k, v, causal)
""",
        [(5, 19)],
        """\
'l2norm' takes 'key', 'channel', 'head_channel' or 'value' as its argument 'x'.
  File "f.mask", line 5, column 19
    5 |     return l2norm(a) * attend(q, k, v, causal)
      |                   ^ this is 'token'
  Hint: Declare 'a' as 'key', 'channel', 'head_channel' or 'value'.
""",
        id="norm of a scalar",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    a : token
    return attend(q, k, v, semiseparable(a))
""",
        [(5, 42)],
        """\
The decay is not proved to be <= 0.
  File "f.mask", line 5, column 42
    5 |     return attend(q, k, v, semiseparable(a))
      |                                          ^ can be any number
    4 |     a : token
      |     ^ defined here
  Hint: Declare 'a : token <= 0', or write '-softplus(a)'.
""",
        id="decay of an input",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    a : token
    return attend(q, k, v, semiseparable(a - 1))
""",
        [(5, 42)],
        """\
The decay is not proved to be <= 0.
  File "f.mask", line 5, column 42
    5 |     return attend(q, k, v, semiseparable(a - 1))
      |                                          ^^^^^ can be any number
  Hint: Write '-softplus(a - 1)', or state ranges of inputs such as '<= 0'.
""",
        id="decay of an expression",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    a : token
    g = softplus(a)
    return attend(q, k, v, semiseparable(g))
""",
        [(6, 42)],
        """\
The decay is not proved to be <= 0.
  File "f.mask", line 6, column 42
    6 |     return attend(q, k, v, semiseparable(g))
      |                                          ^ only known to lie in [0, inf]
    5 |     g = softplus(a)
      |     ^ defined here
  Hint: Write '-g'.
""",
        id="decay of a positive name",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, semiseparable(k))
""",
        [(4, 42)],
        """\
'semiseparable' takes 'token', 'head', 'channel', 'head_channel' or a constant as its argument 'g'.
  File "f.mask", line 4, column 42
    4 |     return attend(q, k, v, semiseparable(k))
      |                                          ^ this is 'key'
  Hint: Declare 'k' as 'channel'.
""",
        id="decay on the key side",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level <= 0
    return attend(q, k, v, semiseparable(l))
""",
        [(5, 42)],
        """\
'semiseparable' takes 'token', 'head', 'channel', 'head_channel' or a constant as its argument 'g'.
  File "f.mask", line 5, column 42
    5 |     return attend(q, k, v, semiseparable(l))
      |                                          ^ this is 'level'
  Hint: Declare 'l' as 'token', 'head', 'channel' or 'head_channel'.
""",
        id="decay with levels",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, v, v, causal) + attend(k, k, v, causal)
""",
        [(4, 22)],
        """\
'attend' takes 'key', 'channel' or 'head_channel' as its argument 'k'.
  File "f.mask", line 4, column 22
    4 |     return attend(q, v, v, causal) + attend(k, k, v, causal)
      |                      ^ this is 'value'
  Hint: Declare 'v' as 'key', 'channel' or 'head_channel'.
""",
        id="value for a key",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, -q, causal) * v
""",
        [(4, 25)],
        """\
'attend' takes 'value' as its argument 'v'.
  File "f.mask", line 4, column 25
    4 |     return attend(q, k, -q, causal) * v
      |                         ^^ this is 'key'
  Hint: Build it from inputs of the kind 'value'.
""",
        id="key for a value",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    c : channel
    return attend(q, k, v, causal, scale=c)
""",
        [(5, 42)],
        """\
'attend' takes 'token', 'head' or a constant as its argument 'scale'.
  File "f.mask", line 5, column 42
    5 |     return attend(q, k, v, causal, scale=c)
      |                                          ^ this is 'channel'
  Hint: Declare 'c' as 'token' or 'head'.
""",
        id="scale with channels",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    c : channel
    return attend(q, k, v, delta(k, sigmoid(c)))
""",
        [(5, 37)],
        """\
'delta' takes 'token', 'head' or a constant as its argument 'beta'.
  File "f.mask", line 5, column 37
    5 |     return attend(q, k, v, delta(k, sigmoid(c)))
      |                                     ^^^^^^^^^^ this is 'channel'
  Hint: Write 'rank1(-sigmoid(c) * k, k)' for a rate in every channel.
""",
        id="delta with a rate in every channel",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    a : token <= 0
    return attend(q, k, v, a)
""",
        [(5, 28)],
        """\
'attend' takes a mask as its argument 'mask'.
  File "f.mask", line 5, column 28
    5 |     return attend(q, k, v, a)
      |                            ^ this is 'token'
  Hint: Write 'semiseparable(a)' for a decay.
""",
        id="scalar for a mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, l)
""",
        [(5, 28)],
        """\
'attend' takes a mask as its argument 'mask'.
  File "f.mask", line 5, column 28
    5 |     return attend(q, k, v, l)
      |                            ^ this is 'level'
  Hint: Write 'fenwick(l)'.
""",
        id="levels for a mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, 1)
""",
        [(4, 28)],
        """\
'attend' takes a mask as its argument 'mask'.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, 1)
      |                            ^ this is a constant
  Hint: Write 'causal' for the mask of ones.
""",
        id="number for a mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, delta(k, causal))
""",
        [(4, 37)],
        """\
'delta' takes 'token', 'head' or a constant as its argument 'beta'.
  File "f.mask", line 4, column 37
    4 |     return attend(q, k, v, delta(k, causal))
      |                                     ^^^^^^ this is a mask
  Hint: Write 'delta(k, beta)'.
""",
        id="mask for a scalar",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, 2 * causal)
""",
        [(4, 28)],
        """\
'*' cannot join a mask and an expression.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, 2 * causal)
      |                            ^ expected a mask
  Hint: Scale the result: 'scale=2' in 'attend'.
""",
        id="number times mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, causal + l)
""",
        [(5, 37)],
        """\
'+' cannot join a mask and an expression.
  File "f.mask", line 5, column 37
    5 |     return attend(q, k, v, causal + l)
      |                                     ^ expected a mask
  Hint: Write 'fenwick(l)'.
""",
        id="mask plus levels",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal / 2)
""",
        [(4, 37)],
        """\
'/' cannot join a mask and an expression.
  File "f.mask", line 4, column 37
    4 |     return attend(q, k, v, causal / 2)
      |                                     ^ expected a mask
  Hint: Apply '/' to the result of 'attend' instead.
""",
        id="mask over number",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal - window(2))
""",
        [(4, 28)],
        """\
Masks cannot be subtracted.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, causal - window(2))
      |                            ^^^^^^^^^^^^^^^^^^ two masks
  Hint: Subtract the results of 'attend' instead.
""",
        id="mask minus mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, causal / window(2))
""",
        [(4, 28)],
        """\
Masks cannot be divided.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, causal / window(2))
      |                            ^^^^^^^^^^^^^^^^^^ two masks
  Hint: A mask has no inverse; multiply masks with '*'.
""",
        id="mask over mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, window(2) ** window(2))
""",
        [(4, 28)],
        """\
A mask has no powers.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, window(2) ** window(2))
      |                            ^^^^^^^^^^^^^^^^^^^^^^ two masks
  Hint: Multiply it by itself: 'window(2) * window(2)'.
""",
        id="power of a mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, -causal)
""",
        [(4, 28)],
        """\
A mask cannot be negated.
  File "f.mask", line 4, column 28
    4 |     return attend(q, k, v, -causal)
      |                            ^^^^^^^ minus a mask
  Hint: Negate the result of 'attend' instead.
""",
        id="minus mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, exp(causal))
""",
        [(4, 32)],
        """\
'exp' takes expressions, not masks.
  File "f.mask", line 4, column 32
    4 |     return attend(q, k, v, exp(causal))
      |                                ^^^^^^ this is a mask
  Hint: Apply it to the result of 'attend'.
""",
        id="function of a mask",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    a, b : token
    return attend(q, k, v, causal, scale=a @ b)
""",
        [(5, 42)],
        """\
'@' composes masks, not expressions.
  File "f.mask", line 5, column 42
    5 |     return attend(q, k, v, causal, scale=a @ b)
      |                                          ^^^^^ expected two path masks
  Hint: Write '*' to multiply elementwise.
""",
        id="composed scalars",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, delta(k, 1) * rank1(k, -k))
""",
        [(4, 42)],
        """\
'*' multiplies entry by entry, and at least one of its masks must be number-valued.
  File "f.mask", line 4, column 42
    4 |     return attend(q, k, v, delta(k, 1) * rank1(k, -k))
      |                                          ^^^^^^^^^^^^ operator-valued, the left one is operator-valued
  Hint: Write 'delta(k, 1) @ rank1(k, -k)' to apply both steps at every position.
""",
        id="product of operators",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    c : channel <= 0
    return attend(q, k, v, delta(k, 1) * semiseparable(c))
""",
        [(5, 42)],
        """\
'*' multiplies entry by entry, and at least one of its masks must be number-valued.
  File "f.mask", line 5, column 42
    5 |     return attend(q, k, v, delta(k, 1) * semiseparable(c))
      |                                          ^^^^^^^^^^^^^^^^ diagonal, the left one is operator-valued
  Hint: Write 'delta(k, 1) @ semiseparable(c)' to apply both steps at every position.
""",
        id="operators times diagonal",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    c : channel <= 0
    return attend(q, k, v, delta(k, 1) * (semiseparable(c) + causal))
""",
        [(5, 43)],
        """\
'*' multiplies entry by entry, and at least one of its masks must be number-valued.
  File "f.mask", line 5, column 43
    5 |     return attend(q, k, v, delta(k, 1) * (semiseparable(c) + causal))
      |                                           ^^^^^^^^^^^^^^^^^^^^^^^^^ diagonal, the left one is operator-valued
  Hint: Compose the summands with '@' instead, then add.
""",
        id="operators times a sum",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l) @ delta(k, 1))
""",
        [(5, 28)],
        """\
'@' composes path masks only.
  File "f.mask", line 5, column 28
    5 |     return attend(q, k, v, fenwick(l) @ delta(k, 1))
      |                            ^^^^^^^^^^ not a product of steps
  Hint: Write 'fenwick(l) * delta(k, 1)'.
""",
        id="composed hierarchy",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    return attend(q, k, v, delta(k, 1) @ (causal + causal))
""",
        [(4, 43)],
        """\
'@' composes path masks only.
  File "f.mask", line 4, column 43
    4 |     return attend(q, k, v, delta(k, 1) @ (causal + causal))
      |                                           ^^^^^^^^^^^^^^^ a sum of masks is no path
  Hint: Compose each summand, then add.
""",
        id="composed sum",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    c : channel <= 0
    return attend(q, k, v, delta(k, 1) @ (semiseparable(c) * window(3)))
""",
        [(5, 43)],
        """\
'@' composes path masks only.
  File "f.mask", line 5, column 43
    5 |     return attend(q, k, v, delta(k, 1) @ (semiseparable(c) * window(3)))
      |                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ not a product of steps
  Hint: Compose the paths first, then multiply by the other factors with '*'.
""",
        id="composed product",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    return attend(q, k, v, fenwick(l) * fenwick(l, base=3))
""",
        [(5, 41)],
        """\
Two 'fenwick' factors of one product differ in base or admissibility.
  File "f.mask", line 5, column 41
    5 |     return attend(q, k, v, fenwick(l) * fenwick(l, base=3))
      |                                         ^^^^^^^^^^^^^^^^^^ has base 3 and weak admissibility
    5 |     return attend(q, k, v, fenwick(l) * fenwick(l, base=3))
      |                            ^^^^^^^^^^ has base 2 and weak admissibility
  Hint: Give both the same base and admissibility.
""",
        id="bases differ",
    ),
    pytest.param(
        """\
attention f:
    q, k : key
    v : value
    l : level
    h = fenwick(l, admissibility="strong")
    return attend(q, k, v, (causal + h) * fenwick(l))
""",
        [(6, 43)],
        """\
Two 'fenwick' factors of one product differ in base or admissibility.
  File "f.mask", line 6, column 43
    6 |     return attend(q, k, v, (causal + h) * fenwick(l))
      |                                           ^^^^^^^^^^ has base 2 and weak admissibility
    6 |     return attend(q, k, v, (causal + h) * fenwick(l))
      |                             ^^^^^^^^^^ has base 2 and strong admissibility
  Hint: Give both the same base and admissibility.
""",
        id="admissibilities differ in a sum",
    ),
]


@pytest.mark.parametrize(("text", "places", "rendered"), CASES)
def test_rendered_text_and_places(text: str, places: list[tuple[int, int]], rendered: str) -> None:
    with pytest.raises(SpecError) as caught:
        specs(Source("f.mask", text))
    assert str(caught.value) + "\n" == rendered
    assert [(found.span.line, found.span.column) for found in caught.value.diagnostics] == places
