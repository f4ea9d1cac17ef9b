# SPDX-License-Identifier: Apache-2.0
"""The two ends of a soak run, on one event loop: clients that offer events at a rate, whatever becomes of
them, and a sink that takes them at a rate of its own. Both write into one ledger, by the events' numbers."""
import asyncio
import json
import time

BATCH = 20  # events a request
PAD = "x" * 300


class Ledger:
    """What became of each event. Grows with the numbers given out."""

    def __init__(self):
        self.acknowledged, self.delivered = bytearray(), bytearray()
        self.offered = self.refused = self.failed = self.odd = 0
        self.odd_example = ""

    def offer(self, n):
        first = len(self.acknowledged)
        self.acknowledged.extend(bytes(n))
        self.delivered.extend(bytes(n))
        self.offered += n
        return first

    def acknowledge(self, first, n):
        self.acknowledged[first:first + n] = b"\1" * n

    def deliver(self, numbers):
        for n in numbers:
            self.delivered[n] = min(255, self.delivered[n] + 1)

    def strange(self, example):
        self.odd += 1
        self.odd_example = self.odd_example or str(example)[:300]

    def totals(self):
        lost = sum(1 for a, d in zip(self.acknowledged, self.delivered) if a and not d)
        return {"offered": self.offered, "acknowledged": sum(self.acknowledged), "refused": self.refused,
                "failed": self.failed, "delivered": sum(1 for d in self.delivered if d),
                "repeated": sum(d - 1 for d in self.delivered if d > 1), "lost": lost, "odd": self.odd,
                "odd_example": self.odd_example}


async def read_message(reader):
    """(first line, headers, body) of a request or an answer; None at the end."""
    line = await reader.readline()
    if not line:
        return None
    headers = {}
    while (more := (await reader.readline()).strip()):
        name, _, value = more.partition(b":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get(b"content-length", 0)))
    return line, headers, body


class SlowSink:
    """An HTTP server that takes `rate` events a second."""

    def __init__(self, ledger, rate):
        self.ledger, self.rate, self.free_at, self.server = ledger, rate, 0.0, None
        self.tasks = set()

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            while (message := await read_message(reader)) is not None:
                items = json.loads(message[2])
                now = time.monotonic()
                self.free_at = max(now, self.free_at) + len(items) / self.rate
                await asyncio.sleep(self.free_at - now)
                assert all(item["seen"] for item in items), "the hook has seen it"
                self.ledger.deliver(item["n"] for item in items)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as error:  # a body that is none: the report says so
            self.ledger.strange(repr(error))
        finally:
            self.tasks.discard(asyncio.current_task())
            writer.close()

    async def close(self):
        self.server.close()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5)


class Clients:
    """Connections that offer `rate` events a second together, in the order of their turns. A client whose
    turn comes while its last request waits misses nothing: another one takes it, while there are any."""

    def __init__(self, ledger, port, rate, n):
        self.ledger, self.port, self.rate, self.n = ledger, port, rate, n
        self.stopping, self.turns, self.tasks = False, asyncio.Queue(), []

    def start(self):
        self.tasks = [asyncio.create_task(self._client()) for _ in range(self.n)]
        self.tasks.append(asyncio.create_task(self._pace()))

    async def _pace(self):
        began, given = time.monotonic(), 0
        while not self.stopping:
            due = int((time.monotonic() - began) * self.rate / BATCH)
            for _ in range(due - given):
                if self.turns.qsize() < self.n:  # else all are busy: it is offered no more than they can
                    self.turns.put_nowait(True)
            given = due
            await asyncio.sleep(0.01)

    async def _client(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while await self.turns.get():
            first = self.ledger.offer(BATCH)
            body = "\n".join(json.dumps({"n": n, "type": "soak", "pad": PAD}) for n in range(first, first + BATCH)).encode()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"POST /events HTTP/1.1\r\nHost: soak\r\nContent-Type: application/x-ndjson\r\n"
                             b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
                message = await read_message(reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                message = None
                self.ledger.failed += BATCH
                if not self.stopping:
                    self.ledger.strange(repr(error))
            else:
                self._heard(first, message)
            if message is None or message[1].get(b"connection") == b"close":
                if writer is not None:
                    writer.close()
                reader = writer = None
        if writer is not None:
            writer.close()

    def _heard(self, first, message):
        if message is None:
            self.ledger.failed += BATCH
            return
        status = int(message[0].split()[1])
        if status == 200 and json.loads(message[2])["accepted"] == BATCH:
            self.ledger.acknowledge(first, BATCH)
        elif status in (429, 503) and int(message[1].get(b"retry-after", 0)) >= 1:
            self.ledger.refused += BATCH
        else:
            self.ledger.failed += BATCH
            self.ledger.strange(message)

    async def stop(self):
        """No more is offered; what is under way is waited for."""
        self.stopping = True
        while not self.turns.empty():
            self.turns.get_nowait()
        for _ in range(self.n):
            self.turns.put_nowait(False)
        await asyncio.gather(*self.tasks)
