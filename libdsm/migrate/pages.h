// SPDX-License-Identifier: Apache-2.0
//
// A segment's page table as runs, for the capsule, and back: only where contents are and what the program said of them. That a page
// is in memory, dirty, pinned or on its way is of one host, and ends with the stay there. Source: VM_VIRT_RES_BIT, VM_ON_SWAP_BIT
// and LoadSegment (Sprite).
#ifndef LIBDSM_MIGRATE_PAGES_H
#define LIBDSM_MIGRATE_PAGES_H

#include "libdsm/migrate/capsule.h"
#include "libdsm/pager/pager.h"

// The runs of a segment that nobody touches and whose dirty pages are on the server, or will be before the runs are used. The
// caller frees *runs. template_pages: of these, what the program never stored into is the template's. -ENOMEM, -EFBIG more runs than a capsule holds, -EREMOTEIO: *failed, a page that the server lost.
int pages_capture(struct segment *segment, uint64_t template_pages, struct capsule_run **runs,
                  uint32_t *count, uint64_t *failed);
// The table of a segment that was just opened, before anybody touches it: it gets what the runs say and fetches nothing. The
// runs are as many pages as the segment.
void pages_publish(struct segment *segment, const struct capsule_run *runs, uint32_t count);

#endif
