# SPDX-License-Identifier: Apache-2.0
"""What the tests of dedupe and redis_dedupe share."""
import json

import requests

from weirtest import free_port


def pipeline(transform, source="{type: file, path: in.ndjson}", sink="type: file, path: out.ndjson", more="",
             name="dedupe"):
    return f"""\
name: {name}
sources: {{in: {source}}}
transforms: {{d: {{inputs: [in], {transform}}}}}
sinks:
  out: {{{sink}, inputs: [d]}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
{more}
"""


def read(weir, name="out.ndjson"):
    path = weir.folder / name
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def duplicates(running):
    return running.metric("weir_component_discarded_events_total", component="d", reason="duplicate")


class Web:
    """A source http, and who posts to it."""

    def __init__(self):
        self.port = free_port()
        self.source = f"{{type: http, address: '127.0.0.1:{self.port}', request_timeout: 60s}}"

    def post(self, body, key=None):
        headers = {"Idempotency-Key": key} if key is not None else {}
        return requests.post(f"http://127.0.0.1:{self.port}/events", json=body, headers=headers, timeout=60)


def kafka_source(kafka, topic, more=""):
    return f"{{type: kafka, brokers: '{kafka.brokers}', topics: [{topic}], group: {topic}, start: earliest{more}}}"
