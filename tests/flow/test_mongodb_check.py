# SPDX-License-Identifier: Apache-2.0
"""What `weir check` says of configurations of the sink mongodb, without a server."""
import json
import os
import subprocess
from pathlib import Path

import pytest


def pipeline(uri, sink=""):
    return f"""\
name: store
sources: {{in: {{type: file, path: in.ndjson}}}}
sinks:
  store:
    type: mongodb
    inputs: [in]
    uri: "{uri}"
    database: d
    collection: c
{sink}
  failed: {{type: file, path: failed.ndjson}}
dead_letter: failed
"""


GOOD = {"uri": "mongodb://h/", "database": "d", "collection": "c"}

WRONG = [
    ({"uri": None}, "uri", "is missing"),
    ({"database": None}, "database", "is missing"),
    ({"collection": None}, "collection", "is missing"),
    ({"uri": "h:27017"}, "uri", "mongodb://"),
    ({"uri": "mongodb://"}, "uri", "host"),
    ({"uri": "mongodb://u:s3cret:x@h/"}, "uri", "percent-encoded"),
    ({"uri": "mongodb://u:s3cret@h:99999/"}, "uri", "Port"),
    ({"uri": "mongodb://u:s3cret@h/?sockettimoutms=5"}, "uri", "Unsupported"),
    ({"uri": "mongodb://u:s3cret@h/?socketTimeoutMS=s3cret"}, "uri", "sockettimeoutms"),
    ({"uri": "mongodb://h/?w=0"}, "uri", "w=0"),
    ({"uri": "mongodb://h/?tls=true&tlsCAFile=/nowhere/ca.pem"}, "uri", "cannot be read"),
    ({"uri": "mongodb://h/?tls=true&tlsDisableOCSPEndpointCheck=true"}, "uri", "not supported"),
    ({"uri": "mongodb://h/?authMechanism=SCRAM-SHA-256"}, "uri", "username"),
    ({"uri": "mongodb://u:p@h/?authMechanism=SCRAM-SHA-512"}, "uri", "SCRAM-SHA-256"),
    ({"uri": "mongodb://h/?sslClientCertificateKeyPassword=s3cret1&tlsCertificateKeyFilePassword=s3cret2"},
     "uri", "sslclientcertificatekeypassword=***"),
    ({"uri": "mongodb://h/?compressors=foo"}, "uri", "Unsupported compressor"),
    ({"database": "a.b"}, "database", "one of"),
    ({"database": "x" * 64}, "database", "63 bytes"),
    ({"collection": "system.users"}, "collection", "server"),
    ({"collection": "a$b"}, "collection", "$"),
    ({"collection": "x" * 254}, "collection", "255 bytes"),
    ({"collection": "{{ type }}"}, "collection", "literal"),
    ({"database": "{{ tenant }}"}, "database", "literal"),
    ({"mode": "upsert"}, "mode", "insert, replace, update, delete"),
    ({"id": "fixed"}, "id", "no placeholder"),
    ({"id": "{{ user_id"}, "id", "}}"),
    ({"object_ids": True, "id": "{{ x }}"}, "object_ids", "id is given as well"),
    ({"object_ids": True, "mode": "replace"}, "object_ids", "mode replace"),
    ({"dates": ["a..b"]}, "dates[0]", "empty"),
    ({"dates": ["ts", "_id.x"]}, "dates[1]", "the fields of an _id"),
    ({"write_concern": {"w": 0}}, "write_concern.w", "nothing could be known"),
    ({"write_concern": {"w": 51}}, "write_concern.w", "1 to 50"),
    ({"write_concern": {"timeout": "1us"}}, "write_concern.timeout", "1ms"),
    ({"write_concern": {"wtimeout": "1s"}}, "write_concern.wtimeout", "timeout"),
    ({"colection": "x"}, "colection", "collection"),
    ({"filter": {"a": 1}}, "filter", "update and delete"),
    ({"mode": "replace", "update": {"$set": {"a": 1}}}, "update", "mode update"),
    ({"mode": "delete", "update": {"$set": {"a": 1}}}, "update", "mode update"),
    ({"mode": "replace", "upsert": True}, "upsert", "replace always"),
    ({"many": True}, "many", "update and delete"),
    ({"hint": "x"}, "hint", "update and delete"),
    ({"mode": "update", "hint": 5}, "hint", "an index's name"),
    ({"mode": "update", "hint": {}}, "hint", "an index's name"),
    ({"mode": "delete", "many": True, "filter": {}}, "filter", "every document"),
    ({"mode": "update", "filter": "{{ a }}"}, "filter", "expected a map"),
    ({"mode": "update", "filter": {"a": "{{ a"}}, "filter.a", "}}"),
    ({"mode": "update", "filter": {"a": 1}, "id": "{{ a }}"}, "id", "beside filter"),
    ({"mode": "update", "update": {"a": 1}}, "update", "operators"),
    ({"mode": "update", "update": {}}, "update", "operators"),
    ({"mode": "update", "update": []}, "update", "operators"),
    ({"mode": "update", "update": [5]}, "update", "operators"),
    ({"mode": "update", "update": "$set"}, "update", "operators"),
    ({"mode": "update", "update": {"$set": {"a": ["{{ @nothing }}"]}}}, "update.$set.a[0]",
     "unknown metadata"),
    ({"mode": "update", "update": {"$set": {"{{ a }}": 1}}}, "update.$set.{{ a }}", "literal text"),
    ({"mode": "update", "update": {"${{ a }}": {"b": 1}}}, "update.${{ a }}", "no operator"),
    ({"mode": "update", "filter": {"$where": "this.a == {{ a }}"}}, "filter.$where", "operators"),
    ({"mode": "update", "update": {"$rename": {"a": "{{ b }}"}}}, "update.$rename.a", "any field"),
    ({"mode": "update", "update": {"$set": {"a.{{ b": 1}}}, "update.$set.a.{{ b", "}}"),
    ({"mode": "update", "update": {"$set": {"a": {"$oid": {"b": 1}}}}}, "update.$set.a", "a text"),
    ({"mode": "update", "update": {"$set": {"a": 1}}, "array_filters": {"x": 1}}, "array_filters",
     "a list"),
    ({"mode": "update", "array_filters": [{"x": 1}]}, "array_filters", "update by operators"),
    ({"mode": "update", "update": {"$set": {"a": 1}}, "dates": ["ts"]}, "dates", "$date"),
    ({"mode": "update", "update": {"$set": {"a": 1}}, "types": {"a": "uuid"}}, "types", "$oid"),
    ({"mode": "delete", "dates": ["ts"]}, "dates", "insert and replace"),
    ({"mode": "delete", "filter": {"a": 1}, "types": {"_id": "uuid"}}, "types", "$oid"),
    ({"types": {"a": "datum"}}, "types.a", "date, date_ms"),
    ({"types": {"a..b": "date"}}, "types.a..b", "empty"),
    ({"types": {"ts": "uuid"}, "dates": ["ts"]}, "types.ts", "another type"),
    ({"indexes": [{"unique": True}]}, "indexes[0].keys", "missing"),
    ({"indexes": [{"keys": {}}]}, "indexes[0].keys", "such as {ts: 1}"),
    ({"indexes": [{"keys": {"a": 2}}]}, "indexes[0].keys", "expected 1, -1"),
    ({"indexes": [{"keys": {"a": 1, "b": 1}, "expire_after": "1d"}]}, "indexes[0].expire_after",
     "one field"),
    ({"indexes": [{"keys": {"a": 1}, "expire_after": "0s"}]}, "indexes[0].expire_after", "1s"),
    ({"indexes": [{"keys": {"a": 1}, "partial": 5}]}, "indexes[0].partial", "expected a map"),
    ({"time_series": {"time_field": "ts"}, "dates": ["ts"], "indexes": [{"keys": {"m": 1}, "unique": True}]},
     "indexes[0].unique", "no unique indexes"),
    ({"time_series": {"meta_field": "m"}}, "time_series", "time_field is missing"),
    ({"time_series": {"time_field": "ts"}}, "time_series.time_field", "dates or types"),
    ({"time_series": {"time_field": "ts", "expire_after": "10ms"}, "dates": ["ts"]},
     "time_series.expire_after", "1s"),
    ({"time_series": {"time_field": "ts"}, "dates": ["ts"], "mode": "replace"}, "time_series",
     "insert only"),
    ({"time_series": {"time_field": "ts", "granularity": "days"}, "dates": ["ts"]},
     "time_series.granularity", "hours"),
]


@pytest.mark.parametrize("change, path, text", WRONG, ids=[f"{w[1]}-{i}" for i, w in enumerate(WRONG)])
def test_wrong_configurations(weir, change, path, text):
    sink = {k: v for k, v in {"type": "mongodb", "inputs": ["in"], **GOOD, **change}.items()
            if v is not None}
    config = {"sources": {"in": {"type": "file", "path": "in.ndjson"}},
              "sinks": {"store": sink, "failed": {"type": "file", "path": "f"}},
              "dead_letter": "failed"}
    checked = weir.check(json.dumps(config, indent=1) + "\n", format="json", expect=1)
    found = [d for d in checked.json if d["path"].startswith(f"sinks.store.{path}".rstrip("."))
             or d["path"] == "sinks.store"]
    assert len(found) == 1, checked
    assert text.lower() in json.dumps(found[0], ensure_ascii=False).lower(), checked
    assert "s3cret" not in json.dumps({k: v for k, v in found[0].items() if k != "source"}), checked


def test_options_of_the_uri_without_effect(weir):
    checked = weir.check(pipeline("mongodb://h/?maxPoolSize=5"), format="json", expect=0)
    assert [(d["path"], d["severity"]) for d in checked.json] == [("sinks.store.uri", "warning")]
    assert "maxpoolsize has no effect" in checked.json[0]["message"]


def test_right_configurations(weir):
    for uri in ("mongodb://h", "mongodb://a:1,b:2/db?replicaSet=rs&w=majority&journal=true",
                "mongodb://u:p%40ss@h/?authSource=admin&tls=true", "mongodb+srv://cluster.example.net/",
                "mongodb://%2Ftmp%2Fm.sock/"):
        weir.check(pipeline(uri, """\
    id: "{{ user_id }}"
    mode: replace
    dates: [ts, items.at]
    write_concern: {w: majority, journal: true, timeout: 5s}"""), expect=0)


def test_what_a_killed_process_of_this_id_left_is_no_matter(weir):
    """Its shared memory, which would have libmongoc complain on standard error."""
    path = weir.write(pipeline("mongodb://h/"))
    done = subprocess.run(["sh", "-c", "echo $$; : >/dev/shm/mongoc-$$; exec \"$@\"", "sh", weir.bin, "check", path],
                          capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, WEIR_PLUGIN_PATH=weir.plugin_path))
    Path("/dev/shm/mongoc-" + done.stdout.split()[0]).unlink()
    assert done.stderr == "" and "ok: pipeline" in done.stdout
