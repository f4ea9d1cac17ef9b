# SPDX-License-Identifier: Apache-2.0
"""plugins/README.md says what the built plugins say, and its example can be built and run."""
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "plugins/README.md"

PIPELINE = """
name: loud
sources:
  in: {type: file, path: events.ndjson}
sinks:
  out: {type: loud, longest: 20B, on_reject: drop}
"""


def test_the_reference_is_that_of_the_plugins(weir):
    made = subprocess.run([ROOT / "scripts/reference", "--print"], capture_output=True, text=True,
                          env=dict(os.environ, WEIR_BIN=str(weir.bin)))
    assert made.returncode == 0, made.stderr
    assert "/home" not in made.stdout and str(weir.bin.parents[1]) not in made.stdout
    assert made.stdout == README.read_text(), "plugins/README.md is out of date: run scripts/reference"


def test_the_example_is_built_and_runs(weir, tmp_path):
    text = README.read_text()
    weir.write(re.search(r"^```c\n(.*?)^```", text, re.M | re.S).group(1), "loud.c")
    line = re.search(r"^cc -shared.*$", text, re.M).group(0)
    line = line.replace("$(pkg-config --cflags weir)", f"-Wall -Wextra -Werror -I{ROOT}/core/include")
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    weir.write('{"id":"a"}\n{"id":"a payload that is too long"}\n{"id":"c"}\n', "events.ndjson")
    done = weir.command("run", weir.write(PIPELINE), "--plugin-dir", tmp_path)
    assert done.code == 0, repr(done)
    assert '{"id":"a"}!' in done.err and '{"id":"c"}!' in done.err
    assert 'too long"}!' not in done.err and "too_long" in done.err
