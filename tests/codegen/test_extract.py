"""One function of a generated module, with what it needs."""

from __future__ import annotations

from maskdsl.codegen.extract import function_source

MODULE = """\
import triton


@triton.jit(do_not_specialize=["T"])
def kernel(x, T):
    helper(x)


def other():
    return kernel


@triton.jit
def helper(x):
    return x


def forward(at):
    at.launch(kernel)
"""


def test_a_function_stands_after_what_it_uses() -> None:
    expected = MODULE.removeprefix("import triton\n\n\n").replace("def other():\n    return kernel\n\n\n", "")
    assert function_source(MODULE, "forward") == expected
