// SPDX-License-Identifier: Apache-2.0
//
// A table of rows (first page, pages, store) for each segment. Today's sessions have one server, so the table has one row, and
// every question is answered by looking at the number of rows; a run is its own only piece. With several stores the row
// of a page is found by halving.
//
// A store knows its pages by the segment's own numbers, as if it held all of them: so a request, its answer and
// an error name the same page everywhere, and nothing has to be counted over.
//
// Rows of one store that lie side by side are one row: so a run is broken only where the store changes, and the number of
// physical runs says how many requests were sent, not how the table was written down.
//
// The table does not change while anybody works on the segment; so it has no lock. (Cedar's LogicalVolume keeps it in the volume's
// root page; the name of what breaks runs there is VirtualToPhysical.)
#include "libdsm/backing/placement.h"

#include <errno.h>
#include <stddef.h>

#include "libdsm/sync/invariant.h"

void placement_whole(struct placement *p, struct backing_segment *segment, uint64_t pages)
{
    p->row_count = 1;
    p->rows[0] = (struct placement_row){.page = 0, .pages = pages, .store = 0};
    p->parts[0] = segment;
}

int placement_check(const struct placement_row *rows, uint32_t count, uint64_t pages,
                    uint32_t stores)
{
    uint64_t next = 0;
    if (count == 0 || count > LIMIT_PLACEMENT_ROWS || stores > LIMIT_STORES) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i].page != next || rows[i].pages == 0 || rows[i].pages > pages - next ||
            rows[i].store >= stores) {
            return -EINVAL;
        }
        next += rows[i].pages;
    }
    return next == pages ? 0 : -EINVAL;
}

void placement_set(struct placement *p, const struct placement_row *rows, uint32_t count)
{
    p->row_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct placement_row *last = p->row_count > 0 ? &p->rows[p->row_count - 1] : NULL;
        if (last != NULL && last->store == rows[i].store) {
            last->pages += rows[i].pages;
        } else {
            p->rows[p->row_count++] = rows[i];
        }
    }
}

static const struct placement_row *row_of(const struct placement *p, uint64_t page)
{
    uint32_t low = 0;
    uint32_t high = p->row_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (p->rows[middle].page <= page) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &p->rows[low];
}

uint32_t placement_store(const struct placement *p, uint64_t page)
{
    return row_of(p, page)->store;
}

struct backing_segment *placement_part(const struct placement *p, uint64_t page)
{
    return p->parts[row_of(p, page)->store];
}

bool placement_begins(const struct placement *p, uint64_t page)
{
    return p->row_count > 1 && row_of(p, page)->page == page;
}

bool placement_full(const struct placement *p, uint64_t page, uint32_t pieces)
{
    return pieces == LIMIT_RUN_PIECES && placement_begins(p, page);
}

uint32_t placement_break(const struct placement *p, uint64_t page, uint64_t count,
                         struct placement_piece *pieces, uint32_t most)
{
    const struct placement_row *row = row_of(p, page);
    uint32_t n = 0;
    for (; count > 0 && n < most; row++, n++) {
        INVARIANT(row < p->rows + p->row_count && page >= row->page);
        uint64_t left = row->page + row->pages - page;
        uint64_t part = count < left ? count : left;
        pieces[n] = (struct placement_piece){page, (uint32_t)part, row->store};
        page += part;
        count -= part;
    }
    return n;
}
