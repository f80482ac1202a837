// SPDX-License-Identifier: Apache-2.0
//
// A server that says that a segment lies on several servers, or not all on this one, is not believed to be of use: the
// segment is refused with a sentence, and let go of at the server. What the real dsmd says is changed on its way (the linker
// leads control_create through here).
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dsm/dsm.h"
#include "libdsm/backing/control.h"

enum { PAGE_BYTES = 4096, PAGES = 16 };

int __real_control_create(struct session *session, const char *name, uint64_t bytes,
                          uint32_t page_bytes, uint32_t flags, struct control_segment *segment,
                          struct failure *failure);
int __wrap_control_create(struct session *session, const char *name, uint64_t bytes,
                          uint32_t page_bytes, uint32_t flags, struct control_segment *segment,
                          struct failure *failure);

static const struct told {
    const char *what;
    struct placement_row first;
    uint32_t rows;
    int expected;
} cases[] = {
    {"two servers", {0, PAGES / 2, 0}, 2, -ENOTSUP},
    {"none", {0, 0, 0}, 0, -ENOTSUP},
    {"not the first page", {1, PAGES - 1, 0}, 1, -ENOTSUP},
    {"not the last page", {0, PAGES - 1, 0}, 1, -ENOTSUP},
    {"more than there is", {0, PAGES + 1, 0}, 1, -ENOTSUP},
    {"one", {0, PAGES, 0}, 1, 0}, // under the same name: the others were let go of
};
static const struct told *told;

int __wrap_control_create(struct session *session, const char *name, uint64_t bytes,
                          uint32_t page_bytes, uint32_t flags, struct control_segment *segment,
                          struct failure *failure)
{
    int error = __real_control_create(session, name, bytes, page_bytes, flags, segment, failure);
    segment->placements = told->rows;
    segment->placed = told->first;
    return error;
}

int main(void)
{
    dsm *session;
    int failed = 0;
    (void)setenv("DSM_SERVER", "embedded", 1);
    (void)setenv("DSM_EMBEDDED_SIZE", "64M", 0);
    (void)setenv("DSM_CONFIG", "", 1);
    if (dsm_open(NULL, &session) != 0) {
        printf("no session: %s\n", dsm_error()->text);
        return 1;
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dsm_segment *segment;
        told = &cases[i];
        int error = dsm_segment_create(session, "placed", (uint64_t)PAGES * PAGE_BYTES, PAGE_BYTES,
                                       DSM_EPHEMERAL, &segment);
        if (error != told->expected ||
            (error != 0 && strstr(dsm_error()->text, "several servers") == NULL)) {
            printf("%s: %d, %s\n", told->what, error, dsm_error()->text);
            failed++;
        }
    }
    return dsm_close(session) == 0 && failed == 0 ? 0 : 1;
}
