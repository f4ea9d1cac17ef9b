/* SPDX-License-Identifier: Apache-2.0
 *
 * What a connection has read and not used up. Usual buffers go from connection to connection, and
 * one that waits for its next request holds none; a long head has a larger one of its own.
 */
#include "http_source.h"

#include <string.h>

int64_t inbuf_charge(const struct inbuf *in)
{
    return in != NULL && in->cap > IN_CAP ? (int64_t)in->cap : 0;
}

static void charge(struct lane *s, int64_t bytes)
{
    if (bytes != 0)
        atomic_fetch_add_explicit(&s->shared->in_flight, bytes, memory_order_relaxed);
}

struct inbuf *inbuf_new(struct lane *s, size_t cap)
{
    struct inbuf *in = NULL;
    if (cap <= IN_CAP && s->n_free_inbufs != 0)
        in = s->free_inbufs[--s->n_free_inbufs];
    else
        in = s->h->realloc(NULL, sizeof(*in) + (cap < IN_CAP ? IN_CAP : cap)); /* not zeroed */
    if (in == NULL)
        return NULL;
    *in = (struct inbuf){.cap = cap < IN_CAP ? IN_CAP : cap};
    charge(s, inbuf_charge(in));
    return in;
}

void inbuf_free(struct lane *s, struct inbuf *take_in)
{
    if (take_in == NULL)
        return;
    charge(s, -inbuf_charge(take_in));
    if (take_in->cap == IN_CAP && s->n_free_inbufs < sizeof(s->free_inbufs) / sizeof(void *))
        s->free_inbufs[s->n_free_inbufs++] = take_in;
    else
        s->h->free(take_in);
}

struct weir_str inbuf_view(const struct inbuf *in)
{
    return in != NULL ? weir_str_n(in->data + in->at, in->len - in->at) : weir_str_n("", 0);
}

void inbuf_drop_empty(struct conn *c)
{
    if (c->in == NULL || c->in->at != c->in->len)
        return;
    inbuf_free(c->lane, c->in);
    c->in = NULL;
}

bool inbuf_is_full(const struct inbuf *in)
{
    return in != NULL && in->at == 0 && in->len == in->cap;
}

bool inbuf_room(struct conn *c)
{
    struct lane *s = c->lane;
    struct inbuf *in = c->in;
    if (in != NULL && in->at != 0) {
        memmove(in->data, in->data + in->at, in->len - in->at);
        in->len -= in->at;
        in->at = 0;
    }
    if (in != NULL && in->len < in->cap)
        return true;
    struct inbuf *larger = inbuf_new(s, in != NULL ? in->cap * 2 : IN_CAP);
    if (larger == NULL)
        return false;
    if (in != NULL) {
        memcpy(larger->data, in->data, in->len);
        larger->len = in->len;
        inbuf_free(s, in);
    }
    c->in = larger;
    return true;
}
