/* SPDX-License-Identifier: Apache-2.0
 *
 * What librdkafka says of a message → the event's verdict. Rejected is what will never be taken;
 * unavailable what is the cluster's or the operator's matter and says nothing about the event.
 */
#include "sink.h"

/* Of librdkafka 2.4 and later: another record of the same request was invalid. */
#define ERR_DIFFERENT_RECORD ((rd_kafka_resp_err_t)-138)

static const struct row {
    rd_kafka_resp_err_t code;
    enum weir_verdict verdict;
    const char *word;
    const char *message; /* NULL: librdkafka's */
} rows[] = {
    {RD_KAFKA_RESP_ERR_NO_ERROR, WEIR_VERDICT_OK, NULL, ""},
    {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, WEIR_VERDICT_REJECTED, "bad_topic", NULL},
    {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, WEIR_VERDICT_REJECTED, "policy", NULL},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, WEIR_VERDICT_REJECTED, "unsupported", NULL},
    {ERR_DIFFERENT_RECORD, WEIR_VERDICT_RETRY, "neighbor_invalid",
     "another event of the same request was refused"},
    {RD_KAFKA_RESP_ERR__QUEUE_FULL, WEIR_VERDICT_UNAVAILABLE, "queue_full",
     "the producer's queue is full: the brokers take events more slowly than they come"},
    {RD_KAFKA_RESP_ERR__PURGE_QUEUE, WEIR_VERDICT_UNAVAILABLE, "canceled",
     "given up at the shutdown before it was sent"},
    {RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, WEIR_VERDICT_UNAVAILABLE, "canceled",
     "given up at the shutdown before the broker had answered"},
    {RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, WEIR_VERDICT_UNAVAILABLE, "timeout", NULL},
    {RD_KAFKA_RESP_ERR__TIMED_OUT, WEIR_VERDICT_UNAVAILABLE, "timeout", NULL},
    {RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, WEIR_VERDICT_UNAVAILABLE, "timeout", NULL},
    {RD_KAFKA_RESP_ERR__TRANSPORT, WEIR_VERDICT_UNAVAILABLE, "connection", NULL},
    {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, WEIR_VERDICT_UNAVAILABLE, "connection", NULL},
    {RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, WEIR_VERDICT_UNAVAILABLE, "no_leader", NULL},
    {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, WEIR_VERDICT_UNAVAILABLE, "no_leader", NULL},
    {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, WEIR_VERDICT_UNAVAILABLE, "few_replicas", NULL},
    {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, WEIR_VERDICT_UNAVAILABLE, "few_replicas",
     NULL},
    {RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, WEIR_VERDICT_UNAVAILABLE, "storage", NULL},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, WEIR_VERDICT_UNAVAILABLE, "denied", NULL},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, WEIR_VERDICT_UNAVAILABLE, "denied", NULL},
    {RD_KAFKA_RESP_ERR__AUTHENTICATION, WEIR_VERDICT_UNAVAILABLE, "denied", NULL},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, WEIR_VERDICT_UNAVAILABLE, "denied", NULL},
    /* Some versions of librdkafka give up these messages alone and go on behind them. */
    {RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, WEIR_VERDICT_REOPEN, "fatal", NULL},
    {RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, WEIR_VERDICT_REOPEN, "fatal", NULL},
    {RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, WEIR_VERDICT_REOPEN, "fatal", NULL},
    {RD_KAFKA_RESP_ERR__FATAL, WEIR_VERDICT_REOPEN, "fatal", NULL},
    {RD_KAFKA_RESP_ERR__STATE, WEIR_VERDICT_REOPEN, "fatal", NULL},
};

static struct weir_result result(rd_kafka_resp_err_t code, enum weir_verdict verdict,
                                 const char *word, const char *message)
{
    struct weir_result r = {.verdict = (uint32_t)verdict, .number = code, .code = word};
    r.message = weir_cstr(message != NULL ? message : rd_kafka_err2str(code));
    return r;
}

bool is_unknown_topic(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
           code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

static bool errors_are_per_record(void)
{
    return rd_kafka_version() >= 0x02040000;
}

bool is_of_any_record(rd_kafka_resp_err_t code)
{
    return (code == RD_KAFKA_RESP_ERR_INVALID_RECORD ||
            code == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP) &&
           !errors_are_per_record();
}

static struct weir_result invalid_record(rd_kafka_resp_err_t code, bool alone)
{
    if (!alone && is_of_any_record(code))
        return result(code, WEIR_VERDICT_RETRY, "neighbor_invalid",
                      "it or another event of the same request was refused: sent again one by one");
    return result(
        code, WEIR_VERDICT_REJECTED, "invalid_record",
        "the broker refuses the record: a compacted topic takes none without a key, and a "
        "topic may refuse its time (see the option timestamp)");
}

static struct weir_result invalid_time(rd_kafka_resp_err_t code, bool alone)
{
    if (!alone && is_of_any_record(code))
        return result(code, WEIR_VERDICT_RETRY, "neighbor_invalid",
                      "it or another event of the same request has a time that the topic refuses: "
                      "sent again one by one");
    return result(code, WEIR_VERDICT_REJECTED, "invalid_time",
                  "the event's time lies further from now than the topic's "
                  "message.timestamp.before.max.ms or message.timestamp.after.max.ms allow: see "
                  "the option timestamp");
}

struct weir_result wrong_clock(rd_kafka_resp_err_t code)
{
    return result(
        code, WEIR_VERDICT_UNAVAILABLE, "clock",
        "the broker refuses the time of this machine (timestamp: now): one of the two clocks "
        "is wrong, or the topic's message.timestamp.before.max.ms or "
        "message.timestamp.after.max.ms is too small; waiting until it is taken");
}

static struct weir_result too_large(rd_kafka_resp_err_t code, const rd_kafka_message_t *m,
                                    bool alone)
{
    if (m == NULL)
        return result(code, WEIR_VERDICT_REJECTED, "too_large",
                      "larger than the option max_message");
    if (alone)
        return result(code, WEIR_VERDICT_REJECTED, "too_large",
                      "larger than the topic's max.message.bytes or segment.bytes");
    return result(code, WEIR_VERDICT_RETRY, "request_too_large",
                  "it and others of its request together are larger than the topic's "
                  "max.message.bytes: sent again in smaller requests");
}

/* The name alone decides: one fixed topic is missing for all events, and waits for its creation;
 * one made from the event may never exist. */
static struct weir_result unknown_topic(rd_kafka_resp_err_t code, bool literal)
{
    return result(code, literal ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_REJECTED, "unknown_topic",
                  literal ? "the topic does not exist: waiting until somebody creates it"
                          : "the topic that the event asks for does not exist");
}

struct weir_result verdict_of(rd_kafka_resp_err_t code, const rd_kafka_message_t *m, bool alone,
                              bool literal)
{
    switch ((int)code) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
        return too_large(code, m, alone);
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
        return invalid_record(code, alone);
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
        return invalid_time(code, alone);
    default:
        break;
    }
    if (is_unknown_topic(code))
        return unknown_topic(code, literal);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].code == code)
            return result(code, rows[i].verdict, rows[i].word, rows[i].message);
    return result(code, WEIR_VERDICT_RETRY, "kafka_error", NULL);
}
