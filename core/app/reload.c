/* SPDX-License-Identifier: Apache-2.0
 *
 * app/reload.c: one pipeline's reloads. A look compares the places, times and sizes of all files that the
 * plan was made of, through symbolic links, since a ConfigMap is swapped by one; a change counts once it
 * has stood for a look, so that a file is not read while it is written. What is wrong with the new files
 * is said, and the old pipeline goes on.
 */
#include <app/reload.h>

#include <app/files.h>
#include <base/secret.h>
#include <base/str.h>

#include <errno.h>
#include <unistd.h>

static struct weir_metric *count(const struct wr_reloader *r, struct weir_str name, const char *result)
{
    const struct wr_label labels[] = {{"pipeline", name}, {"result", weir_cstr(result)}};
    return wr_metric(r->rt.metrics, WR_COUNTER, "config_reloads_total", "Reloads, by how they ended.",
                     labels, 2);
}

void wr_reloader_init(struct wr_reloader *r, const struct wr_plan *plan)
{
    const struct wr_label label = {"pipeline", plan->name};
    r->print = wr_content_print(plan->files);
    r->stamp = r->seen = wr_content_stamp(plan->files);
    r->ok = count(r, plan->name, "ok");
    r->failed = count(r, plan->name, "failed");
    r->successful = wr_metric(r->rt.metrics, WR_GAUGE, "config_last_reload_successful",
                              "1 where the files are those that the pipeline runs by.", &label, 1);
    r->success_time = wr_metric(r->rt.metrics, WR_GAUGE,
                                "config_last_reload_success_timestamp_seconds",
                                "When the pipeline began to run by its files.", &label, 1);
    wr_metric_set(r->successful, 1);
    wr_metric_set(r->success_time, (double)r->rt.clock->wall(r->rt.clock) / 1e9);
}

bool wr_reloader_look(struct wr_reloader *r, const struct wr_plan *plan)
{
    uint64_t stamp = wr_content_stamp(plan->files);
    bool stands = stamp == r->seen;
    r->seen = stamp;
    if (!stands || stamp == r->stamp)
        return false;
    r->stamp = stamp;
    uint64_t print = wr_content_print(plan->files);
    bool changed = print != r->print;
    r->print = print;
    return changed;
}

static void refused(struct wr_reloader *r, const char *why)
{
    wr_metric_add(r->failed, 1);
    wr_metric_set(r->successful, 0);
    WR_LOG(r->log, WEIR_LOG_ERROR, r->refusal, weir_kv_text("reason", why));
}

/* A file that is gone is no order: pipelines end with the process. */
static const char *why_unread(const struct wr_plan *plan, uint32_t n_errors)
{
    if (access(plan->file.ptr, F_OK) != 0 && errno == ENOENT)
        return "its file is not there: the pipelines of a process are those it was started with, so put the "
               "file back, or start weir anew without it";
    return n_errors == 1 ? "the file has a mistake, see the line before"
                         : "the file has mistakes, see the lines before";
}

static void log_mistakes(const struct wr_reloader *r, struct wr_diags *d)
{
    uint32_t n = wr_diags_count(d, WR_ERROR) + wr_diags_count(d, WR_WARNING);
    for (uint32_t i = 0; i < n; i++)
        wr_files_log(r->rt.log, wr_diags_at(d, i));
}

/* What `weir check` would say of it, with the others that run. */
static struct wr_plan *read_plan(struct wr_reloader *r, const struct wr_plan *plan, bool runs,
                                 struct wr_others others, struct wr_diags *d)
{
    struct wr_plan *new = wr_plan_load(plan->file.ptr, r->loader, d);
    if (new == NULL)
        return NULL;
    wr_plan_check_buffers(new, others.plans, others.n, d);
    if (wr_diags_count(d, WR_ERROR) == 0 &&
        (r->memory == NULL ||
         wr_memory_fit_again(r->memory, new, runs ? plan : NULL, others.plans, others.n, r->log, d)))
        return new;
    wr_plan_free(new);
    return NULL;
}

/* How the files are now. */
struct state {
    uint64_t print, stamp;
};

static struct state state_of(const struct wr_plan *plan)
{
    uint64_t stamp = wr_content_stamp(plan->files); /* first: a change while it is read is one */
    return (struct state){wr_content_print(plan->files), stamp};
}

/* NULL where the files are wrong: every mistake is logged. *ret_state is what was read; zeros where they changed
 * meanwhile, so that the next look finds a change. */
static struct wr_plan *read_files(struct wr_reloader *r, const struct wr_plan *plan, bool runs,
                                  struct wr_others others, struct state *ret_state)
{
    struct wr_diags *d = wr_diags_new();
    uint64_t before = wr_content_stamp(plan->files);
    struct wr_plan *new = read_plan(r, plan, runs, others, d);
    uint32_t n_errors = wr_diags_count(d, WR_ERROR);
    *ret_state = (struct state){0};
    if (new != NULL) {
        *ret_state = state_of(new);
        if (wr_content_stamp(plan->files) != before || wr_content_stamp(new->files) != ret_state->stamp)
            *ret_state = (struct state){0};
    }
    log_mistakes(r, d);
    wr_diags_free(d);
    if (new == NULL) {
        refused(r, why_unread(plan, n_errors));
        return NULL;
    }
    if (r->shutdown_timeout >= 0)
        new->shutdown_timeout = r->shutdown_timeout;
    if (wr_str_eq(new->name, plan->name))
        return new;
    refused(r, "its name has changed: metrics, logs and groups go by it; start it anew");
    wr_plan_free(new);
    return NULL;
}

/* The log knows the secrets of what runs; the error may repeat one of the new plan's. */
static void cannot(struct wr_reloader *r, const struct wr_plan *new, struct weir_error *err)
{
    wr_secrets_hide(new->secrets, err->text, strlen(err->text));
    refused(r, err->text);
}

/* It runs by these files from now on; they may be others than before. */
static void taken(struct wr_reloader *r, struct state state)
{
    r->print = state.print;
    r->stamp = r->seen = state.stamp;
    wr_metric_add(r->ok, 1);
    wr_metric_set(r->successful, 1);
    wr_metric_set(r->success_time, (double)r->rt.clock->wall(r->rt.clock) / 1e9);
}

const struct wr_plan *wr_reloader_run(struct wr_reloader *r, struct wr_pipeline *p,
                                      const struct wr_plan *plan, struct wr_others others,
                                      const struct wr_reload_wait *wait)
{
    r->refusal = "reload failed, the pipeline goes on as it was";
    struct state state;
    struct wr_plan *new = read_files(r, plan, true, others, &state);
    struct wr_reloaded done;
    struct weir_error err = {0};
    if (new == NULL)
        return NULL;
    if (!wr_pipeline_reload(p, new, wait, &done, &err)) {
        cannot(r, new, &err);
        wr_plan_free(new);
        return NULL;
    }
    taken(r, state);
    WR_LOG(r->log, WEIR_LOG_INFO, "pipeline reloaded", weir_kv_str("file", new->file),
           weir_kv_u64("kept", done.kept), weir_kv_u64("changed", done.changed),
           weir_kv_u64("added", done.added), weir_kv_u64("removed", done.removed));
    return new;
}

const struct wr_plan *wr_reloader_again(struct wr_reloader *r, const struct wr_plan *plan,
                                        struct wr_others others, struct wr_pipeline **ret_p)
{
    r->refusal = "reload failed, the pipeline stays stopped";
    struct state state;
    struct wr_plan *new = read_files(r, plan, false, others, &state);
    struct weir_error err = {0};
    if (new == NULL)
        return NULL;
    *ret_p = wr_pipeline_new(new, &r->rt, &err);
    if (*ret_p == NULL) {
        cannot(r, new, &err);
        wr_plan_free(new);
        return NULL;
    }
    taken(r, state);
    return new;
}
