# SPDX-License-Identifier: Apache-2.0
"""Tests of the harness: its parts, then a short run and two builds that it has to find out."""
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/flow"))
sys.path.insert(0, str(Path(__file__).parent))

from links import Links  # noqa: E402

BUILD = Path(os.environ.get("WEIR_BIN", ROOT / "build/release/bin/weir")).absolute().parents[1]


@pytest.fixture
def links():
    proxy = Links(BUILD / "chaos/chaos_proxy")
    yield proxy
    proxy.close()
