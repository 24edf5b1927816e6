"""The public face: how a spec may be named, how a compiled one is called, and what is said of mistakes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from agreement import assert_right, inputs_of
from torch import Tensor

import maskdsl
from maskdsl import CallError, SpecError
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.oracle import dense, recurrent

ONE = """
attention one:
    q, k : key
    v    : value
    g    : token <= 0
    lam  : level >= 0
    return attend(q, k, v, semiseparable(g) * fenwick(lam))
"""
TWO = f"""{ONE}
attention two:
    q, k : key
    v    : value
    return attend(q, k, v, causal)
"""


def attention() -> Attention:
    return maskdsl.compile(ONE)


# -- naming a spec ------------------------------------------------------------------------------------------------


def test_a_text() -> None:
    assert attention().spec.name == "one"
    assert (
        maskdsl.compile("attention x:\n    q: key\n    v: value\n    return attend(q, q, v, causal)").spec.name == "x"
    )


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path(kind: Callable[[Path], str | Path], tmp_path: Path) -> None:
    file = tmp_path / "some.mask"
    file.write_text(ONE)
    assert maskdsl.compile(kind(file)).spec == attention().spec


def test_a_folder_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "some.mask").write_text(ONE)
    assert maskdsl.compile(tmp_path).spec == attention().spec
    (tmp_path / "other.mask").write_text(TWO)
    with pytest.raises(ValueError, match=r"holds several files; choose one: .*other\.mask, .*some\.mask\."):
        maskdsl.compile(tmp_path)


def test_a_library_name() -> None:
    assert "retention" in maskdsl.library.names()
    assert maskdsl.compile("retention").spec.name == "retention"


def test_a_file_beside_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library name always means the library's definition; a path with a suffix the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "retention").write_text(ONE)
    (tmp_path / "retention.mask").write_text(ONE)
    assert maskdsl.compile("retention").spec.name == "retention"
    assert maskdsl.compile("retention.mask").spec.name == "one"


def test_one_of_several_blocks() -> None:
    assert maskdsl.compile(TWO, name="one").spec.name == "one"
    assert maskdsl.compile(TWO, name="two").spec.name == "two"
    assert maskdsl.compile("retention", name="retention").spec.name == "retention"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"spec": TWO}, "'<text>' has several blocks; choose one by name=: one, two."),
    ({"spec": TWO, "name": "tow"}, "'<text>' has no block 'tow'. Did you mean 'two'?"),
    ({"spec": ONE, "name": "zebra"}, "'<text>' has no block 'zebra'."),
    ({"spec": "kad"}, "'kad' is neither a library definition nor a readable file. Did you mean 'kda'?"),
    ({"spec": "zebra"}, "'zebra' is neither a library definition nor a readable file. The library has deltanet, "),
    ({"spec": Path("no/such.mask")}, "'no/such.mask' is neither a library definition nor a readable file. The library"),
    ({"spec": ""}, "'' is neither a library definition nor a readable file."),
    ({"spec": 3}, "A spec is a library name, a path or a text, not a value of type 'int'."),
    ({"spec": None}, "A spec is a library name, a path or a text, not a value of type 'NoneType'."),
    ({"spec": ONE, "backend": "tirton"}, "Unknown backend 'tirton': choose one of auto, torch, triton."),
    ({"spec": ONE, "chunk": 12}, "A chunk of 12 positions is no power of the hierarchy's base 2."),
    ({"spec": ONE, "chunk": 0}, "A chunk holds at least one position, not 0."),
    ({"spec": TWO, "name": "two", "chunk": -4}, "A chunk holds at least one position, not -4."),
    ({"spec": TWO, "name": "two", "chunk": 2.5}, "A chunk is a whole number of positions, not 2.5."),
    ({"spec": TWO, "name": "two", "chunk": True}, "A chunk is a whole number of positions, not True."),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_compile_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        maskdsl.compile(**given)


def test_a_folder_without_specs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a library definition nor a readable file"):
        maskdsl.compile(tmp_path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bytes.mask").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        maskdsl.compile(tmp_path / "bytes.mask")


def test_mistakes_in_a_spec_name_the_file_and_come_together(tmp_path: Path) -> None:
    file = tmp_path / "wrong.mask"
    file.write_text(ONE.replace("semiseparable(g)", "semiseparable(h)").replace("fenwick", "fenwik"))
    with pytest.raises(SpecError) as caught:
        maskdsl.compile(file)
    assert len(caught.value.diagnostics) >= 2
    assert f'File "{file}", line 7' in str(caught.value)
    assert "Did you mean 'fenwick'?" in str(caught.value)


# -- calling it -----------------------------------------------------------------------------------------------------


def test_by_name_by_position_and_both() -> None:
    compiled = attention()
    inputs = inputs_of(compiled, 9)
    by_name = compiled(**inputs)
    assert by_name.shape == (1, 9, 2, 3)
    assert compiled(*inputs.values()).equal(by_name)
    q, k, *_ = inputs.values()
    assert compiled(q, k, **{name: inputs[name] for name in ("lam", "v", "g")}).equal(by_name)


def test_inputs_may_have_any_name() -> None:
    """Also those that Python and the generated programs use themselves."""
    names = ("self", "args", "spec", "sizes", "forward", "torch", "d_o", "o", "module", "ctx")
    declared = f"attention any:\n    {', '.join(names)} : key\n    v : value\n"
    text = f"{declared}    return attend({' + '.join(names)}, self, v, causal)\n"
    compiled = maskdsl.compile(text)
    assert_right(compiled, inputs_of(compiled, 9))


def changed(name: str, change: Callable[[Tensor], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda inputs: inputs | {name: change(inputs[name])}


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda inputs: {key: x for key, x in inputs.items() if key != name}


def positive(x: Tensor) -> Tensor:
    return -x


WRONG: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str | None, str]] = {
    "missing": (without("v"), "v", "Input 'v' is missing: a value input of shape [B, T, H, V]."),
    "unknown": (lambda x: x | {"lamb": x["lam"]}, None, "'one' has no input 'lamb'. Did you mean 'lam'?"),
    "no tensor": (changed("k", Tensor.tolist), "k", "Input 'k' is a list, not a tensor"),
    "dtype": (changed("k", Tensor.long), "k", "Input 'k' has dtype int64; convert it to one of float16, bfloat16"),
    "axes": (changed("g", lambda x: x[0]), "g", "Input 'g' has 2 axes"),
    "no tokens": (lambda x: {n: t[:, :0] for n, t in x.items()}, "q", "T = 0: every axis needs at least one entry"),
    "length": (changed("k", lambda x: x[:, :5]), "k", "T = 5 differs from T = 9 of 'q'"),
    "batch": (changed("v", lambda x: x.repeat(2, 1, 1, 1)), "v", "B = 2 differs from B = 1 of 'q'"),
    "features": (changed("k", lambda x: x[..., :3]), "k", "K = 3 differs from K = 4 of 'q'"),
    "heads": (changed("k", lambda x: x.repeat(1, 1, 2, 1)), "k", "Hk = 4 does not divide the 2 heads of 'v'"),
    "levels": (changed("lam", lambda x: x[..., :4]), "lam", "Input 'lam' has 4 levels, but a sequence of T = 9 needs"),
    "device": (changed("lam", lambda x: x.to("meta")), "lam", "Input 'lam' is on 'meta', but 'q' is on 'cpu'"),
    "range": (changed("g", positive), "g", "Input 'g' promises values <= 0, but"),
    "NaN": (changed("v", lambda x: x * torch.nan), "v", "Input 'v' holds 54 NaN among 54 values."),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_call_names_the_input(mistake: str) -> None:
    change, name, message = WRONG[mistake]
    compiled = attention()
    with pytest.raises(CallError, match=re.escape(message)) as caught:
        compiled(**change(inputs_of(compiled, 9)), check_inputs=True)
    assert caught.value.input == name


def test_too_many_and_twice() -> None:
    compiled = attention()
    inputs = inputs_of(compiled, 9)
    with pytest.raises(CallError, match=r"'one' takes 5 inputs \(q, k, v, g, lam\), but 6 were given"):
        compiled(*inputs.values(), inputs["q"])
    with pytest.raises(CallError, match="Input 'q' is given twice") as caught:
        compiled(inputs["q"], **inputs)
    assert caught.value.input == "q"


def test_values_are_checked_on_request_only() -> None:
    compiled = attention()
    inputs = inputs_of(compiled, 9)
    inputs["lam"] = -inputs["lam"]
    assert compiled(**inputs).isfinite().all()
    with pytest.raises(CallError, match="'lam' promises values >= 0"):
        compiled(**inputs, check_inputs=True)


def test_several_mistakes_come_together_in_declared_order() -> None:
    compiled = attention()
    inputs = inputs_of(compiled, 9)
    inputs["lam"], inputs["k"] = inputs["lam"][..., :1], inputs["k"].int()
    with pytest.raises(CallError) as caught:
        compiled(**inputs)
    assert [line.split("'")[1] for line in str(caught.value).splitlines()] == ["k", "lam"]
    assert isinstance(caught.value, ValueError)


# -- looking into it ------------------------------------------------------------------------------------------------


def test_reference() -> None:
    compiled = attention()
    inputs = inputs_of(compiled, 9, dtype=torch.float32)
    wide = {name: x.double() for name, x in inputs.items()}
    assert compiled.reference(**inputs).equal(dense(compiled.spec, wide))
    assert compiled.reference(*inputs.values()).dtype == torch.float64
    assert compiled.reference(**inputs, oracle="recurrent").equal(recurrent(compiled.spec, wide))
    with pytest.raises(ValueError, match=r"Unknown oracle 'sparse': choose 'dense' or 'recurrent'\."):
        compiled.reference(**inputs, oracle="sparse")  # type: ignore[arg-type]
    with pytest.raises(CallError, match="'v' is missing"):
        compiled.reference(**without("v")(inputs))


def test_explain_says_what_it_computes() -> None:
    text = attention().explain()
    assert text.startswith("one\n")
    assert "o[t] = (Σ_l lam[t, l] S[t, l])ᵀ q[t]" in text
    assert text != maskdsl.compile(TWO, name="two").explain()


def test_source_is_a_program_with_the_names_of_the_spec() -> None:
    compiled = attention()
    forward, backward = compiled.source(), compiled.source("backward")
    assert forward.startswith("def forward(sizes, ")
    assert backward.startswith("def backward(sizes, ")
    assert "# -- semiseparable(g) * fenwick(lam)" in forward
    assert re.search(r"\blam\b", forward)
    step = compiled.source("step")
    assert step.startswith("def step(sizes, ")
    assert "# -- semiseparable(g) * fenwick(lam)" in step
    compile(forward + backward + step, "generated", "exec")
    with pytest.raises(ValueError, match=r"Unknown direction 'sideways': choose 'forward', 'backward' or 'step'\."):
        compiled.source("sideways")  # type: ignore[arg-type]


def test_source_is_that_of_the_latest_call() -> None:
    compiled = maskdsl.compile(TWO, name="two")
    alike = compiled.source()
    compiled(**inputs_of(compiled, 5, H=4, key_heads=(("k", 2),)))
    shared = compiled.source()
    assert shared != alike
    compiled(**inputs_of(compiled, 5, H=4))
    compiled(**inputs_of(compiled, 5, H=6, key_heads=(("k", 3),)))
    assert compiled.source() == shared


def test_repr_and_spec() -> None:
    compiled = attention()
    assert repr(compiled) == "<maskdsl attention 'one' (q, k, v, g, lam)>"
    assert [each.name for each in compiled.spec.inputs] == ["q", "k", "v", "g", "lam"]


def test_names_of_the_library() -> None:
    names = maskdsl.library.names()
    assert list(names) == sorted(set(names))
    assert {"mamba2", "log_linear_gated_deltanet", "kda"} <= set(names)


def test_an_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'maskdsl' has no attribute 'compil'"):
        _ = maskdsl.compil


HEAVY = {"torch", "hypothesis", "sympy", "networkx", "lark", "click", "matplotlib", "pytest"}


@pytest.mark.parametrize(
    ("program", "needed"),
    [
        ("import maskdsl", set()),
        ("import maskdsl; maskdsl.library.names()", set()),
        ("import maskdsl; maskdsl.compile('retention')", {"torch", "sympy", "networkx", "lark"}),
    ],
)
def test_imports_are_lazy(program: str, needed: set[str]) -> None:
    """`import maskdsl` costs next to nothing, and compiling needs no test or plotting package."""
    listing = f"{program}; import sys; print(*{HEAVY!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == needed
