/* SPDX-License-Identifier: Apache-2.0
 *
 * app/supervise.c: one loop over two descriptors: signals, and a counter that pipelines raise when
 * their state changes.
 *
 * A first signal begins the end: /readyz says no, after drain_delay each pipeline drains until its
 * deadline. A second signal is the deadline. A pipeline that has not ended GRACE behind its
 * deadline (a plugin that hangs), and a third signal, end the process as it is. A pipeline that
 * stops by itself leaves the others running and the process up, so that it can be looked at, unless
 * exit_on_stop; a reload starts it again.
 */
#include <app/supervise.h>
#include <app/reload.h>
#include <app/version.h>
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <app/process.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define GRACE (5 * WEIR_NS_PER_S)
#define LOG_FLUSH_EVERY (10 * WEIR_NS_PER_S)
#define N_STATES 4

static const char *const state_names[N_STATES] = {"running", "draining", "stopped", "done"};

/* One pipeline. The listener's thread reads `pipeline` and what is behind it, under the lock; the rest is the
 * main thread's. */
struct slot {
    const struct wr_plan *plan; /* a reference */
    struct weir_str name;       /* its own */
    struct wr_log_scope *log;
    struct wr_reloader reloader;
    _Atomic(struct wr_pipeline *) pipeline; /* NULL: not open yet */
    bool stopped, closed;
    bool left;  /* events that did not end */
    bool again; /* a reload came while it stopped */
    bool over; /* lock: the listener's thread asks no more, `state` is the last one */
    enum wr_pipeline_state state;
    int64_t drain_at; /* WEIR_NEVER: nobody asked */
    int64_t deadline;
    struct weir_metric *states[N_STATES];
    struct weir_metric *ready;
};

struct wr_supervisor {
    struct wr_runtime rt;
    struct wr_supervise_options opt;
    struct wr_log_scope *log;
    struct slot *slots;
    const struct wr_plan **others; /* see others_of */
    uint32_t n;
    int signals, changes; /* descriptors */
    int64_t next_look;    /* at the files */
    uint32_t n_signals;
    pthread_mutex_t lock; /* no pipeline is closed while the listener's thread asks it */
    atomic_bool ending;   /* a signal came, or exit_on_stop */
};

/* ---- What the listener asks ---- */

/* What is said of a pipeline. */
struct look {
    bool ready;
    const char *state;
    char reason[WEIR_ERROR_TEXT]; /* why it is not ready, as far as that is known */
};

/* Is that pipeline no reason to say no? One that has read its sources to their end is none, one
 * that stops or has stopped by itself is. */
static struct look look_into(struct wr_supervisor *s, struct slot *slot)
{
    struct look look = {.state = "starting"};
    pthread_mutex_lock(&s->lock);
    struct wr_pipeline *p = atomic_load(&slot->pipeline);
    if (p != NULL) {
        enum wr_pipeline_state state = slot->over ? slot->state : wr_pipeline_state(p);
        const char *reason = wr_pipeline_reason(p);
        look.ready = reason[0] == '\0' && (state != WR_PIPELINE_RUNNING || wr_pipeline_ready(p));
        look.state = state_names[state];
        if (reason[0] != '\0')
            snprintf(look.reason, sizeof(look.reason), "%s", reason);
        else
            (void)wr_pipeline_unready(p, look.reason, sizeof(look.reason));
    }
    pthread_mutex_unlock(&s->lock);
    return look;
}

static void set_gauges(void *arg)
{
    struct wr_supervisor *s = arg;
    for (uint32_t i = 0; i < s->n; i++) {
        struct slot *slot = &s->slots[i];
        struct look look = look_into(s, slot);
        wr_metric_set(slot->ready, look.ready && !atomic_load(&s->ending) ? 1 : 0);
        for (size_t k = 0; k < N_STATES; k++)
            wr_metric_set(slot->states[k], strcmp(state_names[k], look.state) == 0 ? 1 : 0);
    }
}

static void answer_metrics(void *arg, struct wr_buf *out)
{
    struct wr_supervisor *s = arg;
    wr_process_metrics(out);
    wr_metrics_print(s->rt.metrics, out);
}

static bool answer_ready(void *arg, struct wr_buf *out)
{
    struct wr_supervisor *s = arg;
    bool all = !atomic_load(&s->ending);
    struct wr_buf list = {0};
    for (uint32_t i = 0; i < s->n; i++) {
        struct look look = look_into(s, &s->slots[i]);
        all = all && look.ready;
        wr_buf_printf(&list, "%s{\"pipeline\":", i > 0 ? "," : "");
        wr_buf_json(&list, s->slots[i].name);
        wr_buf_printf(&list, ",\"ready\":%s,\"state\":\"%s\"", look.ready ? "true" : "false",
                      look.state);
        if (look.reason[0] != '\0') {
            wr_buf_text(&list, ",\"reason\":");
            wr_buf_json(&list, weir_cstr(look.reason));
        }
        wr_buf_text(&list, "}");
    }
    wr_buf_printf(out, "{\"ready\":%s%s,\"pipelines\":[%.*s]}", all ? "true" : "false",
                  atomic_load(&s->ending) ? ",\"reason\":\"shutting down\"" : "",
                  WR_STR(wr_buf_view(&list)));
    wr_buf_done(&list);
    return all;
}

struct wr_http_answers wr_supervisor_answers(struct wr_supervisor *s)
{
    return (struct wr_http_answers){.metrics = answer_metrics, .ready = answer_ready, .arg = s};
}

/* ---- Making it ---- */

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void make_metrics(struct wr_supervisor *s, struct slot *slot)
{
    struct wr_label labels[] = {{"pipeline", slot->name}, {"state", {NULL, 0}}};
    slot->ready = wr_metric(s->rt.metrics, WR_GAUGE, "pipeline_ready",
                            "1 while the pipeline takes events.", labels, 1);
    for (size_t i = 0; i < N_STATES; i++) {
        labels[1].value = weir_cstr(state_names[i]);
        slot->states[i] = wr_metric(s->rt.metrics, WR_GAUGE, "pipeline_state",
                                    "1 for the state that the pipeline is in.", labels, 2);
    }
}

static void make_build_info(struct wr_metrics *m)
{
    char abi[16];
    snprintf(abi, sizeof(abi), "%d.%d", WEIR_ABI_MAJOR, WEIR_ABI_MINOR);
    const struct wr_label labels[] = {{"version", weir_cstr(wr_version())},
                                      {"abi", weir_cstr(abi)},
                                      {"compiler", weir_cstr(wr_compiler())}};
    wr_metric_set(wr_metric(m, WR_GAUGE, "build_info", "Always 1; the labels tell the build.",
                            labels, WR_COUNT(labels)),
                  1);
}

static void slot_init(struct wr_supervisor *s, struct slot *slot, const struct wr_files *files,
                      uint32_t i)
{
    const struct wr_plan *plan = files->plans[i];
    const struct weir_kv field = weir_kv_str("pipeline", plan->name);
    slot->plan = wr_plan_ref(plan);
    slot->name = weir_str_n(wr_xmemdup(plan->name.ptr, plan->name.len), plan->name.len);
    slot->drain_at = slot->deadline = WEIR_NEVER;
    slot->log = wr_log_scope_new(s->rt.log, &field, 1);
    wr_log_scope_hide(slot->log, plan->secrets);
    make_metrics(s, slot);
    slot->reloader = (struct wr_reloader){.rt = s->rt,
                                          .log = slot->log,
                                          .loader = files->loader,
                                          .memory = s->opt.memory,
                                          .shutdown_timeout = s->opt.shutdown_timeout};
    wr_reloader_init(&slot->reloader, plan);
}

struct wr_supervisor *wr_supervisor_new(const struct wr_files *files, const struct wr_runtime *rt,
                                        const struct wr_supervise_options *options)
{
    struct wr_supervisor *s = wr_xalloc(sizeof(*s));
    s->rt = *rt;
    s->opt = *options;
    s->n = files->n;
    s->slots = wr_xalloc((s->n + 1u) * sizeof(*s->slots));
    s->others = wr_xalloc((s->n + 1u) * sizeof(struct wr_plan *));
    s->log = wr_log_scope_new(rt->log, NULL, 0);
    pthread_mutex_init(&s->lock, NULL);
    s->signals = open_signals();
    s->changes = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    WR_BUG_ON(s->signals < 0 || s->changes < 0);
    for (uint32_t i = 0; i < s->n; i++)
        slot_init(s, &s->slots[i], files, i);
    make_build_info(rt->metrics);
    wr_metrics_on_scrape(rt->metrics, set_gauges, s);
    return s;
}

void wr_supervisor_free(struct wr_supervisor *s)
{
    if (s == NULL)
        return;
    wr_metrics_off_scrape(s->rt.metrics, s);
    for (uint32_t i = 0; i < s->n; i++) {
        wr_pipeline_free(atomic_load(&s->slots[i].pipeline));
        wr_log_scope_free(s->slots[i].log);
        wr_plan_free(s->slots[i].plan);
        wr_free((void *)(uintptr_t)s->slots[i].name.ptr);
    }
    wr_log_scope_free(s->log);
    close(s->signals);
    close(s->changes);
    pthread_mutex_destroy(&s->lock);
    wr_free(s->slots);
    wr_free((void *)s->others);
    wr_free(s);
}

/* ---- Start ---- */

/* [any] */
static void on_change(void *arg)
{
    struct wr_supervisor *s = arg;
    uint64_t one = 1;
    ssize_t n = write(s->changes, &one, sizeof(one));
    (void)n; /* a full counter wakes the loop as well */
}

static bool open_pipeline(struct wr_supervisor *s, struct slot *slot)
{
    struct weir_error err = {0};
    struct wr_pipeline *p = wr_pipeline_new(slot->plan, &s->rt, &err);
    atomic_store(&slot->pipeline, p);
    if (p == NULL)
        WR_LOG(slot->log, WEIR_LOG_ERROR, "pipeline cannot start", weir_kv_text("error", err.text),
               weir_kv_str("file", slot->plan->file));
    return p != NULL;
}

static void log_start(const struct slot *slot)
{
    uint64_t n[4] = {0};
    for (uint32_t i = 0; i < slot->plan->n_components; i++)
        n[slot->plan->components[i].type->kind]++;
    WR_LOG(slot->log, WEIR_LOG_INFO, "pipeline started", weir_kv_str("file", slot->plan->file),
           weir_kv_u64("sources", n[WEIR_SOURCE]), weir_kv_u64("transforms", n[WEIR_TRANSFORM]),
           weir_kv_u64("sinks", n[WEIR_SINK]));
}

/* Closes it behind the listener's back. */
static struct wr_pipeline_left close_pipeline(struct wr_supervisor *s, struct slot *slot,
                                              enum wr_pipeline_state state)
{
    pthread_mutex_lock(&s->lock);
    slot->state = state;
    slot->over = true;
    pthread_mutex_unlock(&s->lock);
    return wr_pipeline_close(atomic_load(&slot->pipeline));
}

/* All of them, or none: what was opened is closed again. */
static bool start_all(struct wr_supervisor *s)
{
    uint32_t n = 0;
    while (n < s->n && open_pipeline(s, &s->slots[n]))
        n++;
    if (n < s->n) {
        while (n-- > 0)
            (void)close_pipeline(s, &s->slots[n], WR_PIPELINE_STOPPED);
        return false;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        wr_pipeline_start(atomic_load(&s->slots[i].pipeline), on_change, s);
        log_start(&s->slots[i]);
    }
    return true;
}

/* ---- End ---- */

static void begin_end(struct wr_supervisor *s)
{
    if (atomic_exchange(&s->ending, true))
        return;
    int64_t now = wr_now(s->rt.clock);
    for (uint32_t i = 0; i < s->n; i++) {
        struct slot *slot = &s->slots[i];
        int64_t timeout = slot->plan->shutdown_timeout;
        slot->drain_at = now + slot->plan->drain_delay;
        slot->deadline = timeout < WEIR_NEVER - slot->drain_at ? slot->drain_at + timeout : WEIR_NEVER;
    }
}

static void drain_due(struct wr_supervisor *s, int64_t now)
{
    for (uint32_t i = 0; i < s->n; i++) {
        struct slot *slot = &s->slots[i];
        if (slot->closed || slot->drain_at > now)
            continue;
        slot->drain_at = WEIR_NEVER;
        wr_pipeline_drain(atomic_load(&slot->pipeline), slot->deadline);
    }
}

/* The second signal: every deadline is now. */
static void end_now(struct wr_supervisor *s)
{
    int64_t now = wr_now(s->rt.clock);
    for (uint32_t i = 0; i < s->n; i++) {
        s->slots[i].drain_at = s->slots[i].closed ? WEIR_NEVER : now;
        s->slots[i].deadline = now;
    }
    drain_due(s, now);
}

_Noreturn static void end_hard(struct wr_supervisor *s, const char *why)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (!s->slots[i].closed)
            WR_LOG(s->slots[i].log, WEIR_LOG_ERROR, "pipeline did not end in time",
                   weir_kv_text("reason", why));
    }
    WR_LOG(s->log, WEIR_LOG_ERROR, "weir ends without a clean shutdown",
           weir_kv_i64("exit_code", WR_EXIT_PROBLEMS));
    _exit(WR_EXIT_PROBLEMS);
}

static void on_signal(struct wr_supervisor *s, const char *name)
{
    s->n_signals++;
    WR_LOG(s->log, s->n_signals == 1 ? WEIR_LOG_INFO : WEIR_LOG_WARN,
           s->n_signals == 1 ? "shutting down" : "shutting down at once",
           weir_kv_text("signal", name));
    if (s->n_signals == 1)
        begin_end(s);
    else if (s->n_signals == 2) {
        begin_end(s);
        end_now(s);
    } else
        end_hard(s, "a third signal");
}

/* ---- Reload ---- */

/* A signal to end waits: it is no time for a reload. Another SIGHUP is one for the time after it. */
static bool end_waits(void *arg)
{
    sigset_t pending;
    (void)arg;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* By itself: whoever looks first notes it. */
static bool has_stopped(struct slot *slot)
{
    slot->stopped = slot->stopped || wr_pipeline_reason(atomic_load(&slot->pipeline))[0] != '\0';
    return slot->stopped;
}

static void runs_by(struct slot *slot, const struct wr_plan *take_plan)
{
    wr_log_scope_hide(slot->log, take_plan->secrets);
    wr_plan_free(slot->plan);
    slot->plan = take_plan;
}

/* Until the next call. One that has ended takes no memory and no folder. */
static struct wr_others others_of(struct wr_supervisor *s, const struct slot *slot)
{
    for (uint32_t i = 0; i < s->n; i++)
        s->others[i] = &s->slots[i] == slot || s->slots[i].closed ? NULL : s->slots[i].plan;
    return (struct wr_others){s->others, s->n};
}

/* One that has stopped by itself begins anew, by what its files say now. */
static void start_again(struct wr_supervisor *s, struct slot *slot)
{
    struct wr_pipeline *before = atomic_load(&slot->pipeline), *p = NULL;
    const struct wr_plan *plan = wr_reloader_again(&slot->reloader, slot->plan, others_of(s, slot), &p);
    slot->again = false;
    if (plan == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&slot->pipeline, p);
    slot->over = false;
    pthread_mutex_unlock(&s->lock);
    slot->stopped = slot->closed = slot->left = false;
    wr_pipeline_free(before);
    runs_by(slot, plan);
    wr_pipeline_start(p, on_change, s);
    log_start(slot);
}

/* Why a pipeline that does not run cannot be reloaded. */
static const char *no_reload(const struct wr_supervisor *s, const struct slot *slot)
{
    if (atomic_load(&s->ending))
        return "no reload: the process ends";
    if (slot->stopped)
        return "the pipeline stops: its reload begins when that has ended";
    return "no reload: the pipeline has read its sources to their end";
}

static void reload(struct wr_supervisor *s, struct slot *slot)
{
    struct wr_pipeline *p = atomic_load(&slot->pipeline);
    bool ending = atomic_load(&s->ending), stopped = has_stopped(slot);
    if (!ending && slot->closed && stopped) {
        start_again(s, slot);
        return;
    }
    if (ending || stopped || wr_pipeline_state(p) != WR_PIPELINE_RUNNING) {
        WR_LOG(slot->log, WEIR_LOG_WARN, no_reload(s, slot));
        slot->again = stopped;
        return;
    }
    int64_t now = wr_now(s->rt.clock), timeout = slot->plan->shutdown_timeout;
    struct wr_reload_wait wait = {timeout < WEIR_NEVER - now ? now + timeout : WEIR_NEVER,
                                  end_waits, NULL};
    const struct wr_plan *plan = wr_reloader_run(&slot->reloader, p, slot->plan, others_of(s, slot), &wait);
    if (plan == NULL)
        return;
    runs_by(slot, plan);
}

static void look_at_files(struct wr_supervisor *s, int64_t now)
{
    if (!s->opt.watch || now < s->next_look || atomic_load(&s->ending))
        return;
    s->next_look = now + WR_RELOAD_LOOK_NS;
    for (uint32_t i = 0; i < s->n; i++)
        if ((!s->slots[i].closed || s->slots[i].stopped) && wr_reloader_look(&s->slots[i].reloader, s->slots[i].plan))
            reload(s, &s->slots[i]);
}

static void read_signals(struct wr_supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
        bool hangs_up = info.ssi_signo == SIGHUP;
        if (!hangs_up || s->slots[0].reloader.loader == NULL) {
            on_signal(s, hangs_up ? "SIGHUP" : info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
            continue;
        }
        for (uint32_t i = 0; i < s->n; i++)
            reload(s, &s->slots[i]);
    }
}

static void end_pipeline(struct wr_supervisor *s, struct slot *slot, enum wr_pipeline_state state)
{
    struct wr_pipeline_left left = close_pipeline(s, slot, state);
    bool bad = slot->stopped || left.events > 0 || left.timed_out;
    slot->closed = true;
    slot->left = left.events > 0;
    WR_LOG(slot->log, bad ? WEIR_LOG_WARN : WEIR_LOG_INFO, "pipeline ended",
           weir_kv_bool("stopped_by_itself", slot->stopped),
           weir_kv_bool("timed_out", left.timed_out), weir_kv_u64("events_left", left.events));
}

/* Why a pipeline stops is logged by the pipeline. */
static void look_at(struct wr_supervisor *s, struct slot *slot)
{
    struct wr_pipeline *p = atomic_load(&slot->pipeline);
    if (slot->closed)
        return;
    wr_pipeline_reap(p);
    enum wr_pipeline_state state = wr_pipeline_state(p);
    if (has_stopped(slot) && s->opt.exit_on_stop)
        begin_end(s);
    if (state != WR_PIPELINE_DONE && state != WR_PIPELINE_STOPPED)
        return;
    end_pipeline(s, slot, state);
    if (slot->again && !atomic_load(&s->ending))
        start_again(s, slot);
}

/* ---- The loop ---- */

/* True when everything has ended. A pipeline that stopped by itself keeps the process up until it
 * is told to end. */
static bool all_over(const struct wr_supervisor *s)
{
    bool stopped = false;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!s->slots[i].closed)
            return false;
        stopped = stopped || s->slots[i].stopped;
    }
    return !stopped || s->ending;
}

static int64_t next_wake(struct wr_supervisor *s, int64_t now)
{
    int64_t wake = now + LOG_FLUSH_EVERY;
    if (s->opt.watch && !atomic_load(&s->ending) && s->next_look < wake)
        wake = s->next_look;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct slot *slot = &s->slots[i];
        if (slot->closed)
            continue;
        if (slot->drain_at < wake)
            wake = slot->drain_at;
        if (slot->deadline < WEIR_NEVER - GRACE && slot->deadline + GRACE < wake)
            wake = slot->deadline + GRACE;
    }
    return wake > now ? wake : now;
}

static bool hangs(const struct wr_supervisor *s, int64_t now)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct slot *slot = &s->slots[i];
        if (!slot->closed && slot->deadline < WEIR_NEVER - GRACE && now >= slot->deadline + GRACE)
            return true;
    }
    return false;
}

static void wait_for_news(struct wr_supervisor *s)
{
    struct pollfd fds[] = {{.fd = s->signals, .events = POLLIN},
                           {.fd = s->changes, .events = POLLIN}};
    int64_t now = wr_now(s->rt.clock);
    int64_t ms = (next_wake(s, now) - now + WEIR_NS_PER_MS - 1) / WEIR_NS_PER_MS;
    if (poll(fds, WR_COUNT(fds), (int)ms) <= 0)
        return;
    uint64_t n;
    ssize_t got = read(s->changes, &n, sizeof(n));
    (void)got;
    read_signals(s);
}

int wr_supervisor_run(struct wr_supervisor *s)
{
    if (!start_all(s))
        return WR_EXIT_PROBLEMS;
    while (!all_over(s)) {
        wait_for_news(s);
        drain_due(s, wr_now(s->rt.clock));
        look_at_files(s, wr_now(s->rt.clock));
        for (uint32_t i = 0; i < s->n; i++)
            look_at(s, &s->slots[i]);
        if (hangs(s, wr_now(s->rt.clock)))
            end_hard(s, "it did not come back after its deadline");
        wr_log_flush(s->rt.log);
    }
    bool failed = false;
    for (uint32_t i = 0; i < s->n; i++)
        failed = failed || s->slots[i].stopped || s->slots[i].left;
    return failed ? WR_EXIT_PROBLEMS : WR_EXIT_OK;
}
