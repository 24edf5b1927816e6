"""The numbers behind the pictures, against the dense oracle, and the pictures themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maskdsl import library
from maskdsl.diagnostics import Source
from maskdsl.explain import numeric
from maskdsl.explain.picture import draw
from maskdsl.explain.report import normal_forms
from maskdsl.language.load import specs
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.oracle import dense
from maskdsl.spec import Attend, Spec


def load(name: str) -> Spec:
    (spec,) = specs(Source(name, library.read(name)))
    return spec


def as_tensor(kind: Kind, value: np.ndarray) -> torch.Tensor:
    """A value [T, n] or [1, n] in the shape of a call with one sequence and one head."""
    shape = {Kind.HEAD: (1,), Kind.HEAD_CHANNEL: (1, -1), Kind.TOKEN: (1, -1, 1)}.get(kind, (1, len(value), 1, -1))
    return torch.from_numpy(np.ascontiguousarray(value)).reshape(shape)


@pytest.mark.parametrize("name", library.names())
def test_the_pictured_masks_are_those_of_the_spec(name: str) -> None:
    spec, length = load(name), 9
    forms = normal_forms(spec)
    values = numeric.sample(spec, forms, length)
    given = {each.name: as_tensor(each.kind, values.names[each.name]) for each in spec.inputs}
    (attend,) = (each for each in spec.definitions if isinstance(each.node, Attend))
    # attend_1 is computed from the pictured mask; everything after it is the spec's output
    pictured = values.of(spec.output)
    assert attend.name in values.names
    np.testing.assert_allclose(pictured, dense(spec, given)[0, :, 0].numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", library.names())
def test_decays_fade_over_the_picture(name: str) -> None:
    spec = load(name)
    values = numeric.sample(spec, normal_forms(spec), 64)
    for form in normal_forms(spec).values():
        for term in form.terms:
            corner = numeric.gain(numeric.path(values, term.path))[63, 0]
            assert 0 < corner <= 1.5


@pytest.mark.parametrize("name", ["log_linear_kda", "two_timescale", "linear_attention"])
def test_a_picture_is_written(name: str, tmp_path: Path) -> None:
    target = tmp_path / "mask.png"
    draw(load(name), target, 16)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_suffix_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="xyz"):
        draw(load("retention"), tmp_path / "mask.xyz", 8)
