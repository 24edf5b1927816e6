"""Generated modules: they parse, use only what they define, say where they come from, and compute what was asked."""

from __future__ import annotations

import ast
import builtins
import re
from types import SimpleNamespace

import pytest
import torch
from compilation import (
    assert_near,
    attention,
    inputs_of,
    joint,
    legal_chunks,
    library_spec,
    lowered,
    sizes_of,
    small_shape,
    spec_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spec_texts
from tokens import folded, part

from maskdsl import library
from maskdsl.chunk import axes as ax
from maskdsl.chunk.interpret import interpret
from maskdsl.codegen.extract import function_source
from maskdsl.codegen.torch_text import emit, emit_step
from maskdsl.language.printer import to_text
from maskdsl.lowering.memory import POSITIONS, memories
from maskdsl.lowering.step import lower_step
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, regimes, shapes
from maskdsl.schedule.storage import schedule
from maskdsl.spec import Spec

every_definition = pytest.mark.parametrize("name", library.names())


def source_of(spec: Spec, shape: Shape, chunk: int | None = None) -> str:
    forward = lowered(spec, shape, chunk)
    return emit(schedule(forward, joint(forward)), to_text(spec.syntax))


def load(source: str) -> SimpleNamespace:
    """The module of a source text."""
    namespace: dict[str, object] = {}
    exec(compile(source, "<generated>", "exec"), namespace)
    return SimpleNamespace(**namespace)


def grouped(spec: Spec, length: int = 11) -> Shape:
    """A small shape whose first two key inputs have fewer heads, each its own number."""
    keys = [each.name for each in spec.inputs if each.kind.label == "key"]
    return small_shape(spec, length, **dict(zip(keys, (2, 3), strict=False)))


# -- the text -----------------------------------------------------------------------------------------------------


def undefined(source: str) -> set[str]:
    """Names that a function of the module reads before they are bound there or at the top."""
    tree = ast.parse(source)
    top = set(dir(builtins))
    missing = set()
    for node in tree.body:
        match node:
            case ast.Import(names) | ast.ImportFrom(names=names):
                top |= {(alias.asname or alias.name).split(".")[0] for alias in names}
            case ast.Assign(targets):
                top |= {target.id for target in targets if isinstance(target, ast.Name)}
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        bound = {argument.arg for argument in function.args.args}
        for statement in function.body:
            used = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
            missing |= {name.id for name in used if not isinstance(name.ctx, ast.Store)} - bound - top
            bound |= {name.id for name in used if isinstance(name.ctx, ast.Store)}
            bound -= {name.id for name in used if isinstance(name.ctx, ast.Del)}
    return missing


def test_the_scope_check_sees_what_is_wrong() -> None:
    module = "import math\n\ndef f(x):\n    y = x + z\n    del x\n    return x * y * math.pi * torch.e\n"
    assert undefined(module) == {"x", "z", "torch"}


@every_definition
@pytest.mark.parametrize("chunk", [None, 4])
def test_library_modules_use_only_names_that_they_define(name: str, chunk: int | None) -> None:
    spec = library_spec(name)
    assert undefined(source_of(spec, grouped(spec), chunk)) == set()


@settings(max_examples=10)
@given(st.data(), spec_texts())
def test_random_modules_use_only_names_that_they_define(data: st.DataObject, text: str) -> None:
    spec = spec_of(text)
    assert undefined(source_of(spec, data.draw(shapes(spec, longest=9)), data.draw(legal_chunks(spec)))) == set()


@every_definition
def test_a_module_quotes_its_spec_and_imports_only_what_exists(name: str) -> None:
    spec = library_spec(name)
    tree = ast.parse(source_of(spec, grouped(spec)))
    doc = ast.get_docstring(tree)
    assert doc is not None
    assert f"attention {name}:" in doc
    assert "do not edit" in doc
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions] == ["forward", "backward"]


def test_comments_name_the_mask_nodes() -> None:
    spec = attention(
        "q, k : key",
        "v : value",
        "a, b : token",
        "lam : level >= 0",
        "kn = l2norm(k)",
        "mask = semiseparable(-softplus(a)) * delta(kn, sigmoid(b)) * fenwick(lam) + window(5)",
        "return attend(q, kn, v, mask)",
    )
    source = source_of(spec, small_shape(spec))
    forward = comments(function_source(source, "forward"))
    assert "kn" in forward
    assert any("fenwick(lam)" in line and "delta(" in line and "semiseparable(" in line for line in forward)
    assert "window(5)" in forward
    backward = comments(function_source(source, "backward"))
    assert "gradient of window(5)" in backward
    assert any(line.startswith("gradient of ") and "fenwick(lam)" in line for line in backward)


def comments(source: str) -> list[str]:
    return re.findall(r"# -- (.*)", source)


def test_values_keep_the_names_of_the_spec() -> None:
    spec = library_spec("log_linear_gated_deltanet")
    forward = function_source(source_of(spec, small_shape(spec)), "forward")
    assert re.search(r"^    kn_chunks_double = ", forward, re.MULTILINE)
    assert all(re.search(rf"\b{each.name}\b", forward.splitlines()[0]) for each in spec.inputs)


def test_large_values_are_dropped_after_their_last_use() -> None:
    spec = library_spec("mamba2")
    tree = ast.parse(source_of(spec, small_shape(spec)))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert all(any(isinstance(s, ast.Delete) for s in function.body) for function in functions)


def test_function_source() -> None:
    module = "def forward():\n    return 1\n\n\ndef backward():\n    return 2\n"
    assert function_source(module, "backward") == "def backward():\n    return 2\n"
    with pytest.raises(KeyError):
        function_source(module, "sideways")


# -- what it computes ---------------------------------------------------------------------------------------------


def assert_equal_to_interpreter(spec: Spec, shape: Shape, chunk: int | None, regime: Regime = "mild") -> None:
    """Both generated functions against the interpreted programs."""
    forward = lowered(spec, shape, chunk)
    parts = schedule(forward, joint(forward))
    module = load(emit(parts, to_text(spec.syntax)))
    inputs, sizes = inputs_of(spec, shape, regime=regime), sizes_of(shape)
    given = tuple(sizes[name] for name in ("B", "T", "H", "K", "V", "L"))
    expected = interpret(parts.forward, inputs, sizes)
    output, stored = module.forward(given, **{x: inputs[name] for x, name in module.FORWARD.items()})
    assert (parts.stored, parts.gradient) == (module.STORED, module.GRADIENT)
    rounding = max(1.0, *(x.abs().max().item() for x in expected.values()))
    assert_near(output, expected["o"], 1e-11)
    for name, value in zip(module.STORED, stored, strict=True):
        assert_near(value, expected[name], 1e-11, rounding)
    generator = torch.Generator().manual_seed(5)
    cotangent = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    known = inputs | dict(zip(module.STORED, stored, strict=True)) | {module.GRADIENT: cotangent}
    wanted = interpret(parts.backward, known, sizes)
    made = module.backward(given, **{x: known[name] for x, name in module.BACKWARD.items()})
    rounding = max(rounding, *(x.abs().max().item() for x in wanted.values()))
    for value, gradient in zip(made, wanted.values(), strict=True):
        assert_near(value, gradient, 1e-10, rounding)


@every_definition
@pytest.mark.parametrize("length", [1, 3, 4, 5, 16, 18])
def test_library_modules_compute_what_the_interpreter_does(name: str, length: int) -> None:
    spec = library_spec(name)
    assert_equal_to_interpreter(spec, grouped(spec, length), 4)


@settings(max_examples=12)
@given(st.data(), spec_texts(), regimes())
def test_random_modules_compute_what_the_interpreter_does(data: st.DataObject, text: str, regime: Regime) -> None:
    spec = spec_of(text)
    shape = data.draw(shapes(spec, longest=20))
    assert_equal_to_interpreter(spec, shape, data.draw(legal_chunks(spec)), regime)


NAMES = [
    ("torch", "math", "torch_ops", "forward", "backward", "sizes"),
    ("torch_", "torch", "torch__", "FORWARD", "STORED", "BACKWARD"),
    ("none", "true", "program", "load", "x0", "x1"),
    ("inverse", "scores", "operator", "identity", "tree", "before"),
    ("o", "v_chunks", "q_chunks", "match", "type", "print"),
    ("d_q", "q", "d_o", "d_d_o", "d_o_", "d_o__"),
]


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_inputs_may_be_named_like_anything_in_the_module(names: tuple[str, ...]) -> None:
    q, k, v, gate, beta, lam = names
    spec = attention(
        f"{q}, {k} : key",
        f"{v} : value",
        f"{gate} : token <= 0",
        f"{beta} : token in [0, 1]",
        f"{lam} : level",
        f"mask = semiseparable({gate}) * delta(l2norm({k}), {beta}) * fenwick({lam})",
        f"return attend({q} / sqrt(K), {k}, {v}, mask)",
    )
    assert undefined(source_of(spec, grouped(spec))) == set()
    assert_equal_to_interpreter(spec, grouped(spec), 4)


def test_a_definition_may_be_named_like_the_gradient() -> None:
    spec = attention("q, k : key", "v : value", "d_o = attend(q, k, v, causal + window(3))", "return d_o * silu(v)")
    forward = lowered(spec, small_shape(spec), 4)
    parts = schedule(forward, joint(forward))
    assert "d_o" in parts.stored
    assert parts.gradient not in {*parts.stored, "q", "k", "v"}
    assert_equal_to_interpreter(spec, small_shape(spec), 4)


def test_a_docstring_with_quotes_and_backslashes_is_quoted() -> None:
    doc = r'''    """Says \"three quotes\": ''' + r"""''' and a \n, and ends in a backslash \\""" + '"""\n'
    spec = spec_of("attention test:\n" + doc + "    q : key\n    v : value\n    return attend(q, q, v, causal)\n")
    assert_equal_to_interpreter(spec, small_shape(spec), 4)


# -- one token ----------------------------------------------------------------------------------------------------


def assert_steps_as_the_interpreter(spec: Spec, shape: Shape, regime: Regime = "mild") -> None:
    """The generated `step` against the interpreted program, each token from the buffers that the module has left."""
    program = lower_step(spec, {name: shape.H // own for name, own in shape.key_heads})
    source = emit_step(program, to_text(spec.syntax))
    assert undefined(source) == set()
    module, sizes = load(source), sizes_of(shape) | {"T": 1}
    inputs, given = inputs_of(spec, shape, regime=regime), tuple(sizes[name] for name in "BTHKVL")
    kept = {
        memory.full_name(buffer): torch.zeros([ax.extent(axis, sizes) for axis in buffer.axes], dtype=torch.float64)
        for memory in memories(spec)
        for buffer in memory.buffers
    }
    for t in range(shape.T):
        known = part(spec, inputs, t, t + 1) | kept | {POSITIONS: torch.full((shape.B,), t)}
        expected = interpret(program, known, sizes)
        output, buffers = module.step(given, **{x: known[name] for x, name in module.STEP.items()})
        kept = dict(zip(module.KEPT, buffers, strict=True))
        assert_near(output, expected["o"], 1e-11)
        for memory in memories(spec):
            names = {buffer.name: memory.full_name(buffer) for buffer in memory.buffers}
            made, wanted = (folded({x: found[name] for x, name in names.items()}) for found in (kept, expected))
            for name, x in wanted.items():
                assert_near(made[name], x, 1e-11)


@every_definition
def test_library_steps_compute_what_the_interpreter_does(name: str) -> None:
    spec = library_spec(name)
    assert_steps_as_the_interpreter(spec, grouped(spec, 9))


@settings(max_examples=15)
@given(st.data(), spec_texts(), regimes())
def test_random_steps_compute_what_the_interpreter_does(data: st.DataObject, text: str, regime: Regime) -> None:
    spec = spec_of(text)
    assert_steps_as_the_interpreter(spec, data.draw(shapes(spec, longest=9)), regime)


@pytest.mark.parametrize(
    "names", [*NAMES, ("step", "states", "logs", "positions", "weights", "regrouped")], ids=" ".join
)
def test_inputs_of_a_step_may_be_named_like_anything_in_the_module(names: tuple[str, ...]) -> None:
    q, k, v, gate, beta, lam = names
    spec = attention(
        f"{q}, {k} : key",
        f"{v} : value",
        f"{gate} : token <= 0",
        f"{beta} : token in [0, 1]",
        f"{lam} : level",
        f"mask = semiseparable({gate}) * fenwick({lam}) + delta(l2norm({k}), {beta}) * fenwick({lam}) * window(3)",
        f"return attend({q} / sqrt(K), {k}, {v}, mask)",
    )
    assert_steps_as_the_interpreter(spec, grouped(spec))


def test_a_step_says_what_it_is_given_and_what_it_keeps() -> None:
    spec = library_spec("log_linear_mamba2")
    source = emit_step(lower_step(spec), to_text(spec.syntax))
    module = load(source)
    assert [*module.STEP.values()][-3:] == ["attend_1_1.states", "attend_1_1.logs", POSITIONS]
    assert set(module.STEP.values()) >= {each.name for each in spec.inputs}
    assert module.KEPT == ("attend_1_1.states", "attend_1_1.logs")
    assert "attention log_linear_mamba2:" in (ast.get_docstring(ast.parse(source)) or "")
    assert any("fenwick(lam)" in line for line in comments(source))
