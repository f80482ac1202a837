// SPDX-License-Identifier: Apache-2.0
//
// See the header. The order is the source's, but for its faults: every segment is frozen and its writes are started before any is
// waited for, so that all are under way together; all are waited for before anything is given out; and one way back undoes
// whatever was done when a step fails, so that nothing stays locked and no segment is left behind half frozen.
//
// The page tables are captured at the freeze, dirty pages as written: nothing can change them any more but a write that fails, and
// then the image does not move. So the capsule's size is known from then on, to the byte.
//
// A sample of the statistics is a segment that is flushed, as in Proc_MigAddToCounter: what it wrote, and that squared.
#include "libdsm/migrate/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libdsm/migrate/pages.h"
#include "libdsm/stat/probes.h"

static int failed_in(struct image *image, const struct image_part *part, int error, uint64_t page)
{
    image->failed = part->segment;
    image->failed_page = page;
    return error;
}

static int freeze_part(struct image *image, struct image_part *part)
{
    struct segment *segment = part->segment;
    uint64_t failed = DSM_NO_PAGE;
    int error = backing_fate_errno(atomic_load(&segment->backing.fate));
    if (error != 0 || !segment->writable) {
        return failed_in(image, part, error != 0 ? error : -EBUSY, DSM_NO_PAGE);
    }
    error = pager_freeze(segment, &part->freeze);
    if (error != 0) {
        return failed_in(image, part, error, part->freeze.failed_page);
    }
    part->frozen = true;
    error = migrate_step(image->steps, MIGRATE_INITIATE_FROZEN);
    if (error != 0) {
        return failed_in(image, part, error, DSM_NO_PAGE);
    }
    error = pages_capture(segment, part->from_pages, &part->runs, &part->run_count, &failed);
    error = error != 0 ? error : migrate_step(image->steps, MIGRATE_INITIATE_CAPTURED);
    return error != 0 ? failed_in(image, part, error, failed) : 0;
}

static int start_flush(struct image *image, struct image_part *part)
{
    const struct call call = {.kind = CALL_FLUSH, .segment = part->segment};
    part->flush = pager_call_begin(image->pager, &call);
    int error = part->flush != NULL ? migrate_step(image->steps, MIGRATE_INITIATE_FLUSH) : -EAGAIN;
    return error == 0 ? 0 : failed_in(image, part, error, DSM_NO_PAGE);
}

int image_freeze(struct image *image)
{
    int error = 0;
    image->frozen_ns = sync_now();
    for (uint32_t i = 0; i < image->count && error == 0; i++) {
        error = freeze_part(image, &image->parts[i]);
    }
    for (uint32_t i = 0; i < image->count && error == 0; i++) {
        error = start_flush(image, &image->parts[i]);
    }
    if (error != 0) {
        image_thaw(image);
    }
    return error;
}

static int end_flush(struct image *image, struct image_part *part)
{
    struct call result = {.kind = CALL_FLUSH, .segment = part->segment};
    struct call *flush = part->flush;
    part->flush = NULL;
    int error = pager_call_end(image->pager, flush, &result);
    if (probe_migrate_flush_on()) {
        probe_migrate_flush(part->segment->number, part->freeze.dirty_pages,
                            part->freeze.clean_pages, (u64)(sync_now() - image->frozen_ns), error);
    }
    error = error != 0 ? error : migrate_step(image->steps, MIGRATE_ENCAP_WRITTEN);
    return error != 0 ? failed_in(image, part, error, result.failed_page) : 0;
}

static void count_sample(struct counters *stat, const struct image_part *part)
{
    uint64_t pages = part->freeze.dirty_pages;
    STAT_ADD(stat, migrate_samples, 1);
    STAT_ADD(stat, migrate_pages_written, pages);
    STAT_ADD(stat, migrate_pages_written_squared, pages * pages);
    STAT_ADD(stat, migrate_bytes_before, pages * part->segment->page_bytes);
}

int image_settle(struct image *image)
{
    int first = 0;
    for (uint32_t i = 0; i < image->count; i++) {
        int error = end_flush(image, &image->parts[i]); // all of them, whatever one says
        first = first != 0 ? first : error;
    }
    if (first != 0) {
        image_thaw(image);
        return first;
    }
    for (uint32_t i = 0; i < image->count; i++) {
        count_sample(image->pager->stat, &image->parts[i]);
        (void)pager_release_clean(image->parts[i].segment);
    }
    int error = migrate_step(image->steps, MIGRATE_ENCAP_RELEASED);
    if (error != 0) {
        image_thaw(image);
        return failed_in(image, &image->parts[0], error, DSM_NO_PAGE);
    }
    return 0;
}

void image_thaw(struct image *image)
{
    for (uint32_t i = 0; i < image->count; i++) {
        struct image_part *part = &image->parts[i];
        if (part->flush != NULL) {
            struct segment *failed = image->failed; // the first reason stays
            uint64_t page = image->failed_page;
            (void)end_flush(image, part);
            image->failed = failed;
            image->failed_page = page;
        }
        free(part->runs);
        part->runs = NULL;
        part->run_count = 0;
        if (part->frozen) {
            pager_thaw(part->segment);
        }
        part->frozen = false;
    }
}

static void describe(const struct segment *segment, enum capsule_type type,
                     struct capsule_segment *to)
{
    to->type = type;
    memcpy(to->name, segment->name, sizeof to->name);
    to->id = segment->backing.id;
    to->epoch = atomic_load(&segment->backing.epoch);
    to->base = (uintptr_t)segment->view.base;
    to->pages = segment->table.pages;
    to->page_bytes = segment->page_bytes;
}

void image_describe(struct image *image, struct capsule_segment *segments)
{
    for (uint32_t i = 0; i < image->count; i++) {
        struct image_part *part = &image->parts[i];
        struct capsule_segment *to = &segments[i];
        describe(part->segment, part->type, to);
        to->from = part->from;
        to->run_count = part->run_count;
        to->runs = part->runs;
        part->runs = NULL;
        part->run_count = 0;
    }
}

int image_describe_code(const struct segment *code, const uint8_t identity[CAPSULE_IDENTITY_BYTES],
                        struct capsule_segment *to)
{
    to->runs = malloc(sizeof *to->runs);
    if (to->runs == NULL) {
        return -ENOMEM;
    }
    describe(code, CAPSULE_CODE, to);
    memcpy(to->identity, identity, sizeof to->identity);
    to->runs[0] = (struct capsule_run){
        .pages = to->pages, .place = CAPSULE_BACKING, .read_only = true, .changed = false};
    to->run_count = 1;
    return 0;
}
