# SPDX-License-Identifier: Apache-2.0
"""The oracle: issues numbered events and knows which of them were acknowledged.

A client numbers its own events from 0. What an event holds follows from its client and its number, so that
all that has to be remembered is how many there are, and when each batch was sent and acknowledged. Keys belong
to one client, which sends the next batch only when the one before is acknowledged: of a key's events the next
is issued when the last is safe, so their order has a meaning.
"""
import http.client
import json
import threading
import time
from dataclasses import dataclass

import confluent_kafka

from flows import TOKEN

KEYS = 25
TYPES = ("page_view", "click", "login", "purchase", "logout", "search", "signup", "refund")
STREAMS = {"login": "sessions", "logout": "sessions", "signup": "sessions", "purchase": "commerce",
           "refund": "commerce"}
DAY = "2025-05-20"
BATCH = 20
CLIENTS = 8  # of each flow over HTTP
ANSWER_TIMEOUT = 12.0
CATCH_UP = 0.5  # seconds of its rate that a client makes up for after a pause


@dataclass
class Sent:
    """A batch: events [first, first + n). `acked` is None until it was."""

    first: int
    n: int
    sent: float
    acked: float | None = None
    attempts: int = 0


def platform_event(client, i):
    kind = TYPES[i % len(TYPES)]
    return (f'{{"id":"{client}-{i}","type":"{kind}","user_id":"{client}k{i % KEYS}",'
            f'"session_id":"{client}s{i % 7}","ts":"{DAY}T12:{i // 60 % 60:02d}:{i % 60:02d}Z",'
            f'"context":{{"ip":"10.0.0.{i % 250}"}},"props":{{"n":{i},"seq":{i // KEYS}}}}}')


def chain_event(client, i):
    return (f'{{"id":"{client}-{i}","user_id":"{client}k{i % KEYS}","seq":{i // KEYS},"n":{i},'
            f'"pad":"{"x" * (i % 200)}"}}')


class Client(threading.Thread):
    """Issues batches at a rate until stop(); then ends once all of them are acknowledged, or on abandon()."""

    def __init__(self, name, flow, rate):
        super().__init__(name=name, daemon=True)
        self.client, self.flow, self.rate = name, flow, rate
        self.sent = []
        self.waiting_since = None  # monotonic: a batch is not acknowledged yet
        self.problems = []
        self._stopping, self._abandoned = threading.Event(), threading.Event()

    @property
    def issued(self):
        return sum(batch.n for batch in list(self.sent))

    @property
    def acknowledged(self):
        return sum(batch.n for batch in list(self.sent) if batch.acked is not None)

    def stop(self):
        self._stopping.set()

    def abandon(self):
        self._stopping.set()
        self._abandoned.set()

    def run(self):
        interval, due, first = BATCH / self.rate, time.monotonic(), 0
        self.begin()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + interval, time.monotonic() - CATCH_UP)
            batch = Sent(first, BATCH, time.monotonic())
            first += BATCH
            self.sent.append(batch)
            self.waiting_since = batch.sent
            self.deliver(batch)
            self.waiting_since = None
        self.finish()

    def deliver(self, batch):
        """Again and again until it is acknowledged."""
        while not self._abandoned.is_set():
            batch.attempts += 1
            if self.attempt(batch):
                batch.acked = time.monotonic()
                return
            self._abandoned.wait(0.1)

    def begin(self):
        pass

    def finish(self):
        pass

    def attempt(self, batch):
        raise NotImplementedError


class HttpClient(Client):
    """Posts batches over one kept-alive connection."""

    def __init__(self, name, flow, rate, address, make):
        super().__init__(name, flow, rate)
        self._address, self._make, self._connection = address, make, None
        self._headers = {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {TOKEN}"}

    def attempt(self, batch):
        body = "".join(self._make(self.client, i) + "\n" for i in range(batch.first, batch.first + batch.n))
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._address, timeout=ANSWER_TIMEOUT)
            self._connection.request("POST", "/events", body.encode(), self._headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self._close()
            return False
        if answer.status in (408, 429, 502, 503):
            if answer.getheader("Connection", "").lower() == "close":
                self._close()
            return False
        if answer.status != 200 or json.loads(text).get("accepted") != batch.n:
            self.problems.append(f"{self.client}: {answer.status} {text[:300].decode(errors='replace')}")
            return answer.status == 202  # kept as a dead letter: reported, and not sent for ever
        return True

    def _close(self):
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def finish(self):
        self._close()


class KafkaClient(Client):
    """Writes batches to a topic as an idempotent producer, which repeats for ever by itself: an event is
    acknowledged by its delivery report."""

    def __init__(self, name, flow, rate, brokers, topic, make):
        super().__init__(name, flow, rate)
        self._brokers, self._topic, self._make = brokers, topic, make
        self._producer, self._left = None, 0

    def begin(self):
        self._producer = confluent_kafka.Producer({
            "bootstrap.servers": self._brokers, "enable.idempotence": True, "linger.ms": 5,
            "message.timeout.ms": 0, "log_level": 0, "reconnect.backoff.max.ms": 500})

    def _report(self, error, _):
        self._left -= 1
        if error is not None:
            self.problems.append(f"{self.client}: {error}")

    def attempt(self, batch):
        if batch.attempts == 1:
            self._left = batch.n
            for i in range(batch.first, batch.first + batch.n):
                self._producer.produce(self._topic, self._make(self.client, i), key=f"{self.client}k{i % KEYS}",
                                       headers=[("weir-id", f"{self.client}-{i}".encode())],
                                       on_delivery=self._report)
        deadline = time.monotonic() + 1
        while self._left > 0 and time.monotonic() < deadline:
            self._producer.poll(0.05)
        return self._left == 0

    def finish(self):
        self._producer.flush(5)


class FileClient(Client):
    """Appends lines to a file and rotates it now and then. A line that is written is acknowledged."""

    def __init__(self, name, flow, rate, folder, make):
        super().__init__(name, flow, rate)
        self._folder, self._make = folder, make
        self._file, self._written, self._rotated = None, 0, 0

    def begin(self):
        self._file = (self._folder / "app.ndjson").open("ab", buffering=0)

    def attempt(self, batch):
        text = "".join(self._make(self.client, i) + "\n" for i in range(batch.first, batch.first + batch.n))
        self._file.write(text.encode())
        self._written += len(text)
        if self._written > 1 << 20:
            self._rotate()
        return True

    def _rotate(self):
        self._rotated += 1
        (self._folder / "app.ndjson").rename(self._folder / f"app-{self._rotated:04d}.ndjson")
        self._file.close()
        self._written = 0
        self.begin()

    def finish(self):
        self._file.close()


class Oracle:
    """All clients of a round."""

    def __init__(self, setup, world, rate):
        self.clients = []
        r = setup.round
        shares = {"platform": 0.3, "edge": 0.25, "issued": 0.15, "follow": 0.15, "buffered": 0.15}
        for flow, make in (("platform", platform_event), ("edge", chain_event), ("buffered", chain_event)):
            if flow in setup.urls:
                self.clients += [HttpClient(f"{flow[0]}{r}c{i}", flow, rate * shares[flow] / CLIENTS, setup.urls[flow],
                                            make) for i in range(CLIENTS)]
        if setup.issued:
            self.clients.append(KafkaClient(f"i{r}c0", "issued", rate * shares["issued"], world.kafka.brokers,
                                            setup.issued, chain_event))
        if setup.has("follow"):
            self.clients.append(FileClient(f"f{r}c0", "follow", rate * shares["follow"], setup.logs, chain_event))

    def start(self):
        for client in self.clients:
            client.start()
        return self

    def of(self, flow):
        return [client for client in self.clients if client.flow == flow]

    def acknowledged(self, flow=None):
        return sum(c.acknowledged for c in self.clients if flow in (None, c.flow))

    def issued(self, flow=None):
        return sum(c.issued for c in self.clients if flow in (None, c.flow))

    def waiting(self, flow):
        """Batches that are sent and not acknowledged."""
        return sum(c.waiting_since is not None for c in self.of(flow))

    def finish(self, timeout):
        """Stops issuing and waits until all is acknowledged. Gives the names of clients that still wait."""
        for client in self.clients:
            client.stop()
        deadline = time.monotonic() + timeout
        for client in self.clients:
            client.join(max(0.0, deadline - time.monotonic()))
        late = [client.name for client in self.clients if client.is_alive()]
        for client in self.clients:
            client.abandon()
        for client in self.clients:
            client.join(ANSWER_TIMEOUT + 10)
        return late

    @property
    def problems(self):
        return [problem for client in self.clients for problem in client.problems]
