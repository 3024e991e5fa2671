import pytest

from tests.java_parity.model import Model
from tests.java_parity.test_quiet import KEEP_MS
from transforms.model.thresholds import Rules


@pytest.fixture(scope="session")
def model():
    """The Java side, with the rules' own numbers."""
    rules = Rules().terminal
    asked = Model(
        KEEP_MS, round(rules.ignition_debounce_s * 1000), round(rules.reboot_window_s * 1000)
    )
    yield asked
    asked.close()
