"""What the tests of the core share."""

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "data" / "examples"


@pytest.fixture
def examples() -> Path:
    """The folder of the example messages."""
    return EXAMPLES
