"""The one renderer, and the errors that carry diagnostics."""

from __future__ import annotations

import pickle

from maskdsl.diagnostics import CallError, Diagnostic, Related, Source, SpecError, closest, did_you_mean, render
from maskdsl.language.syntax import Span

SOURCE = Source("f.mask", "attention f:\n\tx = fenwik(l)\n\ty = (1 +\n\t\t2)\n" + "\n" * 6 + "end\n")


def test_all_parts() -> None:
    diagnostic = Diagnostic(
        "unknown",
        "Unknown mask 'fenwik'.",
        Span(2, 6, 2, 12),
        "not a mask",
        "Did you mean 'fenwick'?",
        (Related(Span(11, 1, 11, 4), "ends here"),),
    )
    assert render([diagnostic], SOURCE) == (
        "Unknown mask 'fenwik'.\n"
        '  File "f.mask", line 2, column 6\n'
        "     2 | \tx = fenwik(l)\n"
        "       | \t    ^^^^^^ not a mask\n"
        "    11 | end\n"
        "       | ^^^ ends here\n"
        "  Hint: Did you mean 'fenwick'?"
    )


def test_span_of_several_lines_shows_the_first() -> None:
    diagnostic = Diagnostic("code", "It is wrong.", Span(3, 6, 4, 5))
    assert render([diagnostic], SOURCE).split("\n")[2:] == ["    3 | \ty = (1 +", "      | \t    ^^^^"]


def test_place_outside_the_text() -> None:
    assert render([Diagnostic("code", "It is wrong.", Span(99, 1, 99, 1))], SOURCE).endswith("    99 |\n       | ^")


def test_sorted_and_without_repetition() -> None:
    first, second = (Diagnostic("code", "It is wrong.", Span(2, column, 2, column + 1)) for column in (3, 10))
    error = SpecError([second, first, second], SOURCE)
    assert error.diagnostics == (first, second)
    assert str(error) == render([first, second], SOURCE)
    assert str(error).count("\n\n") == 1


def test_errors_can_be_sent_to_other_processes() -> None:
    error = SpecError([Diagnostic("code", "It is wrong.", Span(2, 3, 2, 4))], SOURCE)
    again = pickle.loads(pickle.dumps(error))
    assert (again.diagnostics, again.source, str(again)) == (error.diagnostics, SOURCE, str(error))
    call = pickle.loads(pickle.dumps(CallError("'q' is missing.", "q")))
    assert (str(call), call.input) == ("'q' is missing.", "q")
    assert isinstance(call, ValueError)


def test_closest_name() -> None:
    assert closest("TOKE", ["token", "level"]) == "token"
    assert closest("zebra", ["token", "level"]) is None
    assert did_you_mean("beat", ["beta"]) == "Did you mean 'beta'?"
    assert did_you_mean("zebra", ["beta"]) == ""
