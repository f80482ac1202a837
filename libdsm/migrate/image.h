// SPDX-License-Identifier: Apache-2.0
//
// A process image on its way out: its segments are frozen together, written, and described for the capsule; or go on as if nothing had
// been. The server has no part in it but for taking pages: who owns the image is another step's affair.
// Source: Vm_InitiateMigration, Vm_EncapState (Sprite).
//
// Threads: one owner. Nothing here is called from the image's own stack.
#ifndef LIBDSM_MIGRATE_IMAGE_H
#define LIBDSM_MIGRATE_IMAGE_H

#include "libdsm/migrate/capsule.h"
#include "libdsm/migrate/steps.h"
#include "libdsm/pager/pager.h"

struct image_part {
    struct segment *segment;
    enum capsule_type type;
    struct capsule_template from; // of a heap, and how many pages it has
    uint64_t from_pages;
    struct freeze freeze;
    struct call *flush;       // under way; NULL
    struct capsule_run *runs; // while it is frozen
    uint32_t run_count;
    bool frozen;
};

struct image { // all zeros but pager, parts and count before the freeze
    struct pager *pager;
    struct failpoint *steps; // or NULL
    uint32_t count;
    struct image_part parts[LIMIT_CAPSULE_SEGMENTS];
    int64_t frozen_ns;      // when
    struct segment *failed; // of an error: in which segment,
    uint64_t failed_page;   // and at which page, or DSM_NO_PAGE
};

// Freezes all of it, frees what is clean, and starts to write what is not; does not wait. After an error it is whole again.
// -EBUSY: a page is pinned, or the segment is not open for writing; -EALREADY; -DSM_EFENCED, -DSM_ELOST; -EAGAIN too many calls are
// under way; as pages_capture.
int image_freeze(struct image *image);
// Waits for all writes, of all segments. After an error it is whole again, and what could not be written is here still.
int image_settle(struct image *image);
// Whole again: whoever waited goes on. Of an image that is whole: nothing.
void image_thaw(struct image *image);
// As many segments of a capsule; the runs become its own. After the freeze.
void image_describe(struct image *image, struct capsule_segment *segments);
// Code that stays where it is: how the destination knows it. -ENOMEM.
int image_describe_code(const struct segment *code, const uint8_t identity[CAPSULE_IDENTITY_BYTES],
                        struct capsule_segment *to);

#endif
