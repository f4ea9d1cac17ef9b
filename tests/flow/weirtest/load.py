# SPDX-License-Identifier: Apache-2.0
"""Clients that post events to an http source until each one is answered 200."""
import json
import queue
import threading
import time

import requests

# What a good client sends again: the same events with the same ids.
AGAIN = (429, 502, 503)


class Load:
    """Posts batches of events from several threads over kept-alive connections.

    load = Load(url, events, batch=500, clients=4, token="t", rate=None).start()
                             rate: events a second at most, all clients together
    load.wait_answered(1000)   until so many events were answered 200
    load.join()                until all were; fails the test where an answer was unexpected
    load.answered              ids answered 200 so far; load.repeated: batches that were sent again
    """

    def __init__(self, url, events, batch=500, clients=4, token=None, timeout=60,
                 rate=None):
        self.url = url
        self.rate = rate
        self.headers = {"Content-Type": "application/x-ndjson"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self.timeout = timeout
        self.total = len(events)
        self.answered = set()
        self.repeated = 0
        self.problems = []
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._batches = queue.SimpleQueue()
        for at in range(0, len(events), batch):
            self._batches.put((at, events[at:at + batch]))
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]

    def start(self):
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def _work(self):
        session = requests.Session()
        while not self.problems:
            try:
                at, batch = self._batches.get_nowait()
            except queue.Empty:
                return
            if self.rate:
                time.sleep(max(0.0, self.began + at / self.rate - time.monotonic()))
            body = "".join(json.dumps(event) + "\n" for event in batch).encode()
            while not self.problems and not self._post(session, body, batch):
                with self._lock:
                    self.repeated += 1
                time.sleep(0.1)

    def _post(self, session, body, batch):
        try:
            answer = session.post(self.url, body, headers=self.headers, timeout=self.timeout)
        except requests.RequestException:
            session.close()
            return False
        if answer.status_code in AGAIN:
            return False
        if answer.status_code != 200 or answer.json().get("accepted") != len(batch):
            with self._lock:
                self.problems.append(f"{answer.status_code} {answer.text[:500]}")
            return False
        with self._lock:
            self.answered.update(event["id"] for event in batch)
        return True

    def wait_answered(self, n, timeout=120):
        deadline = time.monotonic() + timeout
        while len(self.answered) < n:
            assert not self.problems, f"unexpected answer: {self.problems[0]}"
            assert time.monotonic() < deadline, \
                f"{len(self.answered)} of {n} events were answered within {timeout} s"
            time.sleep(0.01)

    def join(self, timeout=300):
        """Gives the seconds that it took."""
        self.wait_answered(self.total, timeout)
        for thread in self._threads:
            thread.join(10)
        return time.monotonic() - self.began
