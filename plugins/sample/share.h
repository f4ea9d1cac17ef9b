/* SPDX-License-Identifier: Apache-2.0
 *
 * sample/share.h: which part of all keys is kept.
 */
#ifndef SAMPLE_SHARE_H
#define SAMPLE_SHARE_H

#include <weir/base.h>

/* Reads 0.25, 25% or 1/4, from 0 to 1. NULL, or what is wrong at byte *ret_offset. */
const char *share_parse(struct weir_str text, double *ret_share, size_t *ret_offset);

/* A place in [0, 1) that depends on the bytes and the seed alone, evenly spread. It is the same in
 * every process, on every machine and in every version. */
double share_place(struct weir_str key, uint64_t seed);

/* 64 random bits as such a place. */
double share_of_bits(uint64_t bits);

#endif
