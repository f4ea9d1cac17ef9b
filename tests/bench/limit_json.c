/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_json: lines of a file through yyjson, on one core, without a pipeline round it.
 *
 *   limit_json parse IN        each line is parsed and a field read
 *   limit_json pass IN OUT     and written as it was
 *   limit_json edit IN OUT     and copied to be changed: a field renamed, one added, one type dropped; written.
 *                              The limit of file -> Lua -> file without Lua.
 */
#include "limit.h"

#include <yyjson.h>

#define POOL (1 << 20)

enum mode { PARSE, PASS, EDIT };

struct job {
    enum mode mode;
    FILE *in, *out;
    uint64_t events, parsed;
};

static char pool[POOL], wpool[POOL];

static void write_line(FILE *out, const char *text, size_t size)
{
    if (fwrite(text, 1, size, out) != size || fputc('\n', out) == EOF)
        limit_die("limit_json", "cannot write");
}

static void edit(struct job *j, yyjson_doc *doc, const yyjson_alc *alc)
{
    yyjson_alc walc;
    size_t size;
    if (yyjson_equals_str(yyjson_obj_get(yyjson_doc_get_root(doc), "type"), "heartbeat"))
        return;
    yyjson_alc_pool_init(&walc, wpool, POOL);
    yyjson_mut_doc *mut = yyjson_doc_mut_copy(doc, alc);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(mut);
    yyjson_mut_obj_rename_key(mut, root, "user_id", "user");
    yyjson_mut_obj_add_int(mut, root, "seen", 1);
    char *text = yyjson_mut_write_opts(mut, 0, &walc, &size, NULL);
    if (text == NULL)
        limit_die("limit_json", "an event is too large");
    write_line(j->out, text, size);
}

static void take(struct job *j, const char *line, size_t len)
{
    yyjson_alc alc;
    yyjson_alc_pool_init(&alc, pool, POOL);
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)line, len, 0, &alc, NULL);
    yyjson_val *field = yyjson_obj_get(yyjson_doc_get_root(doc), "user_id");
    j->events++;
    j->parsed += yyjson_get_len(field) > 0;
    if (j->mode == PASS)
        write_line(j->out, line, len);
    if (j->mode == EDIT)
        edit(j, doc, &alc);
}

static FILE *open_file(const char *path, const char *how, char *buffer, size_t size)
{
    FILE *f = fopen(path, how);
    if (f == NULL)
        limit_die(path, "cannot be opened");
    setvbuf(f, buffer, _IOFBF, size);
    return f;
}

int main(int argc, char **argv)
{
    static char in_buffer[1 << 18], out_buffer[1 << 18];
    const char *mode = argc > 1 ? argv[1] : "";
    struct job j = {strcmp(mode, "edit") == 0 ? EDIT : strcmp(mode, "pass") == 0 ? PASS : PARSE, NULL,
                    NULL, 0, 0};
    if (argc != (j.mode == PARSE ? 3 : 4))
        limit_die("limit_json", "usage: limit_json parse IN | pass IN OUT | edit IN OUT");
    j.in = open_file(argv[2], "r", in_buffer, sizeof(in_buffer));
    if (j.mode != PARSE)
        j.out = open_file(argv[3], "w", out_buffer, sizeof(out_buffer));
    char *line = NULL;
    size_t cap = 0;
    struct limit_clock began = limit_start();
    for (ssize_t len; (len = getline(&line, &cap, j.in)) > 0;)
        take(&j, line, (size_t)len - (line[len - 1] == '\n'));
    if (j.out != NULL && fclose(j.out) != 0)
        limit_die("limit_json", "cannot write");
    free(line);
    fclose(j.in);
    return limit_report(j.events, began, j.parsed);
}
