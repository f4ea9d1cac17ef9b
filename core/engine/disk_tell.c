/* SPDX-License-Identifier: Apache-2.0
 *
 * What a disk buffer says of itself: metrics, and lines in the log.
 */
#include <engine/disk_impl.h>

#include <base/check.h>
#include <string.h>

static struct weir_metric *metric(struct wr_disk *d, enum wr_metric_type type, const char *name,
                                  const char *help)
{
    return wr_metric(d->opt.metrics, type, name, help, d->labels, d->opt.n_labels);
}

static void scrape(void *arg)
{
    struct wr_disk *d = arg;
    pthread_mutex_lock(&d->mutex);
    double bytes = (double)d->disk_bytes, segments = d->n_segments;
    pthread_mutex_unlock(&d->mutex);
    wr_metric_set(d->metrics.disk_bytes, bytes);
    wr_metric_set(d->metrics.segments, segments);
}

void wr_disk_metrics_open(struct wr_disk *d)
{
    WR_BUG_ON(d->opt.n_labels >= WR_DISK_LABELS);
    for (uint32_t i = 0; i < d->opt.n_labels; i++)
        d->labels[i] = d->opt.labels[i];
    d->opt.labels = d->labels;
    d->metrics = (struct wr_disk_metrics){
        .disk_bytes = metric(d, WR_GAUGE, "buffer_disk_bytes", "Bytes of a disk buffer's segments."),
        .segments = metric(d, WR_GAUGE, "buffer_segments", "Segment files of a disk buffer."),
        .sync_seconds = metric(d, WR_HISTOGRAM, "buffer_sync_seconds",
                               "How long a disk buffer's fdatasync took."),
        .regions = metric(d, WR_COUNTER, "buffer_damaged_regions_total",
                          "Places in a disk buffer that were damaged and were set aside."),
        .damaged_bytes = metric(d, WR_COUNTER, "buffer_damaged_bytes_total",
                                "Bytes of a disk buffer that were damaged and were set aside."),
        .torn_bytes = metric(d, WR_COUNTER, "buffer_torn_bytes_total",
                             "Bytes behind a disk buffer's last whole record that a start cut off."),
    };
    wr_metrics_on_scrape(d->opt.metrics, scrape, d);
}

void wr_disk_metrics_close(struct wr_disk *d)
{
    wr_metrics_off_scrape(d->opt.metrics, d);
}

void wr_disk_tell_find(void *disk, const struct wr_find *find)
{
    struct wr_disk *d = disk;
    const struct weir_kv kv[] = {
        weir_kv_text("path", d->opt.path), weir_kv_text("file", find->file),
        weir_kv_i64("offset", find->offset), weir_kv_i64("bytes", find->bytes),
        weir_kv_text("error", find->error != 0 ? strerror(find->error) : "")};
    uint32_t n = find->error != 0 ? WR_COUNT(kv) : WR_COUNT(kv) - 1;
    switch (find->kind) {
    case WR_FIND_TORN:
        wr_metric_add(d->metrics.torn_bytes, (uint64_t)find->bytes);
        wr_log_write(d->opt.log, WEIR_LOG_INFO, "a write that a crash cut short was cut off", kv, n);
        return;
    case WR_FIND_NO_CURSOR:
        WR_LOG(d->opt.log, WEIR_LOG_WARN, "the disk buffer has no cursor: all its events are given again",
               kv[0]);
        return;
    case WR_FIND_NO_HEADER:
        wr_log_write(d->opt.log, WEIR_LOG_WARN, "a segment's header is damaged, its records are read all the same",
                     kv, n);
        break;
    case WR_FIND_NO_SEGMENT:
        wr_log_write(d->opt.log, WEIR_LOG_ERROR, "a segment file holds no record and was set aside", kv, n);
        break;
    case WR_FIND_DAMAGED:
        wr_log_write(d->opt.log, WEIR_LOG_ERROR,
                     find->saved ? "a damaged place was set aside"
                                 : "a damaged place cannot be set aside: its segment will be kept",
                     kv, n);
        break;
    }
    wr_metric_add(d->metrics.regions, 1);
    wr_metric_add(d->metrics.damaged_bytes, (uint64_t)find->bytes);
}

void wr_disk_tell_error(struct wr_disk *d, const char *what, int error)
{
    struct wr_label labels[WR_DISK_LABELS];
    const char *name = strerrorname_np(error);
    memcpy(labels, d->labels, d->opt.n_labels * sizeof(labels[0]));
    labels[d->opt.n_labels] = (struct wr_label){"error", weir_cstr(name != NULL ? name : "unknown")};
    wr_metric_add(wr_metric(d->opt.metrics, WR_COUNTER, "buffer_errors_total",
                            "Calls of a disk buffer that its disk did not do.", labels, d->opt.n_labels + 1),
                  1);
    WR_LOG(d->opt.log, WEIR_LOG_ERROR, "the disk buffer's disk fails", weir_kv_text("cannot", what),
           weir_kv_text("error", strerror(error)), weir_kv_text("path", d->opt.path));
}

void wr_disk_tell_kept(struct wr_disk *d)
{
    const struct weir_kv kv[] = {weir_kv_u64("events", d->synced_seq - d->cursor),
                                 weir_kv_u64("bytes", d->disk_bytes), weir_kv_text("path", d->opt.path)};
    if (d->synced_seq == d->cursor)
        return;
    if (d->last_came)
        wr_log_write(d->opt.log, WEIR_LOG_ERROR,
                     "events are left in the disk buffer of a sink that is gone: the next start delivers them if "
                     "a sink has a buffer with this path",
                     kv, WR_COUNT(kv));
    else
        wr_log_write(d->opt.log, WEIR_LOG_INFO, "the disk buffer keeps events for the next start", kv,
                     WR_COUNT(kv));
}
