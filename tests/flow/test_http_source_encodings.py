# SPDX-License-Identifier: Apache-2.0
"""The source `http`: bodies that were compressed, and bombs."""
import gzip
import json
import random
import subprocess
import zlib

import pytest
import zstandard

from http_edge import JSON, NDJSON, edge, plain, request


def raw_deflate(data):
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "deflate without zlib": raw_deflate,
        "zstd": zstandard.ZstdCompressor().compress}


def packed(name, data, headers=JSON):
    return PACK[name](data), {**headers, "Content-Encoding": name.split()[0]}


@pytest.mark.sanitize
@pytest.mark.parametrize("name", PACK)
def test_encodings(plain, name):
    for body, n in ((b'{"n":1}', 1), (json.dumps([{"n": n} for n in range(2000)]).encode(), 2000),
                    (b'["' + random.Random(1).randbytes(1 << 20).hex().encode() + b'"]', 1)):
        assert plain.post(*packed(name, body))[:2] == (200, {"accepted": n})
    assert plain.post(*packed(name, b'{"n":1}\n{"n":2}', NDJSON))[:2] == (200, {"accepted": 2})
    chunks = packed(name, b'[{"n":3}]')
    conn = plain.connect()
    conn.request("POST", "/events", iter([bytes([b]) for b in chunks[0]]), chunks[1], encode_chunked=True)
    assert conn.getresponse().status == 200


def test_several_frames_of_zstd_and_one_with_a_large_window(plain):
    pack = zstandard.ZstdCompressor()
    body = pack.compress(b'[{"n":1},') + pack.compress(b'{"n":2}]')
    assert plain.post(body, {**JSON, "Content-Encoding": "ZSTD"})[:2] == (200, {"accepted": 2})
    rng = random.Random(1)
    text = b'"' + bytes(rng.randrange(97, 123) for _ in range(1 << 20)) * 9 + b'"'
    for log, status in ((23, 200), (27, 400)):  # what RFC 9659 allows, and more
        params = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=True)
        sent = zstandard.ZstdCompressor(compression_params=params).compressobj()
        data = sent.compress(text) + sent.flush()
        assert plain.post(data, {**JSON, "Content-Encoding": "zstd"})[0] == status


@pytest.mark.sanitize
@pytest.mark.parametrize("name", PACK)
def test_broken_streams(plain, name):
    good, headers = packed(name, b'{"n":1,"pad":"' + bytes(range(97, 123)) * 20 + b'"}')
    code = "bad_" + name.split()[0]
    broken = [b"", good[:-1], good[:len(good) // 2], good[:5], good + b"x", b'{"n":1}', b"\0" * 100]
    for body in broken:
        status, answer, _ = plain.post(body, headers)
        assert status == 400 and answer["error"]["code"] == code, (body, answer)
        assert name.split()[0] in answer["error"]["message"]
        assert 0 <= answer["error"]["offset"] <= len(body)
    rng = random.Random(name)
    for _ in range(200):
        body = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        assert plain.post(bytes(body), headers)[0] in (200, 400)
    assert plain.post(good, headers)[0] == 200


def bomb(name, size):
    """`size` zero bytes, packed as well as the encoding can."""
    if name == "zstd":
        packer = zstandard.ZstdCompressor(level=3).compressobj()
    else:
        packer = zlib.compressobj(9, zlib.DEFLATED, {"gzip": 31, "deflate": 15}[name.split()[0]]
                                  if name != "deflate without zlib" else -15)
    return b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(size >> 20)) + packer.flush()


@pytest.mark.parametrize("name", PACK)
def test_bombs(edge, name):
    e = edge("max_decompressed: 32MiB\n    max_body: 1MiB")
    data, headers = bomb(name, 160 << 20), {**JSON, "Content-Encoding": name.split()[0]}
    before = e.running.metric("process_resident_memory_bytes")
    for _ in range(5):
        status, answer, _ = e.post(data, headers)
        assert status == 413 and answer["error"]["code"] in ("ratio_too_high", "body_too_large"), answer
    assert e.running.metric("process_resident_memory_bytes") < before + (128 << 20)
    assert e.post(b'{"n":1}')[0] == 200


def test_the_ratio_counts_from_a_megabyte_on(edge):
    e = edge("max_ratio: 10")
    small, large = b'"' + b"a" * ((1 << 20) - 2) + b'"', b'"' + b"a" * (1 << 20) + b'"'
    for name in PACK:
        assert e.post(*packed(name, small))[0] == 200
        status, answer, _ = e.post(*packed(name, large))
        assert (status, answer["error"]["code"]) == (413, "ratio_too_high")
        assert "10 times" in answer["error"]["message"]
    noise = json.dumps([random.Random(n).random() for n in range(100000)]).encode()
    assert len(noise) > 1 << 20 and e.post(*packed("gzip", noise))[:2] == (200, {"accepted": 100000})


def test_many_bombs_at_once_stay_within_the_bounds(edge):
    e = edge("max_decompressed: 16MiB\n    max_body: 1MiB\n    max_in_flight: 20MiB\n    max_ratio: 5000")
    data = gzip.compress(b'"' + b"a" * (15 << 20) + b'"')
    before = e.running.metric("process_resident_memory_bytes")
    with_many = [e.socket() for _ in range(16)]
    for s in with_many:
        s.sendall(request(data, "Content-Encoding: gzip\r\nConnection: close\r\n"))
    statuses = []
    for s in with_many:
        answer = b""
        while part := s.recv(65536):
            answer += part
        statuses.append(int(answer.split()[1]))
    assert set(statuses) <= {200, 429} and 200 in statuses
    assert e.running.metric("process_resident_memory_bytes") < before + (200 << 20)


def test_curl_and_the_tools_of_a_shell(plain, tmp_path):
    (tmp_path / "body").write_bytes(b'{"n":1}\n{"n":2}\n')
    done = subprocess.run(f"gzip -c {tmp_path}/body | curl -sS --data-binary @- -H 'Content-Encoding: gzip' "
                          f"-H 'Content-Type: application/x-ndjson' http://127.0.0.1:{plain.port}/events",
                          shell=True, capture_output=True, text=True, timeout=20)
    assert done.stdout == '{"accepted":2}', done
