"""A home for page tests, made once and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ui.page_fakes import make_home, page_services
from ui.wiring import Services


@pytest.fixture(scope="session")
def home_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated and ingested; not to be opened by tests."""
    return make_home(tmp_path_factory.mktemp("page-home") / "home")


@pytest.fixture
def page_home(home_template: Path, tmp_path: Path) -> Path:
    """A home of the test's own."""
    return shutil.copytree(home_template, tmp_path / "home")


@pytest.fixture
def services(page_home: Path) -> Iterator[Services]:
    """Services on a home with three documents; policies write at once."""
    with page_services(page_home) as opened:
        yield opened
