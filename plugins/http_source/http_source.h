/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `http`: what its files share. One request's way:
 *
 *   port.c     the listening socket; listen.c: accept, hand to the lane with the fewest connections
 *   conn.c     a connection's turns, deadline.c: their ends, crowd.c: while there are too many;
 *              net.c: its bytes, or by TLS (tls.c); inbuf.c: those that wait to be used
 *   parse.c    a head's lines, a body's chunks: strictly, or not at all
 *   head.c     target (target.c), origin (cors.c), who may (auth.c), types, sizes: refuse early
 *   body.c     collect the body; decode.c: undo its compression
 *   request.c  complete requests wait here for room in the pipeline
 *   take.c     cut it into items (items.c, weir_item.c), check each, add events to the batch;
 *              parts.c: one of very many items, in parts; values.c: what parsing may take
 *   answer.c   what the client hears, once every item has ended; drain.c: when to come again
 *   source.c   open, poll, answer, stop, close; handover.c: to who has its place in a reload
 *   options.c, check.c, plugin.c: what a user reads
 *
 * A lane is one thread with one epoll descriptor and the connections on it. All structs here belong
 * to one lane's thread, except struct shared.
 */
#ifndef HTTP_SOURCE_H
#define HTTP_SOURCE_H

#include "config.h"
#include "parse.h"
#include "text.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <zlib.h>

#define MAX_LANES 64
#define INBOX_CAP 32
#define ITEM_ID_MAX 1024
#define COPY_MAX 4096u          /* bodies up to this go into the batch's own memory */
#define IN_CAP 8192u            /* a connection's buffer: a usual head and a small body */
#define SCRATCH_CAP (64u << 10) /* a lane's buffer for what is not kept */

/* ---- port.c ---- */

struct address {
    char host[256]; /* "" = every address */
    char port[8];
};

/* False with a static text of what is wrong. */
bool address_split(struct weir_str text, struct address *ret, const char **ret_why);

struct lane;
struct conn;
struct shared;
struct tls;
struct tokens;

/* A listening socket, which a reload hands from one instance to the next. */
struct port {
    void (*free)(void *take_p);
    int fd;
    atomic_uint refs;
    atomic_uint owner;     /* whose it is: a shared->number */
    atomic_bool listening; /* else it is shut, and no good any more */
    atomic_bool parks;     /* the owner takes connections that the one before has */
    atomic_uint n_parked;
    pthread_mutex_t mutex; /* of the rest */
    struct conn *parked;   /* linked by next */
};

/* Sets sh->port and sh->number: the one of the instance before, or a new one at sh->config's address.
 * WEIR_E_RETRY in err: that instance must end first. */
bool port_open(const struct weir_host *h, struct shared *sh, struct weir_error *err);
struct port *port_ref(struct port *p);
void port_unref(struct port *take_p);
/* It was never used by that owner: the one before has it again. */
void port_give_back(struct port *p, unsigned number);
void port_park(struct port *p, struct conn *take_c);
/* One that belongs to lane `index` of `count`, or NULL. */
struct conn *port_take_parked(struct port *p, uint32_t index, uint32_t count);

/* ---- listen.c ---- */

/* What the lanes of one component share. */
struct shared {
    void (*free)(void *take_p);
    const struct config *config;
    struct port *port;
    unsigned number; /* the port is this one's while its owner is that */
    unsigned max_connections;
    atomic_uint connections;
    atomic_int_least64_t in_flight; /* bytes of bodies whose requests are not answered, of lists of
                                       rejected items and of answers that nobody has read */
    atomic_int_least64_t values;    /* bytes that the values of large bodies may take; see values.c */
    struct tls *tls;                /* NULL: plain */
    struct tokens *tokens;          /* NULL: no token_file */
    pthread_mutex_t mutex;          /* of the rest, and of every lane's inbox */
    struct lane *lanes[MAX_LANES];
    uint32_t n_lanes;
};

/* host->shared's two functions: the first lane opens the listening socket. */
void *shared_create(const struct weir_host *h, const void *config, struct weir_error *err);
void shared_destroy(void *take_shared);
/* The lane takes connections from here on, and no more. */
bool listen_join(struct lane *s, struct weir_error *err);
void listen_leave(struct lane *s);
/* It accepts no more. Where nobody else has the port nobody does; what the kernel has accepted already is
 * taken first. */
void listen_stop(struct lane *s);
/* Another instance has the port. */
bool listen_is_handed_over(const struct lane *s);
bool listen_wanted(const struct lane *s);
void listen_accept(struct lane *s);
/* Does anybody wait to be accepted? */
bool listen_has_waiting(const struct lane *s);
/* An accepted connection is gone. */
void listen_release(struct lane *s);
/* Takes the connections that other lanes handed over. */
void listen_inbox(struct lane *s);

/* ---- tls.c: certificates, read again when their files change ---- */

/* NULL with err. */
struct tls *tls_open(const struct weir_host *h, const struct tls_config *cf,
                     struct weir_error *err);
void tls_close(struct tls *take_t);
/* A session on fd, NULL on no memory. Looks at the files once a second. [any] */
void *tls_session(struct tls *t, const struct weir_host *h, int fd);
/* The files of a configuration, offline. */
void tls_check(const struct tls_config *cf, const struct weir_report *report);

/* What changed last in a file, to see that it changed again. */
struct stamp {
    int64_t mtime_ns, size;
    uint64_t inode;
};

/* True where the file is not as *stamp says, which it then does; a missing file is all zero. */
bool stamp_changed(const char *path, struct stamp *stamp);

/* ---- body.c ---- */

/* One heap block, so that a batch can own it. */
struct body {
    void (*free)(void *take_p);
    size_t cap, len;
    char data[];
};

void body_free(void *take_body); /* a weir_dispose_fn; NULL is allowed */
/* A block with room for cap bytes that holds what `take_old` held. NULL on no memory: then
 * `take_old` is gone too. */
struct body *body_grow(const struct weir_host *h, struct body *take_old, size_t cap);

struct request;

/* Room for up to `want` more bytes at *ret; 0 with q->refusal set where there is none. */
size_t body_room(struct request *q, size_t want, char **ret);
/* n bytes have come into that room. */
void body_came(struct request *q, size_t n);
/* Copies n bytes to the body, or throws them away where the request is refused. */
void body_append(struct request *q, const char *data, size_t n);

/* ---- decode.c ---- */

/* One Content-Encoding. decode: the whole body, whose cap is added to what q was charged; NULL with
 * *why. */
struct decoder {
    const char *name;
    struct body *(*decode)(struct request *q, struct weir_str in, struct refusal *why);
};

/* NULL where the name is not known. */
const struct decoder *decoder_find(struct weir_str name);
void decoders_close(struct lane *s);

/* ---- Connections and requests ---- */

enum media { MEDIA_JSON, MEDIA_NDJSON, MEDIA_WEIR };

enum deadline {
    DEADLINE_IDLE,    /* between requests: keep_alive */
    DEADLINE_REQUEST, /* from its first byte to the answer: request_timeout */
    DEADLINE_SEND,    /* the client must have read the answer: request_timeout */
    DEADLINE_LINGER,  /* it has its answer, what it still sends is thrown away: LINGER_NS */
    N_DEADLINES
};

enum phase {
    PHASE_TLS,    /* the handshake */
    PHASE_HEAD,   /* between requests, or in a head */
    PHASE_BODY,   /* the head was checked, the body is read or thrown away */
    PHASE_WAIT,   /* complete; until it is answered nothing is read */
    PHASE_SEND,   /* the answer is on its way */
    PHASE_LINGER, /* no more requests: until the client has closed its side */
    PHASE_CLOSED  /* freed at the end of the turn */
};

/* Bytes that were read and not used up. */
struct inbuf {
    size_t cap, at, len; /* [at, len) is left */
    char data[];
};

struct conn {
    struct lane *lane;
    int fd;
    uint32_t home; /* number of its lane */
    void *ssl;     /* NULL: plain */
    enum phase phase;
    bool readable, writable, hung_up, eof;
    bool close; /* no more requests behind this answer */
    bool used;  /* it had a request */
    struct inbuf *in;
    struct inbuf *behind; /* what was read behind a chunked body */
    size_t scanned;       /* of the head that is being read */
    uint64_t n_read;      /* bytes in all */
    size_t body_at;       /* in->data: behind the head */
    struct request *request;
    struct body *out; /* the rest of an answer */
    size_t out_at;
    uint64_t lingered;
    /* In lane->deadlines[deadline] while linked. */
    bool linked;
    enum deadline deadline;
    int64_t deadline_ns;
    struct conn *prev, *next;
    /* In lane->reading while `reading`; see crowd.c. */
    bool reading;
    int64_t read_since_ns;
    uint64_t read_mark; /* n_read then */
    struct conn *read_prev, *read_next;
    /* In lane->work while queued; lane->dead when closed. */
    bool queued;
    struct conn *work_prev, *work_next;
};

/* All conns of a list have the same time to live: appended in order, they expire in order. */
struct conn_list {
    struct conn *head, *tail;
    int64_t ttl_ns;
};

enum request_state {
    REQUEST_READING,
    REQUEST_QUEUED,  /* complete; waits for room in the pipeline */
    REQUEST_REPLIED, /* answered */
    REQUEST_TAKEN    /* its events are on their way */
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
    bool open;     /* the host has it: answer() follows */
    bool in_place; /* the body stands in conn->in behind the head */
    bool chunked;
    bool cors;      /* the answer has the headers that a browser asks for */
    bool had_token; /* it came with credentials, which were not known */
    int32_t path;   /* index in config->paths, -1 = none of them */
    struct params params;
    struct weir_str query;
    struct head head; /* points into conn->in: good as long as conn is set */
    enum media media;
    const struct decoder *decoder;
    struct weir_str idempotency_key, weir_id;
    uint64_t content_length; /* UINT64_MAX: chunked */
    uint64_t received;
    struct chunks chunks;
    struct body *body;
    int64_t charged; /* bytes counted in shared->in_flight */
    int64_t weight;  /* bytes counted in shared->values */
    int64_t queued_ns;
    struct refusal refusal;
    struct parts *parts;      /* while it is taken in parts */
    struct rejected *rejects; /* in the order of the items */
    uint32_t n_rejects, cap_rejects;
    struct request *prev, *next; /* lane->ready, or the free list */
};

#define N_STATUSES 19

struct lane {
    const struct weir_host *h;
    const struct config *config;
    struct shared *shared;
    struct port *port; /* a reference; NULL: it has not joined */
    int epoll_fd, event_fd;
    bool listens; /* the listening socket is in epoll_fd */
    int64_t now;  /* of this turn */
    bool stopping;
    int64_t read_until_ns;   /* until then it takes requests that had begun to come when it stopped */
    int64_t accept_after_ns; /* no descriptors were left: pause */
    atomic_bool woken;       /* by wake(): poll returns at once */
    atomic_bool sleeping;
    atomic_uint n_conns;
    struct conn_list deadlines[N_DEADLINES];
    struct {
        struct conn *head, *tail;
    } reading; /* a request: who got on longest ago first */
    struct {
        struct conn *head, *tail;
    } work; /* connections with something to do that no event will tell */
    struct conn *dead;
    struct {
        struct request *head, *tail;
    } ready; /* QUEUED requests in the order they were completed */
    struct request *in_parts; /* that is taken in parts, before all others */
    struct request *free_requests;
    uint32_t n_free_requests;
    struct inbuf *free_inbufs[64];
    uint32_t n_free_inbufs;
    int64_t took_ns; /* requests of late, on the average; see drain.c */
    const struct weir_memory_extension *memory; /* NULL: the host has none */
    bool memory_short;                          /* in this turn */
    struct text text, head_text;
    int64_t date_s; /* second of `date` */
    char date[40];
    z_stream inflate[3]; /* by wrapper: see decode.c */
    bool inflate_ready[3];
    void *zstd;
    struct weir_metric *by_status[N_STATUSES];
    struct weir_metric *connections, *in_flight;
    int inbox[INBOX_CAP]; /* under shared->mutex */
    uint32_t n_inbox;
    char scratch[SCRATCH_CAP];
};

/* `codec: raw`: payloads are opaque, nothing is checked. */
static inline bool lane_is_raw(const struct lane *s)
{
    return WEIR_HOST_HAS(s->h, flags) && (s->h->flags & WEIR_HOST_RAW) != 0;
}

/* ---- conn.c ---- */

/* A new connection; takes fd. */
void conn_add(struct lane *s, int take_fd);
/* Takes it from its lane, and gives it to that one or frees it. */
void conn_leave(struct conn *c);
void conn_enter(struct lane *s, struct conn *take_c);
void conn_discard(struct conn *take_c, void (*give_back)(void *take_p));
/* Closes it in order: no request of it is under way. */
void conn_end(struct conn *c);
/* Goes on with it as far as it can go without waiting. */
void conn_work(struct conn *c);
/* conn_work in the next turn. */
void conn_later(struct conn *c);
void conn_close(struct conn *c);
/* Sends an answer: head and body, of which the request is over then. */
void conn_answer(struct conn *c, struct weir_str head, struct weir_str body);
void conn_free_dead(struct lane *s);

/* ---- inbuf.c ---- */

/* An empty one with at least that room, NULL on no memory. Larger ones than usual count in
 * shared->in_flight. */
struct inbuf *inbuf_new(struct lane *s, size_t cap);
void inbuf_free(struct lane *s, struct inbuf *take_in);
/* What is left; NULL is allowed. */
struct weir_str inbuf_view(const struct inbuf *in);
/* Would inbuf_room take a larger one? */
bool inbuf_is_full(const struct inbuf *in);
/* Bytes of it that count in shared->in_flight. NULL is allowed. */
int64_t inbuf_charge(const struct inbuf *in);
/* Room for more of a head in c->in: from the buffer's beginning, then in a larger one. */
bool inbuf_room(struct conn *c);
/* Gives c->in back where nothing is left of it. */
void inbuf_drop_empty(struct conn *c);

/* ---- handover.c ---- */

/* The lane has stopped, and another instance has its port: connections between two requests go there. */
void handover_begin(struct lane *s);
/* A request has begun to come that can still be taken. */
bool handover_reads(const struct lane *s);
/* Requests are taken: it runs, or hands over and was sent them before. */
static inline bool lane_takes(const struct lane *s)
{
    return !s->stopping || s->now < s->read_until_ns;
}
/* Takes what an instance before has handed over. */
void handover_take(struct lane *s);

/* ---- deadline.c ---- */

/* Everything whose time is up. */
void conn_expire(struct lane *s);
/* When conn_expire has something to do. */
int64_t conn_next_deadline(const struct lane *s);
/* Every request that waits, or is still coming, gets 503. */
void conn_release_all(struct lane *s);
/* Is there anything that is being sent? */
bool conn_sending(const struct lane *s);
void conn_close_all(struct lane *s);
/* Ends what a client is still sending with 408, or where there is no request yet without a word. */
void conn_cut(struct conn *c, const char *code, const char *message);

/* ---- crowd.c ---- */

void reading_begin(struct conn *c);
void reading_end(struct conn *c);
/* All places are taken, or memory is short. */
bool crowd_is_there(const struct lane *s);
/* Takes the places of those that do nothing with theirs. */
void crowd_expire(struct lane *s);

/* ---- drain.c ---- */

/* A request has ended, so long after it was complete. */
void drain_note(struct lane *s, int64_t took_ns);
/* Whole seconds for the header Retry-After. */
int64_t drain_retry_after(const struct lane *s);

/* ---- net.c ---- */

#define NET_EOF (-1) /* or a broken connection: nothing more can be read or written */

/* Bytes read or written, 0 where it would have to wait, or NET_EOF. */
ssize_t net_read(struct conn *c, void *to, size_t cap);
ssize_t net_write(struct conn *c, struct weir_str head, struct weir_str body);
/* 1 done, 0 goes on later, NET_EOF. Plain HTTP is answered, and ssl is NULL then. */
int net_handshake(struct conn *c);
/* We send no more; the other side hears that. */
void net_end(struct conn *c);

/* ---- request.c ---- */

struct request *request_new(struct conn *c);
void request_free(struct request *take_q);
void request_charge(struct request *q, int64_t bytes);
/* Bytes that others hold: this request's own, and its head's, are not among them. */
int64_t request_others(const struct request *q);
/* True while it fits into what all requests together may hold; one alone always does. */
bool request_is_within(const struct request *q);
void request_drop_body(struct request *q);
void request_queue(struct request *q);
void request_unqueue(struct request *q);
/* The body as it was sent. */
struct weir_str request_bytes(const struct request *q);
/* The connection has no more to do with it. */
void request_leave(struct request *q);
void requests_close(struct lane *s);

/* ---- head.c ---- */

/* True where the answer must not wait for the body: the client waits for a word (Expect), or the
 * framing is broken. Sets q->refusal where something is wrong. */
bool head_check(struct request *q);

/* ---- auth.c ---- */

bool auth_check(struct request *q);
/* Of the whole body, as it was sent. */
bool signature_check(struct request *q);
struct tokens *tokens_open(const struct weir_host *h, struct weir_str path, struct weir_error *err);
void tokens_close(struct tokens *take_t);
/* One token a line; false with err. */
bool tokens_file_check(const char *path, char *ret_why, size_t cap);

/* ---- cors.c ---- */

/* False: this origin may not. Sets q->cors. */
bool cors_allows(struct request *q);
bool cors_is_preflight(const struct request *q);
/* The headers that every answer to an allowed origin has. */
void cors_headers(const struct request *q, struct text *t);
void cors_preflight_headers(const struct request *q, struct text *t);
void cors_check(const struct cors_config *cf, const struct weir_report *report);

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
bool weir_item_read(struct lane *s, struct weir_arena *a, struct weir_str line,
                    struct weir_event *ev, struct refusal *why);

/* ---- values.c ---- */

/* What shared->values has of the request. */
void values_give_back(struct request *q);

/* ---- take.c ---- */

/* Adds the request's events to the batch, or answers it. Returns the bytes that were looked at. */
size_t request_take(struct request *q, struct weir_batch *b);

/* ---- parts.c ---- */

struct taking;
/* Begins to take the request in parts, or answers it. */
void parts_begin(struct taking *t);
/* The next part of s->in_parts: up to `room` events in the batch, and `most` bytes looked at. False: no
 * memory for now. */
bool parts_take(struct lane *s, struct weir_batch *b, uint32_t room, size_t most, size_t *looked_at);
/* It is over, or given up. */
void parts_free(struct request *q);

/* ---- answer.c ---- */

void reply_refusal(struct request *q);
void reply_accepted(struct request *q, uint32_t n);
void reply_ends(struct request *q, const struct weir_ends *ends);
void reply_preflight(struct request *q);
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
