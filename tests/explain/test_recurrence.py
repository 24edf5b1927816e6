"""The written recurrence and the normal form, next to the specs they are of."""

from __future__ import annotations

import pytest

from maskdsl import library
from maskdsl.diagnostics import Source
from maskdsl.explain.recurrence import normal_form, recurrence
from maskdsl.explain.report import explain, normal_forms
from maskdsl.language.load import specs
from maskdsl.spec import Spec


def spec_of(mask: str, declarations: str = "", output: str = "attend(q, k, v, {})") -> Spec:
    inputs = f"    q, k : key\n    v : value\n{declarations}"
    (spec,) = specs(Source("<text>", f"attention probe:\n{inputs}    return {output.format(mask)}\n"))
    return spec


def written(spec: Spec) -> str:
    return recurrence(spec, normal_forms(spec))


GATE = "    g : token <= 0\n"
LEVEL = "    lam : level\n"


@pytest.mark.parametrize(
    ("mask", "declarations", "expected"),
    [
        (
            "causal",
            "",
            """\
S[t] = S[t-1] + k[t] v[t]ᵀ
o[t] = S[t]ᵀ q[t]""",
        ),
        (
            "semiseparable(g)",
            GATE,
            """\
S[t] = A[t] S[t-1] + k[t] v[t]ᵀ
o[t] = S[t]ᵀ q[t]
where
  A[t] = exp(g[t])""",
        ),
        (
            "delta(k, 1) @ semiseparable(f)",
            "    f : channel <= 0\n",
            """\
S[t] = A[t] S[t-1] + k[t] v[t]ᵀ
o[t] = S[t]ᵀ q[t]
where
  A[t] = (I - k[t] k[t]ᵀ) Diag(exp(f[t]))""",
        ),
        (
            "semiseparable(g) * window(7)",
            GATE,
            """\
S[t] = Σ over t - 7 < s ≤ t of A[t] ⋯ A[s+1] k[s] v[s]ᵀ
o[t] = S[t]ᵀ q[t]
where
  A[t] = exp(g[t])""",
        ),
        (
            "semiseparable(g) * fenwick(lam, base=3)",
            GATE + LEVEL,
            """\
S[t, l] = Σ over s ≤ t with level(t, s) = l of A[t] ⋯ A[s+1] k[s] v[s]ᵀ
  level(t, t) = 0; else level(t, s) = 1 + the highest base-3 digit in which t and s differ
  token by token: S[t, 0] = k[t] v[t]ᵀ; and with z zeros at the end of t > 0 in base 3,
  S[t, z+1] = A[t] (S[t-1, 0] + … + S[t-1, z+1])
  S[t, l] = 0 for 0 < l ≤ z,  A[t] S[t-1, l] for l > z + 1
o[t] = (Σ_l lam[t, l] S[t, l])ᵀ q[t]
where
  A[t] = exp(g[t])""",
        ),
        (
            'fenwick(lam, admissibility="strong") * window(9)',
            LEVEL,
            """\
S[t, l] = Σ over s ≤ t with level(t, s) = l and s > t - 9 of k[s] v[s]ᵀ
  level(t, t) = 0; else, with e = ⌊log2 t⌋, w = max(2ᵉ / 2, 1), r = t - 2ᵉ:
  level(t, s) = e + 1 where s < w or (s < 2w and r ≥ w),
  level(t - w, s - w) where else s < 2w, and level(t - 2w, s - 2w) otherwise
o[t] = (Σ_l lam[t, l] S[t, l])ᵀ q[t]""",
        ),
        (
            "semiseparable(g) + causal",
            GATE,
            """\
S1[t] = S1[t-1] + k[t] v[t]ᵀ
S2[t] = A2[t] S2[t-1] + k[t] v[t]ᵀ
o[t] = (S1[t] + S2[t])ᵀ q[t]
where
  A2[t] = exp(g[t])""",
        ),
    ],
)
def test_recurrence(mask: str, declarations: str, expected: str) -> None:
    assert written(spec_of(mask, declarations)) == expected


def test_letters_give_way_to_inputs_of_the_same_name() -> None:
    text = written(spec_of("semiseparable(-S * A)", "    S : token >= 0\n    A : token >= 0\n"))
    assert text == (
        "S1[t] = A1[t] S1[t-1] + k[t] v[t]ᵀ\no[t] = S1[t]ᵀ q[t]\nwhere\n  g[t] = -A[t]·S[t]\n  A1[t] = exp(g[t])"
    )


def test_an_output_that_is_more_than_one_attend_is_written_out() -> None:
    spec = spec_of("causal", "    D : head\n", "attend(q, k, v, {}, scale=1/sqrt(K)) + D * v")
    assert written(spec).splitlines()[1:] == ["attend_1[t] = 1/√K · S[t]ᵀ q[t]", "o[t] = D·v[t] + attend_1[t]"]


def test_the_normal_form_lists_path_hierarchy_and_window() -> None:
    spec = spec_of("(delta(k, 1) @ semiseparable(g)) * fenwick(lam) * window(9) + causal", GATE + LEVEL)
    assert normal_form(spec, normal_forms(spec)).splitlines() == [
        "attend_1, term 1 of 2: path identity",
        "attend_1, term 2 of 2: path exp(g[t]), then (I - k[t] k[t]ᵀ); "
        "hierarchy lam[t, l], base 2, weak admissibility; window 9",
    ]


@pytest.mark.parametrize("name", library.names())
def test_every_definition_is_explained(name: str) -> None:
    (spec,) = specs(Source(name, library.read(name)))
    text = explain(spec)
    assert text.startswith(f"{name}\n{'=' * len(name)}\n")
    for part in ("\nRecurrence\n", "\no[t] = ", "\nNormal form\n", "\nTraining, forward and backward", "\n│   1 M │"):
        assert part in text
