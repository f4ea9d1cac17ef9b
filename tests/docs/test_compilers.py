# SPDX-License-Identifier: Apache-2.0
"""What one compiler takes without a warning, the other takes too; shell scripts pass shellcheck."""
import json
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("WEIR_BIN", ROOT / "build/release/bin/weir")).absolute().parents[1]


def look(entry):
    """One source of the build, read by the compiler that did not build it. Gives what that one said."""
    words = shlex.split(entry["command"])
    if Path(words[0]).name.startswith("ccache"):
        words.pop(0)
    other = "gcc" if "clang" in Path(words[0]).name else "clang"
    at = words.index("-o")
    shared = [word for word in (*words[1:at], *words[at + 2:]) if not word.startswith("-mmemset-strategy")]
    done = subprocess.run([other, *shared, "-fsyntax-only"], cwd=entry["directory"], capture_output=True,
                          text=True)
    return entry["file"], done.returncode, done.stderr


def test_every_source_is_free_of_warnings_with_the_other_compiler():
    entries = json.loads((BUILD / "compile_commands.json").read_text())
    assert len(entries) > 200 and all("-Werror" in entry["command"] for entry in entries)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [said for file, code, said in pool.map(look, entries) if code != 0 or "warning:" in said]
    assert not wrong, "\n".join(wrong)[:8000]


def scripts():
    found = [path for folder in ("scripts", ".ci", "tests") for path in sorted((ROOT / folder).rglob("*"))
             if path.is_file() and path.suffix in ("", ".sh") and "__pycache__" not in path.parts]
    return [path for path in found if path.suffix == ".sh" or re.match(rb"#!.*\b(ba)?sh\b", path.read_bytes()[:80])]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck(path):
    done = subprocess.run(["shellcheck", "-x", path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
