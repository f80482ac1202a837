// SPDX-License-Identifier: Apache-2.0
//
// A scenario's segment in several stores. The first, A, is the session's own server; for each further one a session is started
// beside it, with the same settings: an embedded dsmd of its own, or one more session at the dsmd of DSM_SERVER. Each
// has a segment of the full size and is asked for its own pages only.
//
// No program can have this: a session has one server. So here alone the inside of the library is reached for, before the first call
// and after the last one.
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdsm/backing/control.h"
#include "libdsm/session_api.h"
#include "tests/scenarios/scenario.h"

static struct { // but the first
    struct session session;
    struct settings settings;
    struct counters counters; // of lanes
    struct backing_segment part;
    bool runs;
} stores[LIMIT_STORES];

// "3-5:B"
static int row_of(const char *word, uint64_t next, struct placement_row *row)
{
    char *end;
    unsigned long long first = strtoull(word, &end, 10);
    if (!isdigit((unsigned char)*word) || *end != '-' || !isdigit((unsigned char)end[1])) {
        return -EINVAL;
    }
    unsigned long long last = strtoull(end + 1, &end, 10);
    if (first != next || last < first || last >= SCENARIO_PAGES || end[0] != ':' || end[1] < 'A' ||
        end[1] >= 'A' + LIMIT_STORES || end[2] != '\0') {
        return -EINVAL;
    }
    *row = (struct placement_row){first, last - first + 1, (uint32_t)(end[1] - 'A')};
    return 0;
}

int scenario_placement(struct scenario *s, char **words, int count)
{
    uint64_t next = 0;
    if (s->row_count > 0 || count < 2 || count > SCENARIO_ROWS) {
        scenario_say(s, "placement stands once, with at most %d rows", SCENARIO_ROWS - 1);
        return -EINVAL;
    }
    for (int i = 1; i < count; i++) {
        struct placement_row *row = &s->rows[s->row_count];
        if (row_of(words[i], next, row) != 0) {
            scenario_say(
                s,
                "\"%s\" is not a row of a placement: 0-2:A 3-5:B, in order from page 0 on, "
                "without gaps, stores A to %c",
                words[i], 'A' + LIMIT_STORES - 1);
            return -EINVAL;
        }
        next += row->pages;
        s->row_count++;
        s->stores = s->stores > row->store ? s->stores : row->store + 1;
    }
    return 0;
}

static int start_store(struct scenario *s, uint32_t n, const char *name)
{
    struct failure failure = {.text = ""};
    struct control_segment info;
    char own_name[64];
    memset(&stores[n], 0, sizeof stores[n]);
    stores[n].settings = s->session->settings;
    (void)snprintf(own_name, sizeof own_name, "%s-%c", name, 'A' + (int)n);
    int error =
        session_start(&stores[n].session, &stores[n].settings, &stores[n].counters, &failure);
    if (error == 0) {
        stores[n].runs = true;
        error =
            control_create(&stores[n].session, own_name, s->segment_pages * LIMIT_PAGE_MIN_BYTES,
                           LIMIT_PAGE_MIN_BYTES, CONTROL_EPHEMERAL, &info, &failure);
    }
    if (error != 0) {
        scenario_say(s, "store %c: %s: %s", 'A' + (int)n, strerror(-error), failure.text);
        return error;
    }
    struct backing_segment *part = &stores[n].part;
    part->id = info.id;
    part->epoch = info.epoch;
    part->pages = s->segment_pages;
    part->page_bytes = LIMIT_PAGE_MIN_BYTES;
    atomic_store(&part->next_version, info.highest + 1);
    atomic_store(&part->acknowledged, info.highest);
    return session_list(&stores[n].session, part, own_name, true);
}

// What the line does not speak of is A's.
static int complete(struct scenario *s)
{
    const struct placement_row *last = &s->rows[s->row_count - 1];
    uint64_t next = last->page + last->pages;
    if (next < s->segment_pages) {
        s->rows[s->row_count++] = (struct placement_row){next, s->segment_pages - next, 0};
    }
    if (placement_check(s->rows, s->row_count, s->segment_pages, s->stores) != 0) {
        scenario_say(s, "the placement goes beyond the segment's %llu pages",
                     (unsigned long long)s->segment_pages);
        return -EINVAL;
    }
    return 0;
}

int scenario_stores_open(struct scenario *s, const char *name)
{
    if (s->row_count == 0) {
        return 0;
    }
    struct backing *first = &s->session->session.backing;
    struct placement *placement = &s->segment->segment.placement;
    int error = complete(s);
    for (uint32_t n = 1; n < s->stores && error == 0; n++) {
        error = start_store(s, n, name);
        first->others[n] = &stores[n].session.backing;
        placement->parts[n] = &stores[n].part;
    }
    if (error == 0) {
        first->store_count = s->stores;
        placement_set(placement, s->rows, s->row_count);
    }
    return error;
}

void scenario_stores_close(struct scenario *s)
{
    for (uint32_t n = 1; n < s->stores; n++) {
        if (stores[n].runs) {
            session_unlist(&stores[n].session, &stores[n].part);
            (void)control_close(&stores[n].session, stores[n].part.id, NULL);
            session_stop(&stores[n].session);
            stores[n].runs = false;
        }
    }
}
