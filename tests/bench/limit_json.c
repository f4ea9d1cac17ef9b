/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_json IN OUT: lines read, parsed by yyjson, copied to be changed, one field renamed, one added,
 * one type dropped, written. The limit of file -> Lua -> file without Lua.
 */
#include "limit.h"

#include <yyjson.h>

#define POOL (1 << 20)

int main(int argc, char **argv)
{
    FILE *in = argc == 3 ? fopen(argv[1], "r") : NULL, *out = argc == 3 ? fopen(argv[2], "w") : NULL;
    if (in == NULL || out == NULL)
        limit_die("limit_json", "usage: limit_json IN OUT (readable, writable)");
    static char buffer[1 << 18], wbuffer[1 << 18], pool[POOL], wpool[POOL];
    setvbuf(in, buffer, _IOFBF, sizeof(buffer));
    setvbuf(out, wbuffer, _IOFBF, sizeof(wbuffer));
    char *line = NULL;
    size_t cap = 0;
    uint64_t n = 0;
    double t0 = limit_now();
    for (ssize_t len; (len = getline(&line, &cap, in)) > 0; n++) {
        yyjson_alc alc, walc;
        yyjson_alc_pool_init(&alc, pool, POOL);
        yyjson_alc_pool_init(&walc, wpool, POOL);
        yyjson_doc *doc = yyjson_read_opts(line, (size_t)len, 0, &alc, NULL);
        yyjson_val *type = yyjson_obj_get(yyjson_doc_get_root(doc), "type");
        if (yyjson_equals_str(type, "heartbeat"))
            continue;
        yyjson_mut_doc *mut = yyjson_doc_mut_copy(doc, &alc);
        yyjson_mut_val *root = yyjson_mut_doc_get_root(mut);
        yyjson_mut_obj_rename_key(mut, root, "user_id", "user");
        yyjson_mut_obj_add_int(mut, root, "seen", 1);
        size_t size;
        char *text = yyjson_mut_write_opts(mut, 0, &walc, &size, NULL);
        fwrite(text, 1, size, out);
        fputc('\n', out);
    }
    free(line);
    if (fclose(out) != 0)
        limit_die("limit_json", "cannot write");
    return limit_report(n, t0);
}
