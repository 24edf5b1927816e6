"""Settings of the whole suite: one thread, a cache of its own, hypothesis without deadlines, golden files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

_RELAXED = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("default", deadline=None, suppress_health_check=_RELAXED)
settings.register_profile("ci", deadline=None, suppress_health_check=_RELAXED, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew instead of comparing")


@pytest.fixture(scope="session", autouse=True)
def cache_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Generated source goes to a folder of this session."""
    folder = tmp_path_factory.mktemp("maskdsl-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKDSL_CACHE", str(folder))
        yield folder


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written anew."""
    return bool(request.config.getoption("--update-golden"))
