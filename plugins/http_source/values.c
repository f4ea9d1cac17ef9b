/* SPDX-License-Identifier: Apache-2.0
 *
 * What parsing a body may take. A value takes 16 bytes, and a text may have one in every two of its own:
 * [1,1,1]. So a large body is weighed before it is parsed: its values are counted, from above, and the bytes
 * that they would take are reserved in shared->values until the request has been answered. Small ones are
 * not: a poll takes no more of them than fit into a batch.
 *
 * Where all items of a body would take too much at once they are taken in parts, which bounds them as
 * small bodies are; then a single item may still take an eighth of everything.
 */
#include "take.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define WEIGHED_FROM (64u << 10)
#define VALUE_BYTES 16
#define WORST (2 + 2 * VALUE_BYTES) /* for each byte of a text of many: [[[[ */
#define USUAL 6
#define USUAL_INDENTED 16
#define LEAST (4 << 20) /* whatever max_decompressed is */
#define PART 8

/* ---- Weighing ---- */

static bool begins_value(char c)
{
    return c == ',' || c == ':' || c == '[' || c == '{';
}

/* At most so many values are in it: each but the first stands behind one of these bytes. */
static size_t count_values(struct weir_str text)
{
    size_t n = 1, at = 0;
#ifdef __SSE2__
    __m128i sum = _mm_setzero_si128();
    for (; text.len - at >= 16; at += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(text.ptr + at));
        __m128i open = _mm_cmpeq_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('{'));
        __m128i comma = _mm_cmpeq_epi8(v, _mm_set1_epi8(','));
        __m128i colon = _mm_cmpeq_epi8(v, _mm_set1_epi8(':'));
        __m128i any = _mm_or_si128(open, _mm_or_si128(comma, colon));
        __m128i ones = _mm_and_si128(any, _mm_set1_epi8(1));
        sum = _mm_add_epi64(sum, _mm_sad_epu8(ones, _mm_setzero_si128()));
    }
    uint64_t halves[2];
    _mm_storeu_si128((__m128i *)(void *)halves, sum);
    n += (size_t)(halves[0] + halves[1]);
#endif
    for (; at < text.len; at++)
        n += begins_value(text.ptr[at]);
    return n;
}

/* The reader copies the text and begins with a block for a value in every `usual` bytes. With more values the
 * block grows, and the old one is there until the new one has its content. */
static int64_t weigh(struct weir_str text, size_t usual)
{
    size_t n = count_values(text);
    return (int64_t)(text.len + n * VALUE_BYTES * (n > text.len / usual ? 2 : 1));
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Of one JSON text. Indented ones are expected to have fewer values. */
static int64_t weigh_one(struct weir_str text)
{
    size_t at = 0;
    while (at < text.len && is_space(text.ptr[at]))
        at++;
    bool indented = text.len - at > 2 && is_space(text.ptr[at + 1]) && is_space(text.ptr[at + 2]);
    return weigh(text, indented ? USUAL_INDENTED : USUAL);
}

/* ---- Reserving ---- */

static int64_t values_max(const struct lane *s)
{
    int64_t most = s->config->max_decompressed * VALUES_TIMES;
    return most > LEAST ? most : LEAST;
}

void values_give_back(struct request *q)
{
    if (q->weight != 0)
        atomic_fetch_sub_explicit(&q->lane->shared->values, q->weight, memory_order_relaxed);
    q->weight = 0;
}

/* Where all together then have `most` at the most. While memory is short there is one at a time. */
static bool reserve(struct request *q, int64_t bytes, int64_t most)
{
    struct lane *s = q->lane;
    int64_t before = atomic_fetch_add_explicit(&s->shared->values, bytes, memory_order_relaxed);
    bool fits = before + bytes <= most && (before == q->weight || !s->memory_short);
    if (fits)
        q->weight += bytes;
    else
        atomic_fetch_sub_explicit(&s->shared->values, bytes, memory_order_relaxed);
    return fits;
}

/* What it may take in the worst case, which saves the counting. Half of the room is left to others. */
static bool reserve_uncounted(struct request *q, size_t len, int64_t most)
{
    int64_t bytes = (int64_t)len * WORST;
    return bytes <= most / 4 && reserve(q, bytes, most / 2);
}

static bool refuse_weight(struct refusal *why, int64_t bytes, int64_t most)
{
    if (bytes > most)
        refuse(why, HTTP_CONTENT_TOO_LARGE, "too_many_values",
               "parsing would take %lld bytes of memory, and may take %lld: send smaller events, or fewer "
               "at a time",
               (long long)bytes, (long long)most);
    else
        refuse(why, HTTP_TOO_MANY_REQUESTS, "busy",
               "other requests wait for their delivery, and this one has so many values that there is no "
               "memory for them now: send it again later");
    return false;
}

/* Opaque bytes are not, but for what else a weir item says. */
static bool is_parsed(const struct taking *t)
{
    return !lane_is_raw(t->lane) || t->q->media == MEDIA_WEIR;
}

bool values_at_once(struct taking *t)
{
    struct items it;
    if (t->text.len <= WEIGHED_FROM || !is_parsed(t))
        return true;
    items_begin(&it, t->text, t->q->media, false);
    int64_t bytes, most = values_max(t->lane);
    t->weighs = true;
    if (reserve_uncounted(t->q, t->text.len, most))
        return true;
    bytes = it.single ? weigh_one(t->text) : weigh(t->text, USUAL_INDENTED);
    if (reserve(t->q, bytes, most))
        return true;
    if (it.single)
        refuse_weight(&t->q->refusal, bytes, most);
    return false;
}

bool values_fit_part(const struct taking *t, struct weir_str text, struct refusal *why)
{
    int64_t part = values_max(t->lane) / PART;
    bool light = text.len <= (size_t)part / WORST;
    int64_t bytes = light || !is_parsed(t) ? 0 : weigh_one(text);
    return bytes <= part || refuse_weight(why, bytes, part);
}

bool values_fit_decoded(struct taking *t, struct weir_str text, struct refusal *why)
{
    if (t->check != NULL)
        return values_fit_part(t, text, why);
    if (!t->weighs)
        return true;
    int64_t bytes = weigh_one(text), most = values_max(t->lane);
    return reserve(t->q, bytes, most) || refuse_weight(why, t->q->weight + bytes, most);
}
