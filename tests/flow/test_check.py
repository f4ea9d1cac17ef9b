# SPDX-License-Identifier: Apache-2.0
"""Wrong pipeline files and what `weir check` says of them: check/NAME.yaml, check/NAME.expected.

The text must be the same to the last character; folders are shown as PLUGINS and CHECK. With
WEIR_UPDATE=1 the expected texts are written anew: read the difference before it is committed.
"""
import json
import os
import re
from pathlib import Path

import pytest

CHECK = Path(__file__).parent / "check"
FILES = sorted(CHECK.glob("*.yaml"))
CODE = re.compile(r"(?:error|warning)\[([a-z-]+)\]")


def run_check(weir, path, *args):
    env = {"WEIR_TEST_UNSET": None, "START": None, "HOME": "/home/user"}
    return weir.command("check", *args, path.name, env=env, cwd=CHECK)


def expected_of(path):
    return path.with_suffix(".expected")


def without_folders(weir, text):
    for folder in {weir.plugin_path, str(Path(weir.plugin_path).resolve())}:
        text = text.replace(folder, "PLUGINS")
    return text.replace("PLUGINS, PLUGINS", "PLUGINS").replace(str(CHECK), "CHECK")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_text(weir, path):
    checked = run_check(weir, path)
    text = without_folders(weir, checked.out)
    if os.environ.get("WEIR_UPDATE"):
        expected_of(path).write_text(text)
    assert text == expected_of(path).read_text()
    assert checked.err == ""
    assert checked.code == (1 if "error[" in text else 0)
    assert CODE.search(text), "every file here has something wrong"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_json_has_the_same_facts(weir, path):
    text = run_check(weir, path).out
    diags = run_check(weir, path, "--format", "json").json
    assert [d["code"] for d in diags] == CODE.findall(text)
    for d in diags:
        place = f"{path.name}:{d['line']}:{d['column']}: " if "line" in d else f"{path.name}: "
        assert place + f"{d['severity']}[{d['code']}]: {d['message']}\n" in text.replace("\x1b", "?")
        for fact, word in (("path", "at "), ("expected", "expected "), ("found", "found "),
                           ("hint", "hint: ")):
            assert fact not in d or f"= {word}{d[fact]}\n" in text


def test_there_are_many_kinds():
    codes = {code for path in FILES for code in CODE.findall(expected_of(path).read_text())}
    assert len(FILES) >= 40
    assert len(codes) >= 25


def test_all_files_at_once(weir):
    names = [path.name for path in FILES[:5]]
    checked = weir.command("check", "--format", "json", *names, cwd=CHECK)
    files = [d["file"] for d in checked.json]
    assert sorted(set(files), key=files.index) == names
    assert checked.code == 1


def test_secrets_are_not_shown(weir):
    checked = run_check(weir, CHECK / "unclosed-quote.yaml")
    assert "s3cr3t" not in checked.text


def test_no_file_and_no_folder(weir, tmp_path):
    missing = weir.check(str(tmp_path / "none.yaml"), expect=1)
    assert "none.yaml: error[file-unreadable]: cannot read the pipeline file: No such file" in missing.out
    folder = weir.check(str(tmp_path), expect=1)
    assert "cannot read the pipeline file: it is a folder" in folder.out


def test_a_file_that_is_too_large(weir, tmp_path):
    large = tmp_path / "large.yaml"
    large.write_text("description: " + "x" * (1 << 20) + "\n")
    checked = weir.check(str(large), expect=1)
    assert "error[file-too-large]: cannot read the pipeline file: it has more than 1 MiB\n" in checked.out


def test_json_is_an_empty_list_where_all_is_well(weir):
    checked = weir.check("sources: {in: {type: generate}}\n"
                         "sinks: {out: {type: blackhole, on_reject: stop}}\n", format="json", expect=0)
    assert json.loads(checked.out) == []
