/* SPDX-License-Identifier: Apache-2.0
 *
 * sink.h: the parts of one Kafka sink instance, which is one idempotent producer.
 *
 *   sink_options.c  the type: options and checks
 *   sink.c          write, progress, flush, cancel
 *   sink_open.c     open and close
 *   topics.c        handles of the topics written to
 *   report.c        librdkafka's errors → verdicts
 *   serve.c         errors and statistics while nothing is written
 *
 * All of it runs on the outlet, but for wake(), cancel() and serve.c's thread.
 */
#ifndef KAFKA_SINK_H
#define KAFKA_SINK_H

#include "client.h"

#include <stdatomic.h>

struct sink_config {
    struct client_config client;
    struct weir_template *topic;
    struct weir_template *key;
    struct weir_list headers; /* struct weir_pair, TEMPLATE */
    int timestamp;            /* enum timestamp */
    int64_t linger;
    int compression; /* index into its words */
    int64_t queue;
    int64_t max_message;
};

enum timestamp { TIMESTAMP_NOW, TIMESTAMP_EVENT };

/* ---- topics.c */

/* Topics by name. Templates can make many names, so that their number is bounded. */
#define TOPICS_MOST 4096
#define TOPIC_BUCKETS 1024

struct topic {
    struct topic *next;
    rd_kafka_topic_t *handle;
    size_t under_way; /* bytes handed over of which no report has come */
    size_t limit;     /* on them, once a request was too large for the topic; NO_LIMIT: none */
    size_t proven;    /* bytes delivered since the limit was set */
    size_t refused;   /* the limit under which a request was too large; 0: none */
    uint64_t first;   /* until `reached`: ticket of the write that may add to what is under way */
    bool reached;     /* something was delivered to it, under this limit */
    bool unknown;     /* the brokers have no such topic, as far as the last message told */
    bool denied;      /* nothing may be written to it, as far as that told */
    size_t len;
    char name[];
};

#define NO_LIMIT SIZE_MAX

struct topics {
    struct topic *buckets[TOPIC_BUCKETS];
    struct topic *recent;
    uint32_t n;
};

/* The topic's handle, made where there is none. NULL with the verdict in `result`. */
struct topic *topics_get(struct topics *t, const struct weir_host *h, rd_kafka_t *rk,
                         struct weir_str name, struct weir_result *result);
/* Whether so many bytes more may go under way. */
bool topic_has_room(const struct topic *t, size_t bytes);
/* Whether an event of that write may go under way. */
bool topic_takes(struct topic *t, uint64_t ticket, size_t bytes);
/* A request that was handed over under `limit` was too large: the next ones are smaller. */
void topic_shrink(struct topic *t, size_t limit);
/* An event is too large itself: it was the cause, as far as is known. */
void topic_forget_refusal(struct topic *t);
/* A request was refused for the sake of one event, and nobody says which: they go one by one. */
void topic_isolate(struct topic *t);
/* So many bytes were delivered, and are no longer under way: after enough of them the limit is
 * tried higher. */
void topic_prove(struct topic *t, size_t bytes);
void topics_done(struct topics *t, const struct weir_host *h);

/* ---- report.c */

/* What an error means for the event. `m` is the delivery report, NULL where produce refused it;
 * `alone`: no other event was in its request; `literal`: the topic's name does not depend on the
 * event. Texts are static. */
struct weir_result verdict_of(rd_kafka_resp_err_t code, const rd_kafka_message_t *m, bool alone,
                              bool literal);
/* What RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP means where the time is that of the writing: no event is
 * to blame. */
struct weir_result wrong_clock(rd_kafka_resp_err_t code);
bool is_unknown_topic(rd_kafka_resp_err_t code);
/* True where one record of the request is to blame and this librdkafka does not say which. */
bool is_of_any_record(rd_kafka_resp_err_t code);

/* ---- sink.c */

/* A message that librdkafka holds: its opaque. */
struct slot {
    struct slot *next;
    uint64_t ticket;
    uint32_t index;
    bool alone; /* no other message can be in its request */
    struct topic *topic;
    size_t bytes;
    size_t limit; /* of the topic, when it was handed over */
};

#define SLOTS_A_CHUNK 512
struct slot_chunk {
    struct slot_chunk *next;
    struct slot slots[SLOTS_A_CHUNK];
};

/* Once an event is to be written again nothing more is handed over until no report is to come, and
 * what is queued behind it is taken back: else it would overtake that event. */
struct behind {
    bool waits;
    bool purges;         /* what is queued was handed over after that event */
    int64_t purge_ns;    /* when to take back what was put back into the queue meanwhile */
    uint64_t n_doubtful; /* taken back, though the brokers may have them */
    const char *code;    /* of the event that everything waits for */
    char text[WEIR_ERROR_TEXT / 2];
};

/* Serves the library while the outlet has nothing to write. */
struct server {
    pthread_t thread;
    bool running;
    pthread_mutex_t mutex; /* guards stop */
    pthread_cond_t changed;
    bool stop;
};

struct sink {
    struct client client; /* first: the opaque of the handle */
    const struct sink_config *cfg;
    void (*free)(void *); /* the host's: may be needed after it has gone */
    rd_kafka_t *rk;
    rd_kafka_queue_t *main_queue;
    struct topics topics;
    struct topic *literal;   /* where the topic is one */
    pthread_mutex_t polling; /* held by whoever polls the library; guards what follows */
    struct server server;
    uint64_t n_pending; /* messages of which no report has come */
    uint32_t n_denied;  /* topics */
    bool broken;        /* to be made anew: nothing more is handed over */
    struct behind behind;
    struct slot *free_slots;
    struct slot_chunk *chunks;
    struct weir_results *writing; /* the write that runs: reports for it go here */
    uint64_t writing_ticket;
    _Atomic bool cancelled;
    _Atomic bool woken; /* a poll inside a write may swallow the yield */
};

/* ---- serve.c */
void serve_init(struct sink *s);
/* Once the handle is there. False with err. */
bool serve_start(struct sink *s, struct weir_error *err);
/* Before the handle goes. */
void serve_done(struct sink *s);

/* ---- sink.c */
extern const struct weir_sink kafka_sink_calls;
/* The library's delivery report of one message. */
void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque);

/* ---- sink_options.c */
void check_topic(const struct sink_config *cfg, const struct weir_host *h, struct problems *p);
rd_kafka_conf_t *sink_conf(const struct sink_config *cfg, struct problems *p);

/* ---- sink_open.c */
enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                           struct weir_error *err);
void sink_close(void *take_self);

/* ---- memory.c */
/* Tells the host what the library keeps. Under `polling`. */
void sink_memory(const struct sink *s);

#endif
