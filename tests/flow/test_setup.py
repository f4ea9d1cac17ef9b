# SPDX-License-Identifier: Apache-2.0
"""scripts/setup: what it finds missing, and the second apt source that it derives on Debian 12."""
import os
import subprocess

import pytest

from weirtest.tools import ROOT

PIN = """Package: *
Pin: release n=trixie
Pin-Priority: 100

Package: libyyjson0 libyyjson-dev
Pin: release n=trixie
Pin-Priority: 500
"""

DEB822 = """Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

DEB822_MADE = {
    "Types": "deb", "URIs": "http://mirror.example/debian", "Suites": "trixie", "Components": "main",
    "Signed-By": "/usr/share/keyrings/debian-archive-keyring.gpg"}

ONE_LINE = """# deb http://commented.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm contrib main # all of it
"""

ODD = """Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb deb-src
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm-updates
 bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
"""


def derive(folder):
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c",
         f'. {ROOT}/scripts/lib/apt.sh; write_yyjson_source "$1" bookworm trixie', "bash", str(folder)],
        capture_output=True, text=True)


def put(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def fields(text):
    return dict(line.split(": ", 1) for line in text.splitlines())


def test_a_source_is_derived_from_deb822_files(tmp_path):
    put(tmp_path, "sources.list.d/other.sources", DEB822.replace("bookworm", "nodistro"))
    put(tmp_path, "sources.list.d/debian.sources", DEB822)
    assert derive(tmp_path).returncode == 0
    made = (tmp_path / "sources.list.d/weir-trixie.sources").read_text()
    assert fields(made) == DEB822_MADE
    assert (tmp_path / "preferences.d/weir-trixie").read_text() == PIN


def test_a_source_is_derived_from_sources_list(tmp_path):
    put(tmp_path, "sources.list", ONE_LINE)
    assert derive(tmp_path).returncode == 0
    made = (tmp_path / "sources.list.d/weir-trixie.list").read_text()
    assert made == "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main\n"
    assert (tmp_path / "preferences.d/weir-trixie").read_text() == PIN


def test_disabled_entries_are_passed_over_and_inline_keys_are_kept(tmp_path):
    put(tmp_path, "sources.list.d/debian.sources", ODD)
    assert derive(tmp_path).returncode == 0
    made = (tmp_path / "sources.list.d/weir-trixie.sources").read_text()
    assert "URIs: mirror+file:///etc/apt/mirrors/debian.list\n" in made
    assert "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END" in made
    assert made.endswith("Types: deb\nSuites: trixie\nComponents: main\n")
    assert "bookworm" not in made and "off.example" not in made


def test_without_an_entry_nothing_is_written(tmp_path):
    put(tmp_path, "sources.list.d/debian.sources", DEB822.replace("bookworm", "sid"))
    assert derive(tmp_path).returncode != 0
    assert not list(tmp_path.rglob("weir-*"))


def test_nothing_is_missing_here_and_nothing_is_said():
    done = subprocess.run([ROOT / "scripts/setup", "--test"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("gone, package", [("ninja", "ninja-build"), ("redis-server", "redis-server"),
                                           ("mvn", "maven"), ("clang", "clang")])
def test_a_missing_tool_is_named_by_its_package(tmp_path, gone, package):
    # A PATH with everything but that one tool.
    for folder in os.environ["PATH"].split(":"):
        for tool in os.scandir(folder) if os.path.isdir(folder) else ():
            target = tmp_path / tool.name
            if tool.name != gone and not target.is_symlink():
                target.symlink_to(tool.path)
    done = subprocess.run([ROOT / "scripts/setup", "--test", "--dry-run"], capture_output=True, text=True,
                          env=dict(os.environ, PATH=str(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert package in done.stdout.removeprefix("missing: ").split()


def test_wrong_usage():
    done = subprocess.run([ROOT / "scripts/setup", "--everything"], capture_output=True, text=True)
    assert done.returncode == 2 and "--help" in done.stderr
