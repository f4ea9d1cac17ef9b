/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/transform_host.h: the host's functions that change events and their way. Contracts are those
 * of struct weir_host.
 */
#ifndef WR_ENGINE_TRANSFORM_HOST_H
#define WR_ENGINE_TRANSFORM_HOST_H

#include <weir/host.h>

struct weir_str wr_host_event_id(const struct weir_host *h, struct weir_batch *b,
                                 struct weir_event *ev);
const struct weir_value *wr_host_event_value(const struct weir_host *h, struct weir_batch *b,
                                             struct weir_event *ev);
struct weir_value *wr_host_event_edit(const struct weir_host *h, struct weir_batch *b,
                                      struct weir_event *ev);
void wr_host_event_set_value(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                             const struct weir_value *v);
void wr_host_event_set_payload(const struct weir_host *h, struct weir_batch *b,
                               struct weir_event *ev, struct weir_str payload);
struct weir_str wr_host_event_payload(const struct weir_host *h, struct weir_batch *b,
                                      struct weir_event *ev);
bool wr_host_event_set_header(const struct weir_host *h, struct weir_batch *b,
                              struct weir_event *ev, struct weir_str name, struct weir_str value);
bool wr_host_event_set_key(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                           struct weir_str key);
void wr_host_event_drop(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                        const char *reason);
void wr_host_event_filter(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                          const char *reason);
void wr_host_event_pass(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev);
void wr_host_event_fail(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                        const struct weir_result *result);
void wr_host_event_send(const struct weir_host *h, struct weir_event *ev, uint32_t port);
uint32_t wr_host_event_derive(const struct weir_host *h, struct weir_batch *b, uint32_t parent);
uint32_t wr_host_event_join(const struct weir_host *h, struct weir_batch *b, const uint32_t *parents,
                            uint32_t n, struct weir_held *const *held, uint32_t n_held);
struct weir_held *wr_host_event_hold(const struct weir_host *h, struct weir_batch *b,
                                     struct weir_event *ev);
uint32_t wr_host_held_release(const struct weir_host *h, struct weir_batch *b,
                              struct weir_held *take_held);
void wr_host_held_drop(const struct weir_host *h, struct weir_held *take_held);
const struct weir_event *wr_host_held_event(const struct weir_held *held);
bool wr_host_event_watch(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                         uint64_t cookie);
void wr_host_wake(const struct weir_host *h);
void wr_host_wait(const struct weir_host *h, int64_t deadline_ns);

#endif
