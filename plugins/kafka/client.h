/* SPDX-License-Identifier: Apache-2.0
 *
 * client.h: what the Kafka source and sink share: the options of a client, their way into a
 * librdkafka configuration, its logs and errors on their way to the host, and the probe.
 */
#ifndef KAFKA_CLIENT_H
#define KAFKA_CLIENT_H

#include <librdkafka/rdkafka.h>
#include <weir/plugin.h>

#include <pthread.h>
#include <stdatomic.h>

struct tls_config {
    bool enabled;
    struct weir_str ca;
    struct weir_str certificate;
    struct weir_str key;
    struct weir_str key_password;
    bool insecure_skip_verify;
};

enum sasl_mechanism { SASL_NONE, SASL_PLAIN, SASL_SCRAM_256, SASL_SCRAM_512, SASL_OAUTHBEARER };

struct oauth_config {
    struct weir_str file;
    struct weir_str url;
    struct weir_str client_id;
    struct weir_str client_secret;
    struct weir_str scope;
    struct weir_list extensions; /* struct weir_pair, STRING */
};

struct sasl_config {
    int mechanism;
    struct weir_str user;
    struct weir_str password;
    struct oauth_config oauth;
};

struct client_config {
    struct weir_list brokers; /* of struct weir_str */
    struct weir_str client_id;
    struct tls_config tls;
    struct sasl_config sasl;
    int64_t statistics;       /* ns; 0: none */
    struct weir_list rdkafka; /* struct weir_pair, STRING */
};

extern const char *const sasl_mechanisms[];
extern const struct weir_option tls_options[6];
extern const struct weir_option sasl_options[4];
extern const struct weir_option oauth_options[6];

/* The rows of an option table that fill `member`, a struct client_config in `type`. */
#define CLIENT_OPTIONS(config_type, member)                                                        \
    {.name = "brokers",                                                                            \
     .type = WEIR_OPT_LIST,                                                                        \
     .of = WEIR_OPT_STRING,                                                                        \
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,                                               \
     .offset = offsetof(config_type, member.brokers),                                              \
     .doc = "Addresses to find the cluster by, host:port.",                                        \
     .example = "[kafka-1:9092, kafka-2:9092]"},                                                   \
        {.name = "client_id",                                                                      \
         .type = WEIR_OPT_STRING,                                                                  \
         .flags = WEIR_OPT_ADVANCED,                                                               \
         .offset = offsetof(config_type, member.client_id),                                        \
         .doc = "Name of this client in the brokers' logs and quotas; default "                    \
                "weir-PIPELINE-COMPONENT.",                                                        \
         .example = "weir-orders"},                                                                \
        {.name = "tls",                                                                            \
         .type = WEIR_OPT_TABLE,                                                                   \
         .offset = offsetof(config_type, member.tls),                                              \
         WEIR_FIELDS(tls_options),                                                                 \
         .fields_size = sizeof(struct tls_config),                                                 \
         .doc = "Encryption; on where it is enabled or one of its files is named.",                \
         .example = "{ca: certs/ca.pem}"},                                                         \
        {.name = "sasl",                                                                           \
         .type = WEIR_OPT_TABLE,                                                                   \
         .offset = offsetof(config_type, member.sasl),                                             \
         WEIR_FIELDS(sasl_options),                                                                \
         .fields_size = sizeof(struct sasl_config),                                                \
         .doc = "Login at the brokers.",                                                           \
         .example =                                                                                \
             "{mechanism: SCRAM-SHA-512, user: weir, password: \"${env:KAFKA_PASSWORD}\"}"},       \
        {.name = "statistics",                                                                     \
         .type = WEIR_OPT_DURATION,                                                                \
         .flags = WEIR_OPT_ADVANCED,                                                               \
         .offset = offsetof(config_type, member.statistics),                                       \
         .def = "10s",                                                                             \
         .min = 0,                                                                                 \
         .max = 3600 * WEIR_NS_PER_S,                                                              \
         .doc =                                                                                    \
             "How often the client's metrics are renewed, in whole seconds; 0 leaves them out.",   \
         .example = "30s"},                                                                        \
    {                                                                                              \
        .name = "rdkafka", .type = WEIR_OPT_MAP, .of = WEIR_OPT_STRING,                            \
        .flags = WEIR_OPT_ADVANCED, .offset = offsetof(config_type, member.rdkafka),               \
        .doc = "Raw settings of librdkafka; those that would break a promise are refused.",        \
        .example = "{socket.timeout.ms: 20000}"                                                    \
    }

/* What can go wrong with a cluster, as metrics count it. */
enum fault {
    FAULT_CONNECTION,
    FAULT_AUTHENTICATION,
    FAULT_AUTHORIZATION,
    FAULT_TOPIC,
    FAULT_COMMIT,
    FAULT_FATAL,
    FAULT_OTHER,
    N_FAULTS
};

/* Why a client can do nothing until somebody gives it a login or a right. */
enum bar { BAR_LOGIN, BAR_RIGHT, N_BARS };

/* What wire.c has seen of the group's requests. */
struct wire {
    int64_t session_ns; /* how long the group keeps a member that it does not hear of */
    /* Under the client's mutex: when the last heartbeat was sent, and the last question for an
     * assignment; the same of a heartbeat whose answer came too late to count at once (0: none). */
    int64_t heartbeat_ns, sync_ns, late_ns;
    _Atomic int64_t heard_ns; /* when the last of them was sent whose answer counts; 0: none yet */
    _Atomic bool joining;     /* a join was sent and its assignment has not come */
};

/* A running client's part of a source or sink instance: the opaque of its librdkafka handle. */
struct client {
    const struct weir_host *host;
    const struct client_config *cfg;
    struct weir_metric *faults[N_FAULTS];
    const struct weir_ready_extension *ready;
    char bars[N_BARS][WEIR_ERROR_TEXT / 2]; /* "": none; of the thread that polls */
    bool barred;         /* the host was told so, by this instance or the one before it */
    _Atomic bool let_in; /* since the login was refused last, a broker has answered a request */
    struct wire wire;
    /* librdkafka's threads ask for tokens under `tokens` and log under `mutex`. The library logs
     * while a token is handed to it, and while it holds locks that this waits for: nobody who holds
     * `mutex` calls it. Whoever takes both takes `tokens` first. */
    pthread_mutex_t tokens, mutex;
    bool muted;          /* written under both */
    struct stats *stats; /* NULL: none */
};

/* Where a configuration's errors go: all of them to `report`, or the first one to `err`. */
struct problems {
    const struct weir_report *report;
    const struct weir_host *host;
    struct weir_error *err;
    uint32_t n;
};

void problem(struct problems *p, const char *path, const char *fmt, ...) WEIR_PRINTF(3, 4);
/* Sets one of our own settings; what librdkafka says against it is a problem of `path`. */
void set(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
         const char *value);
/* The same for an option; an empty one is not set. */
void set_text(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
              struct weir_str value);
void set_number(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
                int64_t value);
/* The value of a setting as a whole number, 0 where it is none. */
int64_t get_number(const rd_kafka_conf_t *conf, const char *name);

/* A configuration with everything but the brokers: shared defaults, tls, sasl. The caller adds its
 * own settings, then client_conf_raw() the user's, which so overrule the defaults. */
rd_kafka_conf_t *client_conf(const struct client_config *cfg, struct problems *p);
/* kind: WEIR_SOURCE or WEIR_SINK. */
void client_conf_raw(rd_kafka_conf_t *conf, const struct client_config *cfg, enum weir_kind kind,
                     struct problems *p);
/* Whether the settings go together, and the certificates load: makes a client without brokers and
 * ends it. What librdkafka warns of are warnings. Takes conf. */
void client_try(rd_kafka_conf_t *take_conf, enum weir_kind kind, struct problems *p);
/* Checks what librdkafka does not: the brokers' form, tls and sasl. */
void client_check(const struct client_config *cfg, struct problems *p);

void client_init(struct client *c, const struct weir_host *host, const struct client_config *cfg);
/* After the handle has been destroyed. */
void client_done(struct client *c);
/* The handle cannot be destroyed and outlives the instance: nothing of the host is used any more.
 */
void client_mute(struct client *c);
/* Ends the handle, then calls then(arg), of which nothing may use the host. Waits for that until
 * the deadline; later it happens by itself. The client is muted. */
void client_end(struct client *c, rd_kafka_t *take_rk, void (*then)(void *arg), void *take_arg,
                int64_t deadline_ns);
/* A connected client that logs and reports errors through `c`. NULL with err. Takes conf. */
rd_kafka_t *client_new(struct client *c, rd_kafka_type_t type, rd_kafka_conf_t *take_conf,
                       struct weir_error *err);
/* Something stands in the way of all work; an empty text: no more. On the thread that polls. */
void client_bar(struct client *c, enum bar bar, const char *text);
/* With every poll: a refused login that was accepted since is no bar any more. */
void client_step(struct client *c);
/* Counts and logs an error that librdkafka reported; a refused login becomes a bar. On the thread
 * that polls. */
void client_fault(struct client *c, rd_kafka_resp_err_t code, const char *reason,
                  const char *topic);

/* Reaches the cluster and looks for the topics (names; n 0: only the cluster). */
enum weir_status client_probe(const struct weir_host *host, enum weir_kind kind,
                              const struct client_config *cfg, const struct weir_str *topics,
                              uint32_t n, int64_t deadline_ns, struct weir_error *err);

/* True where this librdkafka repeats a part of its SCRAM message that Kafka 4 wants once. */
bool scram_is_old(const struct client_config *cfg);

/* ---- wire.c */
/* Before the handle is made. False with err. */
bool wire_init(struct client *c, rd_kafka_conf_t *conf, struct weir_error *err);
/* The group forms anew: a commit would come too late for its generation. */
bool wire_joining(const struct client *c);
/* Until when no other member can have this one's partitions. WEIR_NEVER while the group forms anew: under the
 * eager protocol they were given up before; under the cooperative one a member that was frozen in just this time
 * goes on with those that it kept until it hears that it was left out. */
int64_t wire_lease(const struct client *c);

/* ---- oauth.c */
void oauth_conf(rd_kafka_conf_t *conf, const struct oauth_config *cfg, struct problems *p);
/* Lets the library ask for tokens. False with err. */
bool oauth_start(rd_kafka_t *rk, const struct oauth_config *cfg, const struct weir_host *h,
                 struct weir_error *err);
void oauth_check(const struct oauth_config *cfg, bool used, struct problems *p);

/* ---- stats.c */
/* Makes the metrics, where they are wanted. False with err. */
bool stats_init(struct client *c, enum weir_kind kind, rd_kafka_conf_t *conf,
                struct weir_error *err);
/* After the last poll. */
void stats_done(struct client *c);

/* True for [a-zA-Z0-9._-]{1,249} but not "." and "..". */
bool topic_name_valid(struct weir_str name);
/* True where it can be a part of such a name. */
bool topic_part_valid(struct weir_str name);
/* Milliseconds from now to a deadline, rounded up, within 0 and `most`. */
int ms_until(const struct weir_host *host, int64_t deadline_ns, int most);

extern const struct weir_type kafka_source_type;
extern const struct weir_type kafka_sink_type;

#endif
