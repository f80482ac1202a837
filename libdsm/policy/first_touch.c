// SPDX-License-Identifier: Apache-2.0
#include "libdsm/policy/first_touch.h"

#include <stdbool.h>
#include <string.h>

static uint32_t walk_to(const struct first_touch *f, uint64_t page)
{
    uint32_t i = 0;
    while (i < FIRST_TOUCH_WALKS - 1 && (f->walks[i].count == 0 || f->walks[i].next != page)) {
        i++;
    }
    return i;
}

uint32_t first_touch(struct first_touch *f, uint64_t page, uint32_t most)
{
    uint32_t i = walk_to(f, page);
    bool goes_on = f->walks[i].count > 0 && f->walks[i].next == page;
    uint32_t count = goes_on ? f->walks[i].count * 2 : 1;
    memmove(&f->walks[1], &f->walks[0], i * sizeof f->walks[0]);
    return count < most ? count : most;
}

void first_touch_got(struct first_touch *f, uint64_t page, uint32_t count)
{
    f->walks[0].next = page + count;
    f->walks[0].count = count;
}
