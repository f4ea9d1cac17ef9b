# SPDX-License-Identifier: Apache-2.0
"""Every pipeline in a README runs, every command in one is run here or by the named test, every link leads
somewhere."""
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READMES = sorted(path for path in ROOT.rglob("README.md")
                 if not any(part.startswith("build") for part in path.relative_to(ROOT).parts))

# Commands that a test elsewhere runs, because they start servers or all tests.
ELSEWHERE = {
    "./scripts/quickstart": "tests/flow/test_quickstart.py",
    "./scripts/quickstart --platform": "tests/flow/test_quickstart.py",
    "./scripts/test": ".ci/run",
}


def blocks(language):
    """(readme, line, text) of every fenced block in that language."""
    for readme in READMES:
        for found in re.finditer(r"^```" + language + r"\n(.*?)^```", readme.read_text(), re.M | re.S):
            line = readme.read_text()[:found.start()].count("\n") + 1
            yield pytest.param(readme, found.group(1), id=f"{readme.relative_to(ROOT)}:{line}")


def test_there_are_readmes():
    folders = {str(path.parent.relative_to(ROOT)) for path in READMES}
    assert {".", "core", "pipelines", "plugins", "scripts", "tests"} <= folders


@pytest.mark.parametrize("readme, text", list(blocks("yaml")))
def test_pipeline(weir, readme, text):
    if "sources:" not in text:
        pytest.fail("a YAML block in a README is a whole pipeline, so that it can be run")
    weir.run(text, timeout=60)


@pytest.mark.parametrize("readme, text", list(blocks("sh")))
def test_command(weir, readme, text):
    for line in text.strip().splitlines():
        if not line or line.startswith("#"):
            continue
        if line in ELSEWHERE:
            by = ROOT / ELSEWHERE[line]
            assert by.exists(), f"{line} is said to be run by {by}, which does not exist"
            assert Path(shlex.split(line)[0]).name in by.read_text(), f"{by} does not run {line}"
            continue
        line = re.sub(r"^weir ", f"{weir.bin} ", line)
        done = subprocess.run(["bash", "-ec", line], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{line}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(readme):
    for target in re.findall(r"\]\(([^)#]+)\)", readme.read_text()):
        if "://" not in target:
            assert (readme.parent / target).exists(), f"{readme}: {target} is not there"
