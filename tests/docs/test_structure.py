# SPDX-License-Identifier: Apache-2.0
"""The rules of the tree: what may include what, where third-party headers live, what no file may call."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"
LAYERS = ["weir", "base", "model", "engine", "app"]
HOMES = {
    "yyjson.h": {"core/model/value_impl.h"},
    "yaml.h": {"core/model/conf.c"},
    "microhttpd.h": {"core/app/http_server.c", "core/app/version.c"},
    "dlfcn.h": {"core/engine/loader_file.c", "core/engine/loader_plugin.c", "core/engine/loader.c"},
}
BANNED = r"\b(strcpy|strcat|sprintf|strtok|atoi|gmtime|localtime|rand)\s*\("


def sources(folder):
    return sorted(path for pattern in ("*.c", "*.h") for path in folder.rglob(pattern))


def includes(path):
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.M)


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def layer(path):
    part = path.relative_to(CORE).parts[0]
    return "weir" if part == "include" else part


@pytest.mark.parametrize("path", sources(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_core_includes_go_one_way(path):
    mine = LAYERS.index(layer(path))
    for name in includes(path):
        first = name.split("/")[0]
        if "/" in name and first in LAYERS:
            assert LAYERS.index(first) <= mine, f"{path}: {name} is a layer above"


def test_third_party_headers_have_one_home():
    for path in sources(CORE):
        for name in includes(path):
            if name in HOMES:
                assert str(path.relative_to(ROOT)) in HOMES[name], f"{path} includes {name}"
            assert not name.startswith(("lua", "librdkafka", "mongoc", "bson", "hiredis", "curl")), \
                f"{path}: {name} belongs to a plugin"


@pytest.mark.parametrize("path", sources(ROOT / "plugins"), ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_see_the_abi_alone(path):
    for name in includes(path):
        assert name.split("/")[0] not in ("base", "model", "engine", "app"), f"{path}: {name} is the core's"


@pytest.mark.parametrize("path", sources(CORE) + sources(ROOT / "plugins"),
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_no_banned_function(path):
    text = re.sub(r'"(\\.|[^"\\])*"', '""', without_comments(path.read_text()))
    assert not re.findall(BANNED, text), f"{path}: {re.findall(BANNED, text)}"
    if path.is_relative_to(ROOT / "plugins") or path.parent.name != "base":
        allocators = re.findall(r"(?<![\w>.])(malloc|calloc|realloc|free)\s*\(", text)
        assert not allocators, f"{path}: {set(allocators)}: memory comes from the host or base/mem.h"


def calls_of_time(text):
    """Calls of the system's clocks and random numbers; those through a pointer are the clock's or the host's."""
    return re.findall(r"\b(clock_gettime|gettimeofday|time(?=\s*\(\s*(?:NULL|0|&))|nanosleep|usleep|sleep|getrandom|"
                      r"random)\s*\(", re.sub(r"(->|\.)\w+\s*\(", "(", without_comments(text)))


def test_time_comes_from_the_clock():
    assert calls_of_time("t = time(NULL); time (0); time(&t); sleep(1);") == ["time", "time", "time", "sleep"]
    assert calls_of_time("h->random(h); c.sleep(1); /* time(NULL) */ wr_time(NULL); asleep(1);") == []
    for path in sources(CORE / "model") + sources(CORE / "engine") + sources(ROOT / "plugins"):
        found = calls_of_time(path.read_text())
        assert not found, f"{path}: {found}: time and random come through struct wr_clock, or the host"


def test_top_level_folders():
    allowed = {"core", "plugins", "pipelines", "scripts", "deploy", "terraform", "tests", "build"}
    extra = {path.name for path in ROOT.iterdir()
             if path.is_dir() and not path.name.startswith(".")} - allowed
    assert not extra, f"no folder {extra} in the layout"
