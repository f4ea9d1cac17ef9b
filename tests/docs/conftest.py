# SPDX-License-Identifier: Apache-2.0
"""Tests of what is written: they use the fixtures of the flow tests."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/flow"))

from weirtest.process import WeirBinary  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def weir(tmp_path):
    binary = WeirBinary(tmp_path)
    yield binary
    assert not binary.close()
