# SPDX-License-Identifier: Apache-2.0
"""Helpers of the flow tests: real servers and running weirs.

    servers.py   Kafka, Redis, MongoDB: a process each, with the calls that tests need
    process.py   Weir: starts the binary with a pipeline file, reads its logs and metrics
    metrics.py   the text of /metrics as numbers
    load.py      clients that post events until each is answered
    tools.py     free ports, waiting, unique names, test events

The fixtures are in ../conftest.py.
"""
from .load import Load
from .metrics import Metrics
from .process import Checked, Running, WeirBinary
from .servers import Kafka, Message, MongoDB, Redis, Server
from .tools import events, free_port, unique_name, wait_until

__all__ = [
    "Checked", "Kafka", "Load", "Message", "Metrics", "MongoDB", "Redis", "Running", "Server",
    "WeirBinary", "events", "free_port", "unique_name", "wait_until",
]
