# SPDX-License-Identifier: Apache-2.0
"""What `cmake --install` gives: binary, plugins, headers, weir.pc; and a plugin built outside."""
import os
import subprocess
from pathlib import Path

import pytest

from weirtest import WeirBinary

OUTSIDE = Path(__file__).parent / "outside"
EVENTS = '{"id":"a","card":"4000123412341234"}\n{"id":"b","card":"xy"}\n{"id":"c","n":1}\n'
MASKED = '{"id":"a","card":"************1234"}\n{"id":"b","card":"xy"}\n{"id":"c","n":1}\n'

PIPELINE = """
name: outside
sources:
  in: {type: file, path: events.ndjson}
transforms:
  hide: {type: mask, field: card}
sinks:
  out: {type: stdout}
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An install of the build under test, in a folder that the build never heard of."""
    build = WeirBinary(".").bin.parents[1]
    folder = tmp_path_factory.mktemp("prefix")
    done = subprocess.run(["cmake", "--install", build, "--prefix", folder],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def installed(weir, prefix):
    """The weir of the install, with nothing in the environment that points at the build."""
    weir.bin = prefix / "bin/weir"
    weir.plugin_path = ""
    return weir


def pkg_config(prefix, *args):
    found = [p.parent for p in prefix.rglob("weir.pc")]
    assert len(found) == 1, f"weir.pc in {prefix}: {found}"
    done = subprocess.run(["pkg-config", *args, "weir"], capture_output=True, text=True,
                          env=dict(os.environ, PKG_CONFIG_PATH=str(found[0])))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_allocator_is_in_the_program(installed):
    """Not in a library beside it, and for all that the program loads."""
    cache = (WeirBinary(".").bin.parents[1] / "CMakeCache.txt").read_text()
    if "WEIR_JEMALLOC:BOOL=ON\n" not in cache or "WEIR_SANITIZE:STRING=\n" not in cache:
        pytest.skip("this build was asked for another allocator: -DWEIR_JEMALLOC=OFF, or a sanitizer's")
    libraries = subprocess.run(["ldd", installed.bin], capture_output=True, text=True).stdout
    done = subprocess.run([installed.bin, "plugins"], capture_output=True, text=True,
                          env=dict(os.environ, MALLOC_CONF="stats_print:true"))
    assert done.returncode == 0
    assert "jemalloc statistics" in done.stderr and "jemalloc" not in libraries, libraries + done.stderr[:300]
    exported = subprocess.run(["nm", "-D", "--defined-only", installed.bin], capture_output=True, text=True)
    for name in ("malloc", "calloc", "realloc", "free", "posix_memalign", "malloc_usable_size"):
        assert f" T {name}\n" in exported.stdout, name


def build_outside(prefix, folder, compiler="cc"):
    target = folder / "mask.so"
    command = f"{compiler} -shared -fPIC {pkg_config(prefix, '--cflags')} {OUTSIDE}/mask.c -o {target}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return target


def test_install_has_binary_plugins_headers_and_nothing_of_tests(prefix):
    names = {str(p.relative_to(prefix)) for p in prefix.rglob("*") if p.is_file()}
    assert "bin/weir" in names
    assert {"include/weir/" + h for h in ("base.h", "event.h", "host.h", "option.h", "plugin.h")} <= names
    built_in = {Path(n).stem for n in names if "/weir/plugins/" in n}
    sources = {p.parent.name for p in OUTSIDE.parents[2].glob("plugins/*/CMakeLists.txt")}
    assert built_in == sources
    assert not [n for n in names if "test" in n or n.endswith(".a")]


def test_the_install_finds_its_own_plugins(installed):
    listed = installed.command("plugins")
    assert listed.code == 0 and "blackhole" in listed.out and "kafka" in listed.out


def test_pkg_config_points_into_the_install(prefix):
    flags = pkg_config(prefix, "--cflags")
    assert flags.startswith("-I") and Path(flags[2:]).resolve() == (prefix / "include").resolve()
    plugins = Path(pkg_config(prefix, "--variable=plugindir"))
    assert (plugins / "blackhole.so").exists()


@pytest.mark.parametrize("compiler", ["cc", "clang"])
@pytest.mark.parametrize("how", ["--plugin-dir", "WEIR_PLUGIN_PATH"])
def test_a_plugin_built_outside_the_tree_runs(installed, prefix, tmp_path, compiler, how):
    folder = tmp_path / "my plugins"
    folder.mkdir()
    plugin = build_outside(prefix, tmp_path, compiler)
    plugin.rename(folder / "anything.so")  # a file's name says nothing
    installed.write(EVENTS, "events.ndjson")
    if how == "--plugin-dir":
        running = installed.run(PIPELINE, args=["--plugin-dir", folder])
    else:
        running = installed.run(PIPELINE, env={"WEIR_PLUGIN_PATH": folder})
    assert running.stdout == MASKED


def test_its_options_are_checked_and_described_as_those_of_weir(installed, prefix, tmp_path):
    build_outside(prefix, tmp_path)
    shown = installed.command("plugins", "mask", "--plugin-dir", tmp_path)
    assert shown.code == 0 and "How many bytes at the end stay readable." in shown.out
    bad = PIPELINE.replace("field: card", "feild: card, keep: 65")
    checked = installed.command("check", installed.write(bad), "--plugin-dir", tmp_path)
    assert checked.code == 1
    assert 'did you mean "field"' in checked.text and "transforms.hide.keep" in checked.text


def test_without_its_folder_the_type_is_unknown(installed):
    checked = installed.check(PIPELINE, expect=1)
    assert "mask" in checked.text and "transforms.hide" in checked.text


def test_the_plugin_exports_and_needs_nothing_of_weir(prefix, tmp_path):
    plugin = build_outside(prefix, tmp_path)
    undefined = subprocess.run(["nm", "-D", "--undefined-only", plugin], capture_output=True, text=True)
    assert "weir" not in undefined.stdout
    for path in prefix.rglob("*.so"):
        symbols = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True)
        exported = [line.split()[-1].split("@")[0] for line in symbols.stdout.splitlines()]
        assert exported == ["weir_plugin"], path


@pytest.mark.parametrize("command", ["cc -std=c11 -pedantic", "clang -std=c11 -pedantic",
                                     "c++ -std=c++17 -x c++", "clang++ -std=c++17 -x c++"])
def test_each_header_stands_alone_as_c11_and_as_cpp(prefix, tmp_path, command):
    for header in sorted((prefix / "include/weir").glob("*.h")):
        source = tmp_path / "one.c"
        source.write_text(f"#include <weir/{header.name}>\n#include <weir/{header.name}>\n")
        done = subprocess.run(f"{command} -Wall -Wextra -Werror -fsyntax-only "
                              f"{pkg_config(prefix, '--cflags')} {source}",
                              shell=True, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_plugin_in_cpp_runs(installed, prefix, tmp_path):
    cpp = tmp_path / "count.cc"
    cpp.write_text(CPP)
    target = tmp_path / "count.so"
    done = subprocess.run(f"c++ -std=c++20 -shared -fPIC {pkg_config(prefix, '--cflags')} {cpp} -o {target}",
                          shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    installed.write(EVENTS, "events.ndjson")
    running = installed.run("""
name: cpp
sources:
  in: {type: file, path: events.ndjson}
sinks:
  out: {type: count}
""", args=["--plugin-dir", tmp_path])
    assert running.stdout == "3\n"


CPP = r"""
#include <weir/plugin.h>
#include <cstdio>

namespace {
struct counter {
    const weir_host *host;
    unsigned n = 0;
};

void write(void *self, weir_batch *b, int64_t, weir_results *results)
{
    for (uint32_t i = 0; i < b->n_events; i++)
        weir_result_at(results, i)->verdict = WEIR_VERDICT_OK;
    static_cast<counter *>(self)->n += b->n_events;
}

weir_status open(const weir_host *h, const void *, void **ret_self, weir_error *)
{
    *ret_self = new counter{h};
    return WEIR_OK;
}

void close(void *self)
{
    if (self != nullptr)
        std::printf("%u\n", static_cast<counter *>(self)->n);
    delete static_cast<counter *>(self);
}

const weir_sink sink = {.size = sizeof(weir_sink), .batch_events = 10, .batch_bytes = 1 << 20,
                        .in_flight = 1, .write = write};
struct none { int unused; };
const weir_option options[1] = {};
const weir_type type = {.size = sizeof(weir_type), .kind = WEIR_SINK, .name = "count",
                        .summary = "Counts.",
                        .options = {options, 0, sizeof(weir_option), sizeof(none)},
                        .sink = &sink, .open = open, .close = close};
const weir_type *const types[] = {&type, nullptr};
}

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "count", "1.0", "Counts.", "MIT", types, nullptr};
"""
