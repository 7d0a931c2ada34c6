from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# No test may reach a hub: what is needed lies in the repository.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT
