/* SPDX-License-Identifier: Apache-2.0
 *
 * app/memory.c: the limit and its metrics. Everything resident that no part has reported is "other": code,
 * libraries, stacks, plans, what the allocator keeps.
 */
#include <app/memory.h>
#include <base/budget.h>
#include <base/memlimit.h>
#include <engine/shares.h>

void wr_memory_find(int64_t given, struct wr_memory *ret)
{
    uint64_t cgroup = wr_memlimit_cgroup(""), machine = wr_memlimit_machine("");
    *ret = (struct wr_memory){.limit = machine / 4 * 3, .from = machine != 0 ? "machine" : NULL};
    if (given >= 0)
        *ret = (struct wr_memory){.limit = (uint64_t)given, .from = "--memory"};
    if (cgroup != 0 && (given < 0 || cgroup < ret->limit) && (machine == 0 || cgroup < machine))
        *ret = (struct wr_memory){.limit = cgroup, .from = "cgroup"};
}

bool wr_memory_fit(struct wr_memory *m, const char *command, struct wr_files *f, bool *ret_usage)
{
    *ret_usage = false;
    if (m->from == NULL)
        return true;
    if (m->limit < WR_SHARES_LIMIT_MIN) {
        *ret_usage = true;
        (void)wr_cli_usage(command, "the limit of memory (%s) is %llu bytes, expected at least 32MiB",
                           m->from, (unsigned long long)m->limit);
        return false;
    }
    m->shares = wr_shares_new(f->plans, f->n);
    return wr_shares_fit(m->shares, m->limit, f->diags);
}

/* ---- What is told ---- */

static void set_used(struct wr_memory *m, const char *what, size_t bytes)
{
    struct wr_label label = {"what", weir_cstr(what)};
    wr_metric_set(wr_metric(m->metrics, WR_GAUGE, "memory_used_bytes",
                            "Resident memory by who uses it.", &label, 1),
                  (double)bytes);
}

static void scrape(void *arg)
{
    struct wr_memory *m = arg;
    size_t resident = wr_budget_resident(), known = 0;
    for (uint32_t i = 0; wr_budget_use_name(i) != NULL; i++) {
        size_t used = wr_budget_used(i);
        set_used(m, wr_budget_use_name(i), used);
        known += used;
    }
    set_used(m, "other", resident > known ? resident - known : 0);
    uint64_t shortages = wr_budget_shortages();
    wr_metric_add(wr_metric(m->metrics, WR_COUNTER, "memory_shortages_total",
                            "How often memory became short, so that sources waited.", NULL, 0),
                  shortages - m->shortages);
    m->shortages = shortages;
}

static void log_lowered(uint64_t limit, const struct wr_shares *shares, struct wr_log_scope *log)
{
    struct wr_buf table = {0};
    wr_shares_table(shares, &table);
    WR_LOG(log, WEIR_LOG_INFO, "defaults are lowered to fit into the memory",
           weir_kv_u64("limit_bytes", limit), weir_kv_u64("shares_bytes", wr_shares_total(shares)),
           weir_kv_str("lowered", wr_buf_view(&table)));
    wr_buf_done(&table);
}

static bool fit_beside(const struct wr_memory *m, struct wr_plan *plan, const struct wr_plan *old,
                       const struct wr_plan *const *running, uint32_t n, struct wr_log_scope *log,
                       struct wr_diags *d)
{
    struct wr_shares *shares = wr_shares_new_for(plan, old);
    for (uint32_t i = 0; i < n; i++)
        if (running[i] != NULL)
            wr_shares_add_running(shares, running[i]);
    bool fits = wr_shares_fit(shares, m->limit, d);
    if (!fits)
        wr_shares_restore(shares);
    else if (wr_shares_lowered(shares) != 0)
        log_lowered(m->limit, shares, log);
    wr_shares_free(shares);
    return fits;
}

/* Defaults take all the room there is: beside components that keep theirs there may be none for new ones, though
 * a start would find some. */
bool wr_memory_fit_again(const struct wr_memory *m, struct wr_plan *plan, const struct wr_plan *old,
                         const struct wr_plan *const *running, uint32_t n, struct wr_log_scope *log,
                         struct wr_diags *d)
{
    if (m->from == NULL)
        return true;
    if (old == NULL)
        return fit_beside(m, plan, NULL, running, n, log, d);
    struct wr_diags *excess = wr_diags_new();
    bool fits = fit_beside(m, plan, old, running, n, log, excess);
    wr_diags_free(excess);
    if (fits)
        return true;
    if (!fit_beside(m, plan, NULL, running, n, log, d))
        return false;
    wr_shares_free(wr_shares_new_for(plan, old)); /* the plan says again what goes on really has */
    WR_LOG(log, WEIR_LOG_WARN,
           "the components that go on keep more memory than their share, until weir is started anew",
           weir_kv_u64("limit_bytes", m->limit));
    return true;
}

void wr_memory_begin(struct wr_memory *m, struct wr_metrics *metrics, struct wr_log_scope *log)
{
    m->metrics = metrics;
    m->shortages = wr_budget_shortages();
    wr_budget_set((size_t)m->limit);
    WR_LOG(log, WEIR_LOG_INFO, "memory limit", weir_kv_u64("bytes", m->limit),
           weir_kv_text("from", m->from != NULL ? m->from : "none"),
           weir_kv_u64("shares_bytes", m->shares != NULL ? wr_shares_total(m->shares) : 0));
    if (m->shares != NULL && wr_shares_lowered(m->shares) != 0)
        log_lowered(m->limit, m->shares, log);
    wr_metric_set(wr_metric(metrics, WR_GAUGE, "memory_limit_bytes",
                            "Most memory that the process takes: --memory, or its control group's.",
                            NULL, 0),
                  (double)m->limit);
    wr_metrics_on_scrape(metrics, scrape, m);
}

void wr_memory_done(struct wr_memory *m)
{
    if (m->metrics != NULL)
        wr_metrics_off_scrape(m->metrics, m);
    m->metrics = NULL;
    wr_shares_free(m->shares);
    m->shares = NULL;
}
