// SPDX-License-Identifier: Apache-2.0
//
// Read-ahead by streams. A stream is recognised by where it would go on: since all pages of a run are opened, the next
// fault of a sequential walk comes right behind the run (or a little later, where pages were in already). A random
// fault finds no stream and fetches one page, so random access pays nothing for the guess.
#include "libdsm/policy/read_ahead.h"

void read_ahead_start(struct read_ahead *r)
{
    *r = (struct read_ahead){0};
    for (int i = 0; i < READ_AHEAD_STREAMS; i++) {
        r->streams[i].next = UINT64_MAX;
    }
}

static int find(const struct read_ahead *r, uint64_t page)
{
    for (int i = 0; i < READ_AHEAD_STREAMS; i++) {
        uint64_t next = r->streams[i].next;
        if (next != UINT64_MAX && page >= next && page - next <= r->streams[i].window / 2) {
            return i;
        }
    }
    return -1;
}

static int oldest(const struct read_ahead *r)
{
    int at = 0;
    for (int i = 1; i < READ_AHEAD_STREAMS; i++) {
        if (r->streams[i].used < r->streams[at].used) {
            at = i;
        }
    }
    return at;
}

uint32_t read_ahead_window(struct read_ahead *r, uint64_t page, uint32_t most)
{
    int at = find(r, page);
    uint32_t window = 1;
    if (at >= 0) {
        window = r->streams[at].window * 2;
    } else {
        at = oldest(r);
    }
    if (window > most) {
        window = most;
    }
    r->streams[at].window = window;
    r->streams[at].next = page + window;
    r->streams[at].used = ++r->clock;
    r->last = at;
    return window;
}

void read_ahead_trim(struct read_ahead *r, uint32_t pages)
{
    r->streams[r->last].next -= r->streams[r->last].window - pages;
}
