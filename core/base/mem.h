/* SPDX-License-Identifier: Apache-2.0
 *
 * base/mem.h: the one door to the heap. Counts what is in use. Thread: any.
 */
#ifndef WR_BASE_MEM_H
#define WR_BASE_MEM_H

#include <stddef.h>

/* Zeroed memory, NULL when there is no more: the callers on the path of events handle it. */
void *wr_alloc(size_t size);
void *wr_alloc_raw(size_t size); /* not zeroed */
void *wr_realloc(void *take_p, size_t size);
void wr_free(void *take_p);

/* The same for the control path. When memory is used up it lives on what was set aside for it; when that is used
 * up too, it ends the process with a message. */
void *wr_xalloc(size_t size);
void *wr_xrealloc(void *take_p, size_t size);
char *wr_xstrdup(const char *text);
char *wr_xmemdup(const char *ptr, size_t len); /* a NUL behind */

/* Bytes in use by now, as the allocator rounds them. */
size_t wr_mem_used(void);

#endif
