# SPDX-License-Identifier: Apache-2.0
"""Secrets are shown nowhere: not in logs of any level, metrics, states, dead letters, answers, diagnostics,
nor to other processes."""
import base64
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import requests

from secret_rig import Canaries, Echoes, Part, parts, pipelines
from weirtest import free_port, wait_until


def secret_options(weir):
    """{(kind, type, option)} of all that the plugins' own tables call secret."""
    text = weir.command("plugins", "--format", "markdown").out
    found, kind, type = set(), None, None
    for line in text.splitlines():
        heading = re.match(r"#+ `(\w+)` \((source|transform|sink)\)", line)
        row = re.match(r"\| `([^`]+)` \| ([^|]*) \|", line)
        if heading:
            type, kind = heading.groups()
        elif row and "secret" in row[2].split(", "):
            found.add((kind, type, row[1]))
    return found


def all_output(running, folder):
    """All that a running weir showed to anybody."""
    texts = [running.get(path).text for path in ("/metrics", "/readyz", "/livez")]
    texts.append(Path(f"/proc/{running.pid}/cmdline").read_text())
    running.stop(expect=None)
    texts += [running.stderr, running.stdout]
    return "\n".join(texts + [path.read_text() for path in folder.glob("dead-*.ndjson")])


def test_each_secret_option_has_a_canary(weir):
    """A new secret option has to be put into secret_rig.parts."""
    with Echoes(nobody=True) as ports:
        made = list(parts(ports, Canaries(), weir.folder, 1))
    covered = {(part.kind, part.type, option) for part in made for option in part.covers}
    assert secret_options(weir) == covered


def knock(port, canaries):
    """Requests of all sorts at the http source, some with what it wants, none with all of it."""
    right = {"Authorization": f"Bearer {canaries.made['tokens']}"}
    user = base64.b64encode(f"me:{canaries.made['basic']}".encode()).decode()
    texts = []
    for headers in ({}, {"Authorization": "Bearer wrong"}, right, {"Authorization": f"Basic {user}"},
                    {"X-Signature": "00"}, right | {"X-Signature": "00" * 32}):
        answer = requests.post(f"http://127.0.0.1:{port}/events", b"{}", headers=headers, timeout=10)
        assert answer.status_code == 401
        texts.append(f"{answer.headers} {answer.text}")
    return "\n".join(texts)


@pytest.mark.long(15)
@pytest.mark.parametrize("nobody", [True, False], ids=["nobody listens", "servers repeat all"])
@pytest.mark.parametrize("given", ["written", "env", "file"])
def test_secrets_are_shown_nowhere(weir, nobody, given):
    canaries, port, env = Canaries(), free_port(), {}
    with Echoes(nobody) as ports:
        made = [part for part in parts(ports, canaries, weir.folder, port) if usable(weir, part)]
        texts = [outside(weir, text, canaries, given, env) for text in pipelines(made)]
        running = weir.start(*texts, args=["--log-level", "trace"], ready=False, env=env)
        wait_until(lambda: not running.alive or all(line(running, i, part) for i, part in enumerate(made)), 40,
                   lambda: f"nothing of {[p.type for i, p in enumerate(made) if not line(running, i, p)]}\n"
                           + running.report())
        assert running.alive, running.report()
        answers = knock(port, canaries)
        time.sleep(0.5)
        output = all_output(running, weir.folder) + answers
    assert len(output) > 10000 and not canaries.found_in(output)
    if not nobody:
        assert output.count("you said") > 10 and "***" in output


def usable(weir, part):
    """Debian's librdkafka cannot fetch tokens."""
    return "oauth" not in part.options or "built without OIDC" not in weir.check(*pipelines([part])).text


def line(running, i, part):
    """The part did something: a log line of its own, or it listens, or changes events."""
    if (part.kind, part.type) in (("source", "http"), ("transform", "map")):
        return running.ready or running.find_log("", pipeline=f"p{i}")
    component = {"source": "in", "transform": "it", "sink": "out"}[part.kind]
    return [found for found in running.find_log("", pipeline=f"p{i}", component=component)
            if found["level"] in ("warn", "error") or "text" in found]


def outside(weir, text, canaries, given, env):
    """The pipeline with its canaries in the environment, or in files; a URL is one as a whole."""
    if given == "written":
        return text
    def put(match):
        if not any(form in match[1] for canary in canaries.made.values() for form in canaries.forms(canary)):
            return match[0]
        name = f"SECRET_{len(env) + len(list(weir.folder.glob('secret-*')))}"
        if given == "env":
            env[name] = match[1]
            return '"${env:' + name + '}"'
        weir.write(match[1] + "\n", f"secret-{name}")
        return '"${file:secret-' + name + '}"'
    return re.sub(r'"([^"]*)"', put, text)


@pytest.mark.parametrize("given", ["written", "env", "file"])
@pytest.mark.parametrize("mistake", ["nonsense: 1", "batch: {events: x}", "on_reject: 5", "timeout: [1]"])
def test_diagnostics_show_no_secret(weir, given, mistake):
    """With a mistake beside each of them: all of their lines are printed."""
    canaries, env = Canaries(), {}
    with Echoes(nobody=True) as ports:
        made = list(parts(ports, canaries, weir.folder, 1))
    for part in made:
        part.options += f", {mistake}"
    texts = [outside(weir, text, canaries, given, env) for text in pipelines(made)]
    for format in ("text", "json"):
        checked = weir.check(*texts, format=format, env=env, expect=1)
        assert not canaries.found_in(checked.text)


WRONG = [
    ("sink", "redis", 'url: "redis://me:{}@127.0.0.1:port", set: {{key: "k:1"}}'),
    ("sink", "redis", 'url: "redis://127.0.0.1:1", set: {{key: "k:1"}}, pasword: "{}"'),
    ("sink", "redis", 'url: "redis://127.0.0.1:1", set: {{key: "k:1"}}, sentinel: {{master: m, passwd: "{}"}}'),
    ("sink", "mongodb", 'uri: "mongodb://me:{}:x@127.0.0.1:port/?w=x", database: d, collection: c'),
    ("sink", "mongodb", 'uri: "mongodb://h/?tlsCertificateKeyFilePassword={}&w=0", database: d, collection: c'),
    ("sink", "mongodb", 'uri: "{}", database: d, collection: c'),
    ("sink", "http", 'url: "http://h/", token: "{} with a blank"'),
    ("sink", "http", 'url: "http://me:{}@h/"'),
    ("sink", "http", 'url: "http://h/", proxy: "gopher://me:{}@h:x"'),
    ("sink", "http", 'url: "http://h/", headers: {{"a b": "{}"}}'),
    ("sink", "http", 'url: "http://h/", headers: {{a: "{} {{{{ x", b: "{{{{ x"}}'),
    ("sink", "http", 'url: "http://h/", tokn: "{}"'),
    ("sink", "kafka", 'brokers: "h:1", topic: t, sasl: {{mechanism: PLAIN, password: "{}"}}'),
    ("sink", "kafka", 'brokers: "h:1", topic: t, rdkafka: {{sasl.password: "{}"}}'),
    ("sink", "kafka", 'brokers: "h:1", topic: t, rdkafka: {{ssl.key.pasword: "{}"}}'),
    ("sink", "kafka", 'brokers: "h:1", topic: t, rdkafka: {{ssl.key.pem: "{}"}}'),
    ("source", "http", 'tokens: ["{}", {{x: "{}"}}]'),
    ("source", "http", 'basic: ["{}"]'),
    ("source", "http", 'hmac: {{secrets: [["{}"]]}}'),
    ("source", "http", 'hmac: {{secret: "{}"}}'),
    ("source", "nothing", 'password: "{}"'),
]


@pytest.mark.parametrize("given", ["written", "env"])
@pytest.mark.parametrize("kind, type, options", WRONG, ids=range(len(WRONG)))
def test_wrong_values_are_not_repeated(weir, kind, type, options, given):
    canaries, env = Canaries(), {}
    canary = canaries.url("value") if "://me" in options else canaries("value")
    part = Part(kind, type, "", options.replace("{}", canary).replace("{{", "{").replace("}}", "}"))
    [text] = [outside(weir, text, canaries, given, env) for text in pipelines([part])]
    for command in ("check", "run"):
        done = weir.command(command, weir.write(text), env=env)
        assert done.code == 1 and not canaries.found_in(done.text)


def test_a_script_cannot_tell_a_secret(weir):
    """What came from a file is one, wherever it stands: it is starred in the reason of a dead letter, in logs
    and in what a request is answered."""
    weir.write("s3cr3t-of-a-file", "token")
    port = free_port()
    running = weir.start(f"""
name: p
sources: {{in: {{type: http, address: "127.0.0.1:{port}"}}}}
transforms:
  it:
    type: lua
    inputs: [in]
    config: {{token: "${{file:token}}"}}
    code: |
      function init(config) token = config.token end
      function process(event) weir.log.info("it is", {{v = token}}) error("cannot use " .. token) end
sinks:
  out: {{type: blackhole, inputs: [it], on_reject: drop}}
  dead: {{type: file, path: dead-0.ndjson}}
dead_letter: dead
""")
    answer = requests.post(f"http://127.0.0.1:{port}/events", b"{}", timeout=10)
    assert answer.status_code == 202 and "cannot use ****" in answer.text
    output = all_output(running, weir.folder) + answer.text
    assert "s3cr3t" not in output and output.count("cannot use ***") >= 3 and '"v":"***"' in output


# ---- the process's memory ----------------------------------------------------------------------

def crash(weir, *args):
    """Ends a weir by SIGSEGV in a folder where core dumps are allowed; whether the kernel dumped it."""
    running = weir.start("name: p\nsources: {in: {type: generate, rate: 1}}\nsinks: {out: {type: blackhole, "
                         "on_reject: drop}}\n", args=args)
    resource.prlimit(running.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    owner = os.stat(f"/proc/{running.pid}/environ").st_uid
    running.signal(signal.SIGSEGV)
    _, status = os.waitpid(running.pid, 0)
    running.process.returncode = -signal.SIGKILL  # it is no crash of ours
    assert os.WIFSIGNALED(status)
    for core in weir.folder.glob("core*"):
        core.unlink()
    return os.WCOREDUMP(status), owner


@pytest.mark.skipif("os.environ.get('WEIR_WRAPPER')", reason="the wrapper is not the weir")
def test_a_crash_leaves_no_core_dump(weir):
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard != resource.RLIM_INFINITY and os.getuid() != 0:
        pytest.skip("core dumps are not allowed here")
    dumped, owner = crash(weir)
    assert not dumped and owner == 0
    if not Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        assert crash(weir, "--core-dumps") == (True, os.getuid())
