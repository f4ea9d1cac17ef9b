# SPDX-License-Identifier: Apache-2.0
"""What the tests of the sink mongodb share: pipelines, what they are fed, what they leave."""
import json


def pipeline(uri, database, sink="", source="path: in.ndjson", more="", collection="events"):
    return f"""\
name: store
sources: {{in: {{type: file, {source}}}}}
sinks:
  store:
    type: mongodb
    inputs: [in]
    uri: "{uri}"
    database: {database}
    collection: {collection}
    retry: {{initial: 50ms, max: 500ms}}
{sink}
  failed: {{type: file, path: failed.ndjson}}
dead_letter: failed
{more}
"""


def lines(*values):
    return "".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in values)


def dead(weir):
    path = weir.folder / "failed.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def stored(db, collection="events", by="_id"):
    return {doc[by]: doc for doc in db[collection].find()}


def write_pipeline(db, options, uri=None, collection="events", source="path: in.ndjson", type_="file"):
    """`options` as YAML, indented by four."""
    return f"""\
name: store
sources: {{in: {{type: {type_}, {source}}}}}
sinks:
  store:
    type: mongodb
    inputs: [in]
    uri: "{uri or db.client_uri}"
    database: {db.name}
    collection: {collection}
    retry: {{initial: 50ms, max: 500ms, attempts: 3}}
{options}
  failed: {{type: file, path: failed.ndjson}}
dead_letter: failed
shutdown_timeout: 2s
"""


def feed(weir, *values):
    weir.write("".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in values),
               "in.ndjson")
