/* SPDX-License-Identifier: Apache-2.0
 *
 * app/files.c: loads pipeline files, collecting what is wrong with all of them.
 */
#include <app/files.h>
#include <app/folders.h>
#include <base/mem.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool wr_files_load(const char *command, const struct wr_cli_list *plugin_dirs,
                   const struct wr_cli_list *files, struct wr_files *ret_f)
{
    struct wr_files f = {.loader = wr_folders_open(command, plugin_dirs), .n = files->n};
    if (f.loader == NULL)
        return false;
    f.diags = wr_diags_new();
    f.plans = wr_xalloc((f.n + 1u) * sizeof(struct wr_plan *));
    for (uint32_t i = 0; i < f.n; i++)
        f.plans[i] = wr_plan_load(files->items[i], f.loader, f.diags);
    for (uint32_t i = 0; i < f.n; i++)
        if (f.plans[i] != NULL)
            wr_plan_check_buffers(f.plans[i], (const struct wr_plan *const *)f.plans, i, f.diags);
    *ret_f = f;
    return true;
}

static bool type_missing(const struct wr_files *f)
{
    uint32_t n = wr_diags_count(f->diags, WR_ERROR) + wr_diags_count(f->diags, WR_WARNING);
    for (uint32_t i = 0; i < n; i++) {
        const char *code = wr_diags_at(f->diags, i)->code;
        if (strcmp(code, "unknown-type") == 0 || strcmp(code, "no-condition-service") == 0)
            return true;
    }
    return false;
}

void wr_files_print(const struct wr_files *f, FILE *out)
{
    const char *no_color = getenv("NO_COLOR");
    bool color = isatty(fileno(out)) && (no_color == NULL || no_color[0] == '\0');
    struct wr_buf b = {0};
    wr_diags_print(f->diags, &b, color);
    if (type_missing(f)) {
        for (uint32_t i = 0; i < wr_loader_n_bad(f->loader); i++)
            wr_buf_printf(&b, "plugin file cannot be used: %s\n", wr_loader_bad(f->loader, i));
        for (uint32_t i = 0; i < wr_loader_n_dirs(f->loader); i++)
            wr_buf_printf(&b, "%s%s", i == 0 ? "plugins were looked for in: " : ", ",
                          wr_loader_dir(f->loader, i));
        wr_buf_text(&b, wr_loader_n_dirs(f->loader) > 0 ? "\n" : "no plugin folder was found\n");
    }
    fwrite(b.ptr != NULL ? b.ptr : "", 1, b.len, out);
    wr_buf_done(&b);
}

/* With a scope of its own, so that many of its kind do not count as repeats. */
void wr_files_log(struct wr_log *log, const struct wr_diag *d)
{
    struct wr_log_scope *scope = wr_log_scope_new(log, NULL, 0);
    bool error = d->severity == WR_ERROR;
    struct weir_kv kv[10];
    uint32_t n = 0;
    if (d->pos.text != NULL)
        kv[n++] = weir_kv_str("file", d->pos.text->name);
    kv[n++] = weir_kv_u64("line", d->pos.line);
    kv[n++] = weir_kv_u64("col", d->pos.col);
    kv[n++] = weir_kv_text("code", d->code);
    kv[n++] = weir_kv_str("path", d->path);
    kv[n++] = weir_kv_str("message", d->message);
    if (d->expected.len > 0)
        kv[n++] = weir_kv_str("expected", d->expected);
    if (d->found.len > 0)
        kv[n++] = weir_kv_str("found", d->found);
    if (d->hint.len > 0)
        kv[n++] = weir_kv_str("hint", d->hint);
    wr_log_write(scope, error ? WEIR_LOG_ERROR : WEIR_LOG_WARN,
                 error ? "mistake in a pipeline file" : "warning about a pipeline file", kv, n);
    wr_log_scope_free(scope);
}

void wr_files_done(struct wr_files *f)
{
    for (uint32_t i = 0; i < f->n; i++)
        wr_plan_free(f->plans[i]);
    wr_free(f->plans);
    wr_diags_free(f->diags);
    wr_loader_free(f->loader);
}
