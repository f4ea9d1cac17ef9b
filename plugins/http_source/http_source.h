/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `http`: what its files share. One request's way:
 *
 *   listen.c  accept, hand to the lane with the fewest connections
 *   conn.c    libmicrohttpd's callbacks; connections and their deadlines
 *   head.c    path, method, token, types, sizes: refuse early
 *   body.c    collect the body, undo its compression
 *   take.c    cut it into items (items.c, weir_item.c), check each, add events to the batch
 *   answer.c  what the client hears, once every item has ended
 *   source.c  open, poll, answer, stop, close; plugin.c: the option table
 *
 * A lane is one thread with one libmicrohttpd daemon, which owns the connections' sockets. All
 * structs here belong to one lane's thread, except struct shared.
 */
#ifndef HTTP_SOURCE_H
#define HTTP_SOURCE_H

#include <weir/plugin.h>

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <zlib.h>

#define MAX_LANES 64
#define INBOX_CAP 32
#define ITEM_ID_MAX 1024

struct config {
    struct weir_str address;
    struct weir_list paths; /* struct weir_str each, as the other lists */
    struct weir_list tokens;
    struct weir_list key;
    struct weir_list id_field;
    struct weir_list headers;
    bool partial;
    int64_t max_body;
    int64_t max_decompressed;
    int64_t max_events;
    int64_t max_in_flight;
    int64_t max_wait;
    int64_t max_connections;
    int64_t request_timeout;
    int64_t keep_alive;
    int64_t retry_after;
    int64_t connection_memory;
};

static inline struct weir_str list_str(const struct weir_list *list, uint32_t i)
{
    return ((const struct weir_str *)list->items)[i];
}

/* ---- text.c: a growing buffer for JSON ---- */

struct text {
    const struct weir_host *h;
    char *ptr;
    size_t len, cap;
    bool failed; /* memory was used up: the text is not complete */
};

void text_add(struct text *t, struct weir_str s);
void text_cstr(struct text *t, const char *s);
void text_int(struct text *t, int64_t v);
/* s as a JSON string, quotes included; bytes that are not UTF-8 become '?'. */
void text_json(struct text *t, struct weir_str s);
void text_done(struct text *t);

/* ---- listen.c ---- */

struct address {
    char host[256]; /* "" = every address */
    char port[8];
};

/* False with a static text of what is wrong. */
bool address_split(struct weir_str text, struct address *ret, const char **ret_why);

struct lane;

/* What the lanes of one component share. */
struct shared {
    void (*free)(void *take_p);
    int listen_fd;
    atomic_bool listening;
    atomic_uint connections;
    atomic_int_least64_t in_flight; /* bytes of bodies whose requests are not answered */
    pthread_mutex_t mutex;          /* of the rest, and of every lane's inbox */
    struct lane *lanes[MAX_LANES];
    uint32_t n_lanes;
};

/* host->shared's two functions: the first lane opens the listening socket. */
void *shared_create(const struct weir_host *h, const void *config, struct weir_error *err);
void shared_destroy(void *take_shared);
/* The lane takes connections from here on, and no more. */
bool listen_join(struct lane *s);
void listen_leave(struct lane *s);
/* Nobody accepts any more; what the kernel has accepted already is taken first. */
void listen_stop(struct lane *s);
bool listen_wanted(const struct lane *s);
void listen_accept(struct lane *s);
/* An accepted connection is gone. */
void listen_release(struct lane *s);
/* Takes the connections that other lanes handed over. */
void listen_inbox(struct lane *s);

/* ---- body.c ---- */

/* One heap block, so that a batch can own it. */
struct body {
    void (*free)(void *take_p);
    size_t cap, len;
    char data[];
};

void body_free(void *take_body); /* a weir_dispose_fn; NULL is allowed */

/* Why a request is not taken, and what its client hears. status 0: nothing is wrong. */
struct refusal {
    unsigned status;
    const char *code;
    int64_t item, offset; /* -1 where there is none */
    char message[240];
};

void refuse(struct refusal *r, unsigned status, const char *code, const char *fmt, ...)
    WEIR_PRINTF(4, 5);

enum media { MEDIA_JSON, MEDIA_NDJSON, MEDIA_WEIR };

/* One Content-Encoding. decode: the whole body, at most max bytes of it; NULL with *why. */
struct decoder {
    const char *name;
    struct body *(*decode)(struct lane *s, struct weir_str in, size_t max, struct refusal *why);
};

/* NULL where the name is not known. */
const struct decoder *decoder_find(struct weir_str name);

/* ---- Connections and requests ---- */

enum deadline {
    DEADLINE_IDLE,    /* between requests: keep_alive */
    DEADLINE_REQUEST, /* from the request line to the answer: request_timeout */
    DEADLINE_SEND,    /* the client must have read the answer: request_timeout */
    DEADLINE_LINGER,  /* cut off, and what it still sends is thrown away: LINGER_NS */
    N_DEADLINES
};

struct conn {
    struct lane *lane;
    struct MHD_Connection *mhd;
    int fd;
    bool suspended;
    bool cut;                /* it has its answer, past libmicrohttpd, and hears no more */
    struct request *request; /* NULL between requests */
    /* In lane->deadlines[deadline] while linked. */
    bool linked;
    enum deadline deadline;
    int64_t deadline_ns;
    struct conn *prev, *next;
};

/* All conns of a list have the same time to live: appended in order, they expire in order. */
struct conn_list {
    struct conn *head, *tail;
    int64_t ttl_ns;
};

enum request_state {
    REQUEST_HEAD,    /* the request line is there */
    REQUEST_BODY,    /* the head was checked, its body is read or thrown away */
    REQUEST_QUEUED,  /* complete; suspended; waits for room in the pipeline */
    REQUEST_REPLIED, /* its answer is queued in libmicrohttpd */
    REQUEST_TAKEN    /* its events are on their way; suspended */
};

/* An item that was left out of a request (option `partial`). */
struct rejected {
    uint32_t item;
    const char *code;
    int64_t offset;
    char message[120];
};

struct request {
    struct lane *lane;
    struct conn *conn; /* NULL once the connection has ended or gone on to its next request */
    enum request_state state;
    bool open;    /* the host has it: answer() follows */
    int32_t path; /* index in config->paths, -1 = none of them */
    enum media media;
    const struct decoder *decoder;
    struct weir_str idempotency_key; /* of the head; live as long as conn is set */
    struct weir_str weir_id;
    uint64_t content_length; /* UINT64_MAX: chunked */
    uint64_t received;
    struct body *body;
    int64_t charged; /* bytes counted in shared->in_flight */
    int64_t queued_ns;
    struct refusal refusal;
    struct rejected *rejects; /* in the order of the items */
    uint32_t n_rejects, cap_rejects;
    struct request *prev, *next; /* lane->ready, or the free list */
};

#define N_STATUSES 12
#define N_CACHED 16

struct lane {
    const struct weir_host *h;
    const struct config *config;
    struct shared *shared;
    struct MHD_Daemon *daemon;
    int epoll_fd; /* libmicrohttpd's */
    int event_fd;
    int64_t now; /* of this turn */
    bool stopping;
    bool headers_in_place;   /* see head.c */
    bool resumed;            /* libmicrohttpd must run before the lane sleeps */
    int64_t looked_ns;       /* when the listening socket and the inbox were last looked at */
    uint64_t n_taken;        /* connections that libmicrohttpd was ever given */
    uint64_t n_started;      /* those of them that it began */
    int64_t accept_after_ns; /* no descriptors were left: pause */
    atomic_bool woken;       /* by wake(): poll returns at once */
    atomic_bool sleeping;
    atomic_uint n_conns;
    struct conn_list deadlines[N_DEADLINES];
    struct {
        struct request *head, *tail;
    } ready; /* QUEUED requests in the order they were completed */
    struct request *free_requests;
    uint32_t n_free_requests;
    struct text text;
    z_stream inflate;
    bool inflate_ready;
    struct {
        uint32_t n;
        struct MHD_Response *response;
    } accepted[N_CACHED]; /* {"accepted":n}, by n modulo N_CACHED */
    struct weir_metric *by_status[N_STATUSES];
    struct weir_metric *connections, *in_flight;
    int inbox[INBOX_CAP]; /* under shared->mutex */
    uint32_t n_inbox;
};

/* `codec: raw`: payloads are opaque, nothing is checked. */
static inline bool lane_is_raw(const struct lane *s)
{
    return WEIR_HOST_HAS(s->h, flags) && (s->h->flags & WEIR_HOST_RAW) != 0;
}

/* ---- conn.c ---- */

struct MHD_Daemon *conn_daemon_start(struct lane *s);
/* A new connection; takes fd. */
void conn_add(struct lane *s, int take_fd);
/* After each turn of libmicrohttpd: gives back the slots of connections that it did not begin. */
void conn_missed(struct lane *s);
void conn_deadline(struct conn *c, enum deadline deadline);
/* Ends the connection: libmicrohttpd sees a closed socket. */
void conn_shut(struct conn *c);
/* Everything whose time is up. */
void conn_expire(struct lane *s);
/* When conn_expire has something to do. */
int64_t conn_next_deadline(const struct lane *s);
/* Every suspended connection gets 503: only then may the daemon be stopped. */
void conn_release_all(struct lane *s);

void request_queue(struct request *q);
void request_unqueue(struct request *q);
void request_free(struct request *take_q);
void request_charge(struct request *q, int64_t bytes);
void request_drop_body(struct request *q);

/* ---- head.c ---- */

/* True where this library leaves a head's lines where they came (see head.c). */
bool head_stays_in_place(void);
/* A byte that may stand in a header's name. */
bool is_name_char(char c);

/* ---- head.c, body.c: both set q->refusal where something is wrong ---- */

/* True where the answer must not wait for the body: it is too long, or the client waits for a word
 * (Expect), or the framing is broken. */
bool head_check(struct request *q, const char *method, const char *version);
void body_append(struct request *q, const char *data, size_t n);

/* ---- items.c ---- */

struct items {
    struct weir_str text;
    size_t at;
    bool lines, single, opaque;
    bool begun, after_comma, done;
};

enum items_step { ITEMS_ONE, ITEMS_END, ITEMS_BAD };

/* opaque: the items are bytes of any kind. One is then the whole body, or a line of it. */
void items_begin(struct items *it, struct weir_str text, enum media media, bool opaque);
/* The next item, without the space around it. BAD: *ret_item begins where it went wrong. */
enum items_step items_next(struct items *it, struct weir_str *ret_item, const char **ret_why);

/* Walks the members of the JSON object `text` without parsing their values. `at` starts at 0. False
 * at the end, and where the text is no object: then *ret_why is set. */
bool member_next(struct weir_str text, size_t *at, struct weir_str *ret_key,
                 struct weir_str *ret_value, const char **ret_why);

/* ---- weir_item.c: a line of application/x-weir+ndjson ---- */

/* Fills ev's payload, id, key, time and headers from the line; false with *why. */
bool weir_item_read(struct lane *s, struct weir_batch *b, struct weir_str line,
                    struct weir_event *ev, struct refusal *why);

/* ---- take.c ---- */

/* Adds the request's events to the batch, or answers it. Returns the bytes that were looked at. */
size_t request_take(struct request *q, struct weir_batch *b);

/* ---- answer.c ---- */

void reply_refusal(struct request *q);
void reply_accepted(struct request *q, uint32_t n);
void reply_ends(struct request *q, const struct weir_ends *ends);
/* Writes the refusal past libmicrohttpd, which cannot answer before it has read a body. What the
 * client sends is read on for a moment: a reset would take the answer away from it. */
void reply_cut(struct request *q);
void answer_open(struct lane *s);
void answer_close(struct lane *s);

/* ---- source.c: the calls of weir/plugin.h ---- */

enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err);
void source_close(void *take_self);
enum weir_status source_poll(void *self, struct weir_batch *b, uint32_t room, int64_t deadline_ns,
                             struct weir_error *err);
void source_wake(void *self);
void source_answer(void *self, void *user, const struct weir_ends *ends);
void source_stop(void *self);

#endif
