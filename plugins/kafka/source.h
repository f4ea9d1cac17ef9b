/* SPDX-License-Identifier: Apache-2.0
 *
 * source.h: the parts of one Kafka source instance, which is one lane's consumer.
 *
 *   source_options.c  the type: options and checks
 *   source.c          the poll
 *   source_open.c     open and close
 *   parts.c           the assigned partitions: look-up, pause, resume
 *   lag.c             how far behind they are
 *   fetch.c           keeps the library fetching
 *   memory.c          what it keeps in memory
 *   start.c           where to begin in a partition
 *   gone.c            messages that were gone before they were read
 *   mark.c            ids of messages whose topic was made again
 *   rights.c          what the brokers deny
 *   ask.c             questions to the brokers, by a thread
 *   commit.c          watermarks into the consumer group
 *   rebalance.c       taking partitions on and handing them over
 *   message.c         a message of librdkafka → an event
 *
 * All of it runs on the lane, but for wake() and the thread of ask.c.
 */
#ifndef KAFKA_SOURCE_H
#define KAFKA_SOURCE_H

#include "client.h"

#include <stdatomic.h>

struct source_config {
    struct client_config client;
    struct weir_list topics; /* of struct weir_str */
    struct weir_str group;
    int start; /* enum start */
    struct weir_str start_time;
    int64_t start_ago;
    int64_t start_offset;
    int assignment; /* enum assignment */
    struct weir_str instance_id;
    int64_t commit_interval;
    int64_t drain_deadline; /* 0: from max.poll.interval.ms */
    int64_t prefetch;       /* bytes */
    bool stop_at_end;
    bool start_over;
};

enum start { START_EARLIEST, START_LATEST, START_TIME, START_OFFSET };
enum assignment { ASSIGN_AUTO, ASSIGN_RANGE, ASSIGN_ROUNDROBIN, ASSIGN_COOPERATIVE };

/* No offset known. */
#define NO_OFFSET INT64_C(-1)

/* One assigned partition. Its life is one weir_stream's. */
struct part {
    struct weir_origin origin; /* of `topic` */
    struct weir_stream *stream;
    int64_t watermark;                 /* everything before it has ended */
    int64_t committed;                 /* what the group is known to hold of ours */
    int64_t stop;                      /* nothing from there on is taken; NO_OFFSET: all is */
    int64_t end;                       /* where a fetch last met the end of the partition */
    int64_t log_end;                   /* what the brokers last said its end is */
    int64_t first_offset;              /* of the message emitted first */
    int64_t last_offset, last_time_ms; /* of the message emitted last */
    size_t last_len;
    int64_t begin;            /* where it goes on, until something came of it */
    bool had_offset;          /* the group had one of it, as far as is known */
    int64_t gap_from, gap_to; /* offsets that did not come */
    uint32_t gap_asked;       /* so often, without an answer */
    uint64_t poll;            /* number of the last one that emitted of it */
    int64_t mark_ms;          /* in the ids, where the topic was made again; 0: none */
    bool anew;                /* the topic was made again: the next message is its first */
    bool draining;            /* to be given up: nothing new from it */
    bool paused;              /* by us; the library pauses on its own account in a rebalance */
    bool giving_up;           /* named in the rebalance that is handled */
    bool denied;              /* it may not be read */
    struct weir_metric *lag;
    char topic[];
};

/* Messages that were taken from the library but not emitted: the queue had to be served while there
 * was no room. Once more than HELD_MOST wait the partitions are paused instead. */
#define HELD_MOST 8
#define HELD_CAP 64

enum rebalance_state {
    REBALANCE_NONE,
    REBALANCE_ASSIGN, /* partitions to take on, at the next step */
    REBALANCE_LOOKUP, /* where to begin in them is being asked */
    REBALANCE_DRAIN,  /* partitions to give up, once nothing of them is under way */
    REBALANCE_STORE   /* their watermarks are being committed */
};

/* What the library's callback has marked and rebalance_step() carries out. A newer callback puts
 * its own in the place of one that was not finished, which so lapses. */
struct rebalance {
    enum rebalance_state state;
    uint64_t number; /* of callbacks so far */
    rd_kafka_topic_partition_list_t *list;
    bool incremental;
    bool marked;         /* the partitions to give up know it */
    bool lost;           /* the group has already given them to others */
    bool closing;        /* the consumer closes: carry out at once */
    bool joining;        /* cooperative: partitions were given up, and the library will join anew */
    bool assigned;       /* nothing was given up since the last assignment */
    bool primed;         /* the partitions that are there at the start are known */
    int64_t deadline_ns; /* of a hand-over; when to ask again in a look-up */
};

/* Questions that a thread carries to the brokers; see ask.c. */
enum ask_kind { ASK_STARTS, ASK_BEGINS, ASK_ENDS, ASK_RIGHTS, N_QUESTIONS };
enum ask_state { ASK_NONE, ASK_OPEN, ASK_ANSWERED };

struct question {
    rd_kafka_topic_partition_list_t *list; /* the question, then the answer; NULL: nothing asked */
    rd_kafka_resp_err_t code;
    bool answered;
    uint64_t number; /* of the rebalance that asks */
};

struct asker {
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct question questions[N_QUESTIONS];
    _Atomic bool stop; /* also read without the mutex */
};

/* Whether the library has to be woken to fetch; see fetch.c. */
struct fetch {
    bool stops;        /* this version does, when its queue is full */
    bool was_full;     /* and no fetch has come since */
    int64_t cap_bytes; /* of the queue */
    int64_t weight;    /* bytes of an event, a moving average, shifted */
    int64_t length;    /* of the queue, at the last look */
    int64_t next_ns;   /* when to wake it next */
    int64_t pause_ns;  /* and how long after that again */
};

struct lag {
    int64_t look_ns; /* when to set the metrics next */
    int64_t ask_ns;  /* when to ask next */
};

struct gone {
    int64_t begins_ns; /* when to ask next */
    struct weir_metric *counter;
};

struct rights {
    bool group;                              /* the group is denied */
    rd_kafka_topic_partition_list_t *topics; /* that may not be seen; NULL: none yet */
    int64_t ask_ns;                          /* when to ask next */
};

/* What the lanes of one source share. */
struct lanes {
    _Atomic int64_t close_ns; /* when all of them have to be closed; 0: none closes yet */
    pthread_mutex_t mutex;    /* guards what follows */
    /* Partitions that were given up, their marks in the place of offsets; NULL: none. */
    rd_kafka_topic_partition_list_t *read;
    void (*free)(void *); /* the host's */
};

struct source {
    struct client client; /* first: the opaque of the handle */
    const struct source_config *cfg;
    struct lanes *lanes;
    void (*free)(void *); /* the host's: may be needed after it has gone */
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;   /* messages, rebalances, errors */
    rd_kafka_queue_t *replies; /* to commits */
    int wake_fd;
    int data_fd; /* librdkafka writes to it when a queue is no longer empty */

    struct part **parts; /* by topic and partition */
    uint32_t n_parts, cap_parts;
    struct part *recent; /* of the last message */

    rd_kafka_message_t *held[HELD_CAP]; /* a ring */
    uint32_t held_first, n_held;

    _Atomic uint64_t n_attached; /* messages that events still point into */

    struct asker asker;
    struct fetch fetch;
    struct lag lag;
    /* Partitions begun anew, where others end for us, and topics of which the group has lost
     * offsets; written by asker's thread while a question for starts is open, read by the lane
     * while none is. */
    rd_kafka_topic_partition_list_t *begun, *stops, *forgotten;
    struct gone gone;
    struct rights rights;
    const struct weir_lease_extension *lease;
    int64_t lease_ns;                 /* until when all partitions are ours for sure */
    const rd_kafka_metadata_t *known; /* of asker's thread: the partitions that were there first */
    struct rebalance rebalance;
    int64_t drain_ns;
    int64_t opened_wall_ns;
    int64_t no_room_ns; /* since when there is none; 0 = there is */
    uint64_t n_polls;   /* begun so far */
    size_t taken_bytes; /* by the poll that runs */
    int64_t serve_ns;   /* when to serve the queue next, while there is no room */
    int64_t commit_ns;  /* when to commit next */
    bool committing;    /* a reply is to come */
    bool dirty;         /* a watermark has moved since the last commit */
    bool paused;        /* all partitions, for want of room or after stop */
    bool stopping;
    bool fatal;
    struct weir_error fatal_error;
    struct weir_metric *n_rebalances, *n_commits;
};

/* ---- source_options.c */
/* Ours and the user's settings; `lane` numbers the static member. */
rd_kafka_conf_t *source_conf(const struct source_config *cfg, uint32_t lane, struct problems *p);
/* The drain deadline in ns. */
int64_t drain_time(const struct source_config *cfg, const rd_kafka_conf_t *conf,
                   struct problems *p);
void check_assignment(const struct source_config *cfg, struct problems *p);

/* ---- source.c */
extern const struct weir_source kafka_source_calls;
/* Gives back the messages that wait for room. */
void held_clear(struct source *s);

/* ---- source_open.c */
enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err);
void source_close(void *take_self);

/* ---- parts.c */
struct part *part_find(struct source *s, const char *topic, int32_t partition);
/* NULL when memory is used up. */
struct part *part_open(struct source *s, const char *topic, int32_t partition);
/* Nothing of before counts in this partition any more; nothing is under way. False when memory is
 * used up. */
bool part_restart(struct source *s, struct part *p);
/* Closes the streams of all partitions where `giving_up` is set, and forgets them. */
void parts_close(struct source *s);
void parts_pause(struct source *s);
void parts_resume(struct source *s);
/* Until when events of all of them may be written. */
void parts_lease(struct source *s, int64_t until_ns);
uint64_t parts_pending(const struct source *s);
bool parts_at_end(const struct source *s);

/* ---- ask.c */
void ask_init(struct source *s);
/* Once the handle is there. False with err. */
bool ask_start(struct source *s, struct weir_error *err);
/* Before the handle goes. */
void ask_done(struct source *s);
/* Opens a question; there must be none of that kind. */
void ask(struct source *s, enum ask_kind kind, rd_kafka_topic_partition_list_t *take_list,
         uint64_t number);
/* Where it is answered *ret_take is the caller's, and the place is free again. */
enum ask_state ask_answer(struct source *s, enum ask_kind kind, struct question *ret_take);

/* ---- start.c */
extern const char *const start_words[];
void check_start(const struct source_config *cfg, struct problems *p);
/* False where the library's own reset does for what the group holds no offset of. */
bool start_is_asked(const struct source_config *cfg);
/* Sets the offset of each partition: the group's, or where it has none by `start` unless that is
 * left to the library; opaque is set then. Finds out where they end, too. Blocks. [the thread of
 * ask.c] */
rd_kafka_resp_err_t start_find(struct source *s, rd_kafka_topic_partition_list_t *list,
                               int timeout_ms);
/* Where the partition ended when it was taken on first, NO_OFFSET where nobody asked. */
int64_t start_stop_of(const struct source *s, const rd_kafka_topic_partition_t *o);
/* After ask_done. */
void start_done(struct source *s);

/* ---- fetch.c */
/* From this version on a full queue need not stop fetching for a second. */
#define VERSION_BACKOFF 0x020200ff
void fetch_init(struct source *s, const rd_kafka_conf_t *conf);
/* So many events were taken out of the queue. */
void fetch_note(struct source *s, uint32_t events, size_t bytes);
/* Wakes the library where it is time to fetch. Returns when it wants to be called again. */
int64_t fetch_step(struct source *s, int64_t now);

/* Bytes of an event's payload, on the average of late. */
int64_t fetch_weight(const struct source *s);

/* ---- memory.c */
/* Tells the host what the library keeps. */
void source_memory(const struct source *s);
/* ---- gone.c */
/* Before a message of that time is emitted. False: it has to wait until what is under way of its
 * partition has ended. */
bool gone_check(struct source *s, struct part *p, int64_t offset, int64_t time_ms);
/* The partition's end was met there. */
void gone_end(struct source *s, struct part *p, int64_t offset);
void gone_taken_on(struct source *s, const rd_kafka_topic_partition_list_t *list);
void gone_step(struct source *s, int64_t now);
/* True while a gap is looked into. */
bool gone_looks(const struct source *s);

/* ---- mark.c */
/* The mark that the group holds, if any. */
void mark_read(struct part *p, const rd_kafka_topic_partition_t *o);
/* The same; 0: none. */
int64_t mark_of(const rd_kafka_topic_partition_t *o);
/* Puts it beside an offset that is committed. */
void mark_write(const struct source *s, const struct part *p, rd_kafka_topic_partition_t *o);
/* Gives the event, of a message of that time, its id where that has a mark. False when memory is
 * used up. */
bool mark_event(const struct source *s, struct weir_batch *b, const struct part *p, int64_t time_ms,
                struct weir_event *ev);
/* The message was emitted. */
void mark_emitted(struct source *s, struct part *p, int64_t offset, int64_t time_ms);
/* Remembers it where the group had an offset of it. */
void mark_given_up(struct source *s, const struct part *p);
/* Those that are remembered of the topics in `list`. [the thread of ask.c] */
rd_kafka_topic_partition_list_t *mark_known(struct source *s,
                                            const rd_kafka_topic_partition_list_t *list);
/* Finds out which topics were made again, by what the group holds of `known`. [the thread of ask.c]
 */
void mark_compare(struct source *s, const rd_kafka_topic_partition_list_t *known);
/* That found the partition's topic, before it was taken on. */
bool mark_is_forgotten(const struct source *s, const struct part *p);
void lanes_init(struct lanes *l);
void lanes_free(void *take_lanes);

/* ---- rights.c */
/* The brokers deny the group, or (topic not NULL) a topic or one of our partitions. */
void rights_denied(struct source *s, rd_kafka_resp_err_t code, const char *topic,
                   int32_t partition);
/* Something came of a partition that was denied. */
void rights_read(struct source *s, struct part *p);
void rights_joined(struct source *s);
void rights_tell(struct source *s);
void rights_step(struct source *s, int64_t now);
/* Sets err of each topic that may not be seen. Blocks. [the thread of ask.c] */
rd_kafka_resp_err_t rights_find(struct source *s, rd_kafka_topic_partition_list_t *list,
                                int timeout_ms);
void rights_free(struct source *s);

/* ---- lag.c */
/* Asks for the partitions' ends now, unless that is under way. */
void lag_ask(struct source *s, int64_t now);
struct weir_metric *lag_metric(const struct weir_host *h, const char *topic, int32_t partition);
/* Sets the metrics every second. Returns when it wants to be called again. */
int64_t lag_step(struct source *s, int64_t now);

/* ---- commit.c */
void commit_mark(struct source *s, struct part *p, int64_t next);
/* Sends what is due and takes in what came back. */
void commit_step(struct source *s, int64_t now);
/* Sends the watermarks that the group does not have, of the partitions to give up or of all. False
 * where there is nothing to send. */
bool commit_send(struct source *s, bool giving_up_only);
void commit_receive(struct source *s, int timeout_ms);
/* Commits what is left and waits for it, for the shutdown. */
void commit_finish(struct source *s, int64_t deadline_ns);

/* ---- rebalance.c */
void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list,
                  void *opaque);
void rebalance_step(struct source *s, int64_t now);
/* True where the callback has just marked something: the next step comes at once. */
bool rebalance_due(const struct source *s);
/* Before the consumer closes: what is marked is carried out, what comes will be so at once. */
void rebalance_close(struct source *s);

/* ---- message.c */
/* Adds the event; *ret_bytes is the size of its payload, key and headers. False when memory is used
 * up: then m is still the caller's, and so is the batch as it was. */
bool message_emit(struct source *s, struct weir_batch *b, struct part *p,
                  const struct weir_origin *origin, rd_kafka_message_t *take_m, size_t *ret_bytes);

#endif
