// SPDX-License-Identifier: Apache-2.0
#include "libdsm/policy/first_touch.h"

#include <stdbool.h>
#include <string.h>

static bool goes_on(const struct first_touch *f, uint32_t walk, uint64_t page)
{
    return f->walks[walk].count > 0 && f->walks[walk].next == page;
}

uint32_t first_touch(struct first_touch *f, uint64_t page, uint32_t most)
{
    uint32_t i = 0;
    while (i < FIRST_TOUCH_WALKS - 1 && !goes_on(f, i, page)) {
        i++;
    }
    uint32_t count = goes_on(f, i, page) ? f->walks[i].count * 2 : 1;
    memmove(&f->walks[1], &f->walks[0],
            i * sizeof f->walks[0]); // the last one goes, if none goes on
    return count < most ? count : most;
}

void first_touch_got(struct first_touch *f, uint64_t page, uint32_t count)
{
    f->walks[0].next = page + count;
    f->walks[0].count = count;
}
