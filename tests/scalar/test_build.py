"""Symbols carry their ranges; functions are what the language says."""

import copy
import pickle

import pytest
import sympy

from maskdsl.scalar.build import DIMENSIONS, FUNCTIONS, dimension, symbol


def test_symbols_are_equal_by_name_and_range():
    assert symbol("a") == symbol("a")
    assert symbol("a", 0) == symbol("a", 0.0)
    assert symbol("a") != symbol("a", 0)
    assert symbol("a", 0) != symbol("a", 0, 1)
    assert symbol("a") != symbol("b")


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_symbols_survive_copies(clone):
    x = symbol("x", -1, 2)
    assert clone(x) == x
    assert (clone(x).low, clone(x).high) == (-1.0, 2.0)


def test_signs_follow_from_ranges():
    assert symbol("a").is_real
    assert symbol("a").is_nonnegative is None
    assert symbol("a", 0, 1).is_nonnegative
    assert symbol("a", 0.5).is_positive
    assert symbol("a", None, 0).is_nonpositive
    assert symbol("a", None, -1).is_negative
    assert symbol("a", -1, 1).is_nonnegative is None


def test_an_empty_range_is_an_error():
    with pytest.raises(ValueError, match="The range of 'a' is empty"):
        symbol("a", 1, 0)


def test_dimensions_are_positive_integers():
    for name in DIMENSIONS:
        assert dimension(name).is_integer
        assert dimension(name).is_positive


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("exp", (0.5,), 1.6487212707001282),
        ("log", (2.5,), 0.9162907318741551),
        ("sqrt", (6.25,), 2.5),
        ("sigmoid", (0.5,), 0.6224593312018546),
        ("logsigmoid", (0.5,), -0.4740769841801067),
        ("softplus", (0.5,), 0.9740769841801067),
        ("silu", (0.5,), 0.3112296656009273),
        ("tanh", (0.5,), 0.46211715726000973),
        ("relu", (-0.5,), 0.0),
        ("relu", (0.5,), 0.5),
        ("abs", (-0.5,), 0.5),
        ("square", (-0.5,), 0.25),
        ("min", (3.0, -1.0, 2.0), -1.0),
        ("max", (3.0, -1.0, 2.0), 3.0),
        ("clamp", (3.0, -1.0, 2.0), 2.0),
        ("clamp", (-3.0, -1.0, 2.0), -1.0),
        ("clamp", (0.5, -1.0, 2.0), 0.5),
    ],
)
def test_functions_at_a_number(name, arguments, expected):
    function = FUNCTIONS[name]
    least, most = function.arity
    assert least <= len(arguments) <= (most or len(arguments))
    assert float(function.build(*map(sympy.Float, arguments))) == pytest.approx(expected, rel=1e-15, abs=1e-15)
