/* SPDX-License-Identifier: Apache-2.0
 *
 * model/words.c: which word did the user mean.
 */
#include <base/str.h>
#include <model/diag.h>
#include <strings.h>

#define WORD_MAX 64

static uint32_t min3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t m = a < b ? a : b;
    return m < c ? m : c;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == '-' ? '_' : c;
}

/* Optimal string alignment: insert, delete, replace, swap neighbors. */
static uint32_t distance(struct weir_str a, struct weir_str b)
{
    uint32_t rows[3][WORD_MAX + 1];

    for (uint32_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (uint32_t i = 1; i <= a.len; i++) {
        uint32_t *now = rows[i % 3];
        const uint32_t *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        char ca = lower(a.ptr[i - 1]);

        now[0] = i;
        for (uint32_t j = 1; j <= b.len; j++) {
            char cb = lower(b.ptr[j - 1]);
            now[j] = min3(up[j] + 1, now[j - 1] + 1, up[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == lower(b.ptr[j - 2]) && lower(a.ptr[i - 2]) == cb) {
                uint32_t swap = up2[j - 2] + 1;
                now[j] = swap < now[j] ? swap : now[j];
            }
        }
    }
    return rows[a.len % 3][b.len];
}

const char *wr_nearest_word(struct weir_str word, const char *const *words, uint32_t n)
{
    const char *best = NULL;
    uint32_t best_d = UINT32_MAX;

    if (word.len == 0 || word.len > WORD_MAX)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct weir_str w = weir_cstr(words[i]);
        uint32_t longer = (uint32_t)(w.len > word.len ? w.len : word.len), d;
        if (w.len == 0 || w.len > WORD_MAX)
            continue;
        d = distance(word, w);
        if (d <= longer / 3 && d < best_d) {
            best = words[i];
            best_d = d;
        }
    }
    return best;
}

bool wr_sounds_secret(struct weir_str name)
{
    static const char *const parts[] = {"pass",    "pasw",   "secret",  "token", "credential",
                                        "private", "apikey", "api_key", "api-key", ".pem"};

    for (size_t i = 0; i + 3 < name.len; i++) {
        for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) {
            size_t n = strlen(parts[k]);
            if (n <= name.len - i && strncasecmp(name.ptr + i, parts[k], n) == 0)
                return true;
        }
    }
    return false;
}
