# SPDX-License-Identifier: Apache-2.0
"""The metrics listener: what it serves, to whom, and on which address."""
import json
import os
import re
import socket
import subprocess
import time

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from weirtest import wait_until

ENDS = """\
name: ends
sources: {in: {type: generate, count: 500}}
sinks: {out: {type: blackhole, on_reject: drop}}
"""
RUNS = """\
name: runs
sources: {in: {type: generate, rate: 200}}
sinks: {out: {type: blackhole, on_reject: drop}}
"""


def test_metrics_are_valid(weir):
    run = weir.start(RUNS, ENDS)
    run.wait_metric("weir_component_sent_events_total", 500, pipeline="ends", component="out")
    answer = run.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families, seen = {}, set()
    for family in text_string_to_metric_families(answer.text):
        assert family.name not in families, f"{family.name} comes twice"
        assert family.documentation and family.type != "unknown", family.name
        families[family.name] = family
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen, key
            seen.add(key)
    assert answer.text.endswith("\n")
    for line in answer.text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ", "weir_", "process_")), line
    for name in ("process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds",
                 "process_start_time_seconds", "weir_build_info", "weir_pipeline_state",
                 "weir_pipeline_ready", "weir_component_received_events"):
        assert name in families, name
    build = families["weir_build_info"].samples[0]
    assert build.value == 1 and build.labels["version"] in weir.command("--version").out
    started = families["process_start_time_seconds"].samples[0].value
    assert abs(time.time() - started) < 600
    for family in families.values():
        if family.type == "histogram":
            check_histogram(family)


def check_histogram(family):
    """Buckets grow, the last one is the count."""
    by_labels = {}
    for sample in family.samples:
        labels = {k: v for k, v in sample.labels.items() if k != "le"}
        series = by_labels.setdefault(tuple(sorted(labels.items())), {"buckets": []})
        if sample.name.endswith("_bucket"):
            series["buckets"].append((float(sample.labels["le"]), sample.value))
        else:
            series[sample.name.removeprefix(family.name)] = sample.value
    for series in by_labels.values():
        bounds, counts = zip(*series["buckets"])
        assert list(bounds) == sorted(bounds) and list(counts) == sorted(counts)
        assert bounds[0] == 0.0001 and bounds[-1] == float("inf") and counts[-1] == series["_count"]
        assert series["_sum"] >= 0


def test_the_listener_answers_nothing_else(weir):
    run = weir.start(RUNS)
    base = f"http://{run.address}"
    assert run.get("/livez").text == "ok\n"
    assert run.get("/metrics?format=x").status_code == 200
    for path in ("/", "/metrics/", "/admin", "/metricsx", "/readyz/x", "/%2e%2e/etc/passwd"):
        answer = requests.get(base + path, timeout=5)
        assert answer.status_code == 404 and "expected /metrics, /livez or /readyz" in answer.text
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = requests.request(method, base + "/metrics", data=b"x" * 100000, timeout=5)
        assert answer.status_code == 405 and answer.headers["Allow"] == "GET, HEAD", method
    head = requests.head(base + "/metrics", timeout=5)
    assert head.status_code == 200 and head.content == b"" and int(head.headers["Content-Length"]) > 1000
    assert requests.head(base + "/nothing", timeout=5).status_code == 404
    with requests.Session() as session:  # a kept connection, and a body that nobody wants
        for _ in range(3):
            assert session.get(base + "/livez", data=b"hello", timeout=5).status_code == 200


def test_slow_and_odd_clients_do_not_block_probes(weir):
    run = weir.start(RUNS)
    host, port = run.address.split(":")
    clients = [socket.create_connection((host, int(port)), timeout=5) for _ in range(30)]
    try:
        for number, client in enumerate(clients):
            client.sendall([b"GET /metr", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n"][number % 3])
        for _ in range(5):
            assert run.get("/livez").status_code == 200
            assert run.get("/metrics").status_code == 200
    finally:
        for client in clients:
            client.close()
    assert run.get("/readyz").status_code == 200


@pytest.mark.parametrize("addr", ["9100", "localhost", "host:99999", ":http", "::1:9100", "a:b:1", ":"])
def test_an_address_that_is_none(weir, addr):
    done = weir.command("run", weir.write(ENDS), "--metrics", addr)
    assert done.code == 2
    assert f'--metrics: bad address "{addr}", expected host:port, [ipv6]:port or :port' in done.err


def test_an_address_that_cannot_be_had(weir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        done = weir.command("run", weir.write(ENDS), "--metrics", addr)
    assert done.code == 1
    line = json.loads(next(li for li in done.err.splitlines() if "metrics cannot be served" in li))
    assert line["error"] == f'cannot listen on "{addr}": Address already in use'
    assert "pipeline started" not in done.err
    done = weir.command("run", weir.write(ENDS), "--metrics", "no-such-host.invalid:9100")
    assert done.code == 1 and 'cannot listen on \\"no-such-host.invalid:9100\\"' in done.err


@pytest.mark.parametrize("addr, shown", [("127.0.0.1:0", r"127\.0\.0\.1:\d+"), ("[::1]:0", r"\[::1\]:\d+"),
                                         (":0", r"(0\.0\.0\.0|\[::\]):\d+"),
                                         ("localhost:0", r"(127\.0\.0\.1|\[::1\]):\d+")])
def test_port_0_takes_a_free_one(weir, addr, shown):
    if addr == "[::1]:0" and not has_ipv6():
        pytest.skip("no IPv6 here")
    with open(weir.folder / "err", "w+b") as err:
        process = subprocess.Popen([weir.bin, "run", weir.write(RUNS), "--metrics", addr], stderr=err,
                                   env=dict(os.environ, WEIR_PLUGIN_PATH=weir.plugin_path))
        try:
            bound = wait_until(lambda: re.search(r'"metrics listening","addr":"([^"]+)"',
                                                 (weir.folder / "err").read_text()), 10)[1]
            assert re.fullmatch(shown, bound)
            reach = bound.replace("[::]", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
            assert requests.get(f"http://{reach}/livez", timeout=5).text == "ok\n"
        finally:
            process.terminate()
            assert process.wait(10) == 0


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False
