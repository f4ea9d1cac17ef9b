# SPDX-License-Identifier: Apache-2.0
"""librdkafka's mock cluster, in the process of the test: brokers that answer as they are told.

It is that of Python's client, driven by ctypes; weir reaches it by its ports like any other cluster. It
knows topics, groups and idempotent producers, has no disk, and forgets old data at about 5 MB a partition.
"""
import ctypes
import glob
from pathlib import Path

import confluent_kafka

from weirtest import Kafka, unique_name

# Kinds of requests.
PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH = 0, 1, 2, 3, 8, 9
FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, SYNC_GROUP, INIT_PRODUCER_ID = 10, 11, 12, 14, 22

# Answers.
OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PART, NOT_LEADER, REQUEST_TIMED_OUT = 1, 3, 6, 7
COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND, ILLEGAL_GENERATION = 19, 20, 22
UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS = 25, 27
TOPIC_AUTHORIZATION_FAILED, GROUP_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED = 29, 30, 31
OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, KAFKA_STORAGE_ERROR = 45, 47, 56
UNKNOWN_PRODUCER_ID = 59


def library():
    found = glob.glob(str(Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs/librdkafka-*.so*"))
    assert len(found) == 1, found
    lib = ctypes.CDLL(found[0])
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return lib


class Mock(Kafka):
    """Up from the beginning to stop()."""

    def __init__(self, brokers=3):
        super().__init__(Path("."))
        self.lib = library()
        text = ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(self.lib.rd_kafka_conf_new())
        self.lib.rd_kafka_conf_set(conf, b"log_level", b"0", text, ctypes.c_size_t(len(text)))
        self.handle = ctypes.c_void_p(self.lib.rd_kafka_new(0, conf, text, ctypes.c_size_t(len(text))))
        assert self.handle, text.value
        self.cluster = ctypes.c_void_p(self.lib.rd_kafka_mock_cluster_new(self.handle, brokers))
        assert self.cluster
        # Members that come at once are waited for three seconds else.
        self.lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self.cluster, 100)

    @property
    def brokers(self):
        return self.lib.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()

    def stop(self):
        self.forget()
        self.lib.rd_kafka_mock_cluster_destroy(self.cluster)
        self.lib.rd_kafka_destroy(self.handle)

    def topic(self, partitions=1, name=None, replicas=1):
        name = name or unique_name("topic")
        self._done(self.lib.rd_kafka_mock_topic_create(self.cluster, name.encode(), partitions, replicas))
        return name

    def push(self, kind, *codes):
        """The next requests of that kind are answered so, whichever broker gets them; 0 is no error."""
        self.lib.rd_kafka_mock_push_request_errors_array(
            self.cluster, ctypes.c_int16(kind), ctypes.c_size_t(len(codes)), (ctypes.c_int * len(codes))(*codes))

    def clear(self, kind):
        self.lib.rd_kafka_mock_clear_request_errors(self.cluster, ctypes.c_int16(kind))

    def topic_error(self, topic, code):
        """What the brokers say of the topic in metadata, produce and fetch answers; 0: nothing."""
        self.lib.rd_kafka_mock_topic_set_error(self.cluster, topic.encode(), code)

    def leader(self, topic, partition, broker):
        self._done(self.lib.rd_kafka_mock_partition_set_leader(self.cluster, topic.encode(), partition, broker))

    def coordinator(self, group, broker):
        self._done(self.lib.rd_kafka_mock_coordinator_set(self.cluster, b"group", group.encode(), broker))

    def down(self, broker):
        self._done(self.lib.rd_kafka_mock_broker_set_down(self.cluster, broker))

    def up(self, broker):
        self._done(self.lib.rd_kafka_mock_broker_set_up(self.cluster, broker))

    @staticmethod
    def _done(code):
        assert code == 0, f"the mock cluster says {code}"
