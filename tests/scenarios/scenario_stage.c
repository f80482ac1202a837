// SPDX-License-Identifier: Apache-2.0
//
// Makes what a scenario says is there, by the public calls alone, and tells what is there later. The cache has room for the frames
// that are listed and for the pages that are in memory before, no more; all of it is one session, for only the process that made a
// segment knows which pages were never written.
//
//   every page that has contents is written, cleaned and aged; so it goes first when room is needed
//   a scratch segment takes every frame and gives it back: nothing is in memory
//   pages that are to be in memory, then those of the listed frames, are swapped in; what is left is free
//   the listed frames are aged in their order: that is the order in which they are claimed
//
// Pages are brought in by calls and not by touches: a touch's page is no victim for a second.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scenarios/scenario.h"

enum { PAGE_BYTES = 4096 };

static uint64_t *word_of(const struct scenario *s, uint64_t page)
{
    return (uint64_t *)((char *)dsm_segment_base(s->segment) + page * PAGE_BYTES);
}

static int failed(struct scenario *s, const char *what, int error)
{
    if (error != 0) {
        scenario_say(s, "%s: %s: %s", what, dsm_strerror(error), dsm_error()->text);
    }
    return error;
}

static int swap_in(struct scenario *s, uint64_t page, unsigned flags)
{
    return failed(s, "setting the stage",
                  dsm_swap_in(s->segment, (dsm_interval){page, 1}, flags, DSM_NO_PAGE));
}

static int age(struct scenario *s, uint64_t page)
{
    return failed(s, "setting the stage", dsm_age(s->segment, (dsm_interval){page, 1}));
}

// On the server, and soon gone from here.
static int put_away(struct scenario *s, uint64_t page)
{
    int error = swap_in(s, page, DSM_WRITE);
    if (error == 0) {
        word_of(s, page)[0] = page + 1000;
        error =
            failed(s, "setting the stage", dsm_clean(s->segment, (dsm_interval){page, 1}, NULL));
    }
    return error != 0 ? error : age(s, page);
}

static int put_pages_away(struct scenario *s)
{
    int error = 0;
    for (uint32_t i = 0; i < s->page_count && error == 0; i++) {
        if (strchr("OCDPR", s->pages[i].state) != NULL) {
            error = put_away(s, i);
        } else if (s->pages[i].state == 'N') {
            error = failed(s, "setting the stage",
                           dsm_set_data_state(s->segment, (dsm_interval){i, 1}, DSM_DATA_NONE));
        }
    }
    for (uint32_t i = 0; i < s->frame_count && error == 0; i++) {
        error = s->frames[i].state == 'F' ? 0 : put_away(s, s->frames[i].page);
    }
    return error;
}

static int bring_in(struct scenario *s, uint64_t page, char state)
{
    int error = swap_in(s, page, (state == 'P' ? DSM_PIN : 0) | (state == 'C' ? 0 : DSM_WRITE));
    if (error == 0 && state != 'C') {
        word_of(s, page)[1] = page + 2000; // what the server does not have
    }
    return error;
}

static int bring_pages_in(struct scenario *s)
{
    int error = 0;
    for (uint32_t i = 0; i < s->page_count && error == 0; i++) {
        if (strchr("CDP", s->pages[i].state) != NULL) {
            error = bring_in(s, i, s->pages[i].state);
        } else if (s->pages[i].state == 'R') {
            error = failed(s, "setting the stage",
                           dsm_make_read_only(s->segment, (dsm_interval){i, 1}));
        }
    }
    for (uint32_t i = 0; i < s->frame_count && error == 0; i++) {
        error = s->frames[i].state == 'F' ? 0 : bring_in(s, s->frames[i].page, s->frames[i].state);
    }
    for (uint32_t i = 0; i < s->frame_count && error == 0; i++) {
        error = s->frames[i].state == 'F' ? 0 : age(s, s->frames[i].page);
    }
    return error;
}

// Everything leaves memory: as many pages of another segment as there are frames come in, and give their contents up.
static int empty_cache(struct scenario *s, uint64_t frames)
{
    dsm_segment *scratch;
    int error = failed(s, "setting the stage",
                       dsm_segment_create(s->session, "scenario-scratch", frames * PAGE_BYTES,
                                          PAGE_BYTES, DSM_EPHEMERAL, &scratch));
    if (error == 0) {
        dsm_interval all = {0, frames};
        error = failed(s, "setting the stage", dsm_swap_in(scratch, all, 0, DSM_NO_PAGE));
        error = error != 0 ? error
                           : failed(s, "setting the stage",
                                    dsm_set_data_state(scratch, all, DSM_DATA_UNDEFINED));
    }
    return error;
}

static uint64_t frames_of(const struct scenario *s)
{
    uint64_t frames = s->frame_count;
    for (uint32_t i = 0; i < s->page_count; i++) {
        frames += strchr("CDP", s->pages[i].state) != NULL;
    }
    return frames > 0 ? frames : 1;
}

static void settings(const struct scenario *s)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)frames_of(s) * PAGE_BYTES);
    (void)setenv("DSM_CACHE", text, 1);
    (void)snprintf(text, sizeof text, "%u", s->buffer);
    (void)setenv("DSM_SWAP_BUFFER", text, 1);
    (void)snprintf(text, sizeof text, "%u", s->gap);
    (void)setenv("DSM_CLEAN_GAP", text, 1);
    (void)setenv("DSM_EXACT", "on", 1);
    (void)setenv("DSM_READ_AHEAD", "0", 1);
    (void)setenv("DSM_LAUNDRY", "off", 1);
}

int scenario_open(struct scenario *s)
{
    settings(s);
    if (s->segment_pages == 0) {
        s->segment_pages = SCENARIO_PAGES;
    }
    int error = failed(s, "no session", dsm_open(NULL, &s->session));
    if (error != 0) {
        s->session = NULL;
        return error;
    }
    char name[64];
    (void)snprintf(name, sizeof name, "scenario-%p", (const void *)s);
    error = failed(s, "no segment",
                   dsm_segment_create(s->session, name, s->segment_pages * PAGE_BYTES, PAGE_BYTES,
                                      DSM_EPHEMERAL, &s->segment));
    error = error != 0 ? error : scenario_stores_open(s, name);
    error = error != 0 ? error : put_pages_away(s);
    error = error != 0 ? error : empty_cache(s, frames_of(s));
    error = error != 0 ? error : bring_pages_in(s);
    if (error == 0) {
        s->before.size = sizeof s->before;
        error = failed(s, "no counters", dsm_stats(s->session, &s->before));
        scenario_wire_start(s);
    }
    return error;
}

char scenario_state(struct scenario *s, uint64_t page)
{
    dsm_page_info info;
    if (dsm_page_state(s->segment, page, &info) != 0) {
        return '?';
    }
    if (!info.resident && info.data == DSM_DATA_NONE) {
        return 'N';
    }
    if (!info.resident && info.data == DSM_DATA_UNDEFINED) {
        return 'U';
    }
    if (!info.resident && info.read_only) {
        return 'R';
    }
    if (!info.resident) {
        return 'O';
    }
    if (info.pin_count > 0) {
        return 'P';
    }
    if (info.needs_cleaning) {
        return 'D';
    }
    if (info.data == DSM_DATA_UNDEFINED) {
        return 'K';
    }
    return 'C';
}

static void unpin_all(struct scenario *s)
{
    for (uint64_t page = 0; s->segment != NULL && page < s->segment_pages; page++) {
        dsm_page_info info;
        while (dsm_page_state(s->segment, page, &info) == 0 && info.pin_count > 0) {
            (void)dsm_unpin(s->segment, (dsm_interval){page, 1});
        }
    }
}

// What is undefined reads as zeros, all else as it was stored.
void scenario_check_contents(struct scenario *s)
{
    unpin_all(s); // room to read back
    for (uint64_t page = 0; page < s->segment_pages; page++) {
        dsm_page_info info;
        bool listed = page < s->page_count;
        for (uint32_t i = 0; i < s->frame_count; i++) {
            listed = listed || (s->frames[i].state != 'F' && s->frames[i].page == page);
        }
        if (!listed || dsm_page_state(s->segment, page, &info) != 0 || info.data == DSM_DATA_NONE) {
            continue;
        }
        int error = dsm_swap_in(s->segment, (dsm_interval){page, 1}, 0, DSM_NO_PAGE);
        if (error != 0) {
            (void)failed(s, "reading back", error);
            return;
        }
        uint64_t expected = info.data == DSM_DATA_UNDEFINED ? 0 : page + 1000;
        uint64_t found = word_of(s, page)[0];
        if (found != expected &&
            !(page < s->page_count && s->pages[page].state == 'U' && found == 0)) {
            scenario_say(s, "page %llu holds %llu, not %llu", (unsigned long long)page,
                         (unsigned long long)found, (unsigned long long)expected);
        }
    }
}

void scenario_close(struct scenario *s)
{
    if (s->session != NULL) {
        unpin_all(s);
        (void)failed(s, "closing", dsm_close(s->session));
        scenario_stores_close(s);
    }
}
