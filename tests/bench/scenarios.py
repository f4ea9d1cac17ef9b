# SPDX-License-Identifier: Apache-2.0
"""The scenarios of scripts/bench. Each names its contenders: the limits of the libraries, weir, and the
peers that can do it. A contender is a function that does one run and gives a Run; it counts what arrived
and ends the whole bench where that is not what it should be."""
from reports import Engine, Memory, Ready
from scenarios_file import (FileDedupeBlackhole, FileDiskBlackhole, FileLuaFile, FileParseBlackhole,
                            FileParseFile, FileSampleThrottleBlackhole)
from scenarios_http import (Http1Blackhole, Http1Kafka, Http100Blackhole, Http100Disk, Http100Kafka)
from scenarios_kafka import (KafkaLuaKafka, KafkaMongoDB, KafkaParseBlackhole, KafkaRedis,
                             KafkaRedisDedupeBlackhole)

FLOWS = [FileParseBlackhole, FileParseFile, FileLuaFile, FileDedupeBlackhole, FileSampleThrottleBlackhole,
         FileDiskBlackhole, Http1Blackhole, Http100Blackhole, Http100Disk, Http1Kafka, Http100Kafka,
         KafkaParseBlackhole, KafkaLuaKafka, KafkaRedis, KafkaRedisDedupeBlackhole, KafkaMongoDB]
REPORTS = [Engine, Memory, Ready]
