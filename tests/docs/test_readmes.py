# SPDX-License-Identifier: Apache-2.0
"""Every pipeline in a README runs, every command in one is run here or by the named test, every link leads
somewhere."""
import os
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
    "./scripts/chaos --kills 200 --events 1000000 --readme": "tests/chaos/test_chaos.py",
    "cmake -DWEIR_FUZZ=ON": "scripts/test",
    "cc -shared -fPIC $(pkg-config --cflags weir) loud.c -o loud.so": "tests/docs/test_reference.py",
}
# What a fence may hold: who runs it, here or in the named file. Without a language: what nobody types.
FENCES = {"sh": None, "yaml": None, "": None, "lua": "tests/flow/test_lua.py", "c": "tests/docs/test_reference.py"}
RUNS_LUA_OF = {"plugins/lua/README.md"}
RUNS_C_OF = {"plugins/README.md"}
PROGRAMS = (r"(\$ |sudo |(\./)?scripts/\S|"
            r"(weir|cc|gcc|clang|cmake|ctest|ninja|curl|apt|apt-get|bash|python3?|pytest|docker) )")

# What stands for a word of the reader's own in `weir run FILE`.
ENDS = "sources: {in: {type: generate, count: 5}}\nsinks: {out: {type: blackhole, on_reject: drop}}\n"


def blocks(language):
    """(readme, line, text) of every fenced block in that language."""
    for readme in READMES:
        for found in re.finditer(r"^```" + language + r"\n(.*?)^```", readme.read_text(), re.M | re.S):
            line = readme.read_text()[:found.start()].count("\n") + 1
            yield pytest.param(readme, found.group(1), id=f"{readme.relative_to(ROOT)}:{line}")


def fences():
    """(readme, line, language, text) of every fenced block."""
    for readme in READMES:
        lines, begin = readme.read_text().splitlines(), None
        for number, line in enumerate(lines):
            if not line.lstrip().startswith("```"):
                continue
            if begin is None:
                begin = number
            else:
                yield (str(readme.relative_to(ROOT)), begin + 1, lines[begin].strip()[3:],
                       "\n".join(lines[begin + 1:number]))
                begin = None
        assert begin is None, f"{readme}:{begin + 1}: the block has no end"


def spans():
    """What stands between backquotes in the text of a README, each once."""
    found = set()
    for readme in READMES:
        text = re.sub(r"^```.*?^```", "", readme.read_text(), flags=re.M | re.S)
        found |= set(re.findall(r"`([^`\n]+)`", text))
    return sorted(found)


def code_of(text):
    """A script or a test without the lines that are comments."""
    return re.sub(r"^\s*#.*$", "", text, flags=re.M)


def check_elsewhere(line):
    by = ROOT / ELSEWHERE[line]
    assert by.exists(), f"{line} is said to be run by {by}, which does not exist"
    text = code_of(by.read_text())
    name = [line.split()[0].removeprefix("./")] if line.startswith("./") else []
    for word in [*name, *re.findall(r" (-D\w+=\w+|--\w[\w-]*)", line)]:
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text), f"{by} does not run {line}: no {word} in it"


def test_there_are_readmes():
    folders = {str(path.parent.relative_to(ROOT)) for path in READMES}
    assert {".", "core", "pipelines", "plugins", "scripts", "tests"} <= folders


@pytest.mark.parametrize("readme, text", list(blocks("yaml")))
def test_pipeline(weir, readme, text):
    if "sources:" not in text:
        pytest.fail("a YAML block in a README is a whole pipeline, so that it can be run")
    weir.run(text.replace("/tmp/", f"{weir.folder}/"), timeout=60)


def test_no_block_is_passed_over():
    """Every block is of a kind that a test runs; what has no language is a picture or what a program prints."""
    assert "run" not in code_of("# run\n  # run\nx") and "run" in code_of("run # as told")
    for readme, line, language, text in fences():
        assert (ROOT / readme).read_text().splitlines()[line - 1].startswith("```"), \
            f"{readme}:{line}: nobody looks for a block that is indented"
        assert language in FENCES, f"{readme}:{line}: nobody runs a block of {language!r}"
        assert language != "lua" or readme in RUNS_LUA_OF, f"{readme}:{line}: nobody runs it"
        assert language != "c" or readme in RUNS_C_OF, f"{readme}:{line}: nobody runs it"
        for command in text.splitlines() if language == "" else []:
            assert not re.match(PROGRAMS, command.strip()), f"{readme}:{line}: {command!r} is a command: ```sh"


@pytest.mark.parametrize("span", [span for span in spans() if re.match(r"weir( |$)", span)])
def test_command_of_weir_in_a_sentence(weir, span):
    words = shlex.split(span)[1:]
    values = {"FILE": str(weir.write(ENDS)), "NAME": "blackhole", ".": str(weir.folder),
              "PATH": str(weir.folder)}
    if words in (["check"], ["run"], ["replay"]):
        words.append("--help")
    done = weir.command(*(values.get(word, word) for word in words or ["--help"]))
    assert done.code == 0, done


@pytest.mark.parametrize("span", [span for span in spans()
                                  if re.match(r"(\./)?scripts/\w+( |$)|(cmake|ctest|cc|curl) ", span)])
def test_command_of_a_script_in_a_sentence(span):
    if span in ELSEWHERE:
        return check_elsewhere(span)
    script, *words = shlex.split(span)
    shown = subprocess.run([ROOT / script, "--help"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, f"{span}: {shown.stderr}"
    for word in words[:words.index("--")] if "--" in words else words:
        assert re.search(rf"(^|[\s\[]){re.escape(word)}\b", shown.stdout), f"{span}: {script} --help has no {word}"


SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_tells_what_it_does(script):
    """--help changes nothing, what is no option is refused, and scripts/README.md has a row for it."""
    before = (ROOT / "plugins/README.md").stat().st_mtime_ns
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and shown.stdout.lstrip().startswith(f"Usage: scripts/{script.name}"), shown
    wrong = subprocess.run([script, "--no-such-option"], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 2 and wrong.stderr, wrong
    assert (ROOT / "plugins/README.md").stat().st_mtime_ns == before
    assert f"| `{script.name}` |" in (ROOT / "scripts/README.md").read_text()


@pytest.mark.parametrize("readme", ["scripts/README.md", "tests/bench/README.md"])
def test_options_in_a_table_are_those_of_help(readme):
    text = "".join(subprocess.run([script, "--help"], capture_output=True, text=True).stdout for script in SCRIPTS)
    for option in re.findall(r"`(--[a-z-]+)", (ROOT / readme).read_text()):
        assert f" {option}" in text or f"[{option}" in text, f"{readme}: {option} is no option of a script"


@pytest.mark.parametrize("readme, text", list(blocks("sh")))
def test_command(weir, readme, text):
    for line in text.strip().splitlines():
        if not line or line.startswith("#"):
            continue
        if line in ELSEWHERE:
            check_elsewhere(line)
            continue
        line = re.sub(r"^weir ", f"{weir.bin} ", line)
        done = subprocess.run(["bash", "-ec", line], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{line}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(readme):
    for target in re.findall(r"\]\(([^)#]+)\)", readme.read_text()):
        if "://" not in target:
            assert (readme.parent / target).exists(), f"{readme}: {target} is not there"
