// SPDX-License-Identifier: Apache-2.0
//
// The library's policy is played by its own room (libdsm/policy/replacement.c); the others are here, for comparison.
// A page's record: where it is (0: out), and whether it is open.
#include "tests/sim/policies.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "libdsm/policy/replacement.h"

enum { OUT = UINT32_MAX };

// ---- the library's own ----

struct own_play {
    struct replacement r;
    struct frame *frames;
    uint32_t *frame_of, *ghost;
    bool *open;
};

static enum replacement_view look(void *context, uint32_t frame, bool aged)
{
    struct own_play *play = context;
    uint64_t page = play->frames[frame].page;
    (void)aged;
    if (play->open[page]) {
        play->open[page] = false;
        return REPLACEMENT_PASS;
    }
    return REPLACEMENT_TAKE;
}

static void own_touch(struct own_play *play, uint32_t page, struct outcome *outcome)
{
    if (play->frame_of[page] != OUT) {
        outcome->hits++;
        if (!play->open[page]) {
            outcome->soft++;
            replacement_touched(&play->r, play->frame_of[page], false);
            play->open[page] = true;
        }
        return;
    }
    if (play->r.in_use == play->r.room) {
        uint32_t victim = replacement_choose(&play->r, look, play, UINT32_MAX);
        uint64_t gone = play->frames[victim].page;
        play->frame_of[gone] = OUT;
        play->ghost[gone] = replacement_take(&play->r, victim);
    }
    play->frame_of[page] = replacement_add(&play->r, 0, page, play->ghost[page]);
    play->open[page] = true;
}

static int play_own(const struct trace *trace, uint32_t frames, struct outcome *outcome)
{
    struct own_play play = {
        .frames = calloc(frames, sizeof *play.frames),
        .frame_of = malloc(trace->pages * sizeof *play.frame_of),
        .ghost = calloc(trace->pages, sizeof *play.ghost),
        .open = calloc(trace->pages, sizeof *play.open),
    };
    bool room =
        play.frames != NULL && play.frame_of != NULL && play.ghost != NULL && play.open != NULL;
    int error = room ? 0 : -ENOMEM;
    if (error == 0) {
        for (uint32_t i = 0; i < trace->pages; i++) {
            play.frame_of[i] = OUT;
        }
        replacement_start(&play.r, play.frames, frames);
        for (uint32_t i = 0; i < trace->count; i++) {
            own_touch(&play, trace->page[i], outcome);
        }
    }
    free(play.frames);
    free(play.frame_of);
    free(play.ghost);
    free(play.open);
    return error;
}

// ---- lists of pages, for the others ----

enum { NOWHERE = 0, LISTS = 2 };

struct lists { // doubly linked, of page numbers; each page in one of them at most
    uint32_t *next, *previous;
    uint8_t *in, *open;
    uint32_t head[LISTS], tail[LISTS], length[LISTS];
};

static int lists_make(struct lists *l, uint32_t pages)
{
    *l = (struct lists){
        .next = calloc(pages, sizeof *l->next),
        .previous = calloc(pages, sizeof *l->previous),
        .in = calloc(pages, 1),
        .open = calloc(pages, 1),
    };
    for (int i = 0; i < LISTS; i++) {
        l->head[i] = l->tail[i] = OUT;
    }
    return l->next != NULL && l->previous != NULL && l->in != NULL && l->open != NULL ? 0 : -ENOMEM;
}

static void lists_free(struct lists *l)
{
    free(l->next);
    free(l->previous);
    free(l->in);
    free(l->open);
}

static void leave(struct lists *l, uint32_t page)
{
    int list = l->in[page];
    uint32_t next = l->next[page];
    uint32_t previous = l->previous[page];
    *(previous == OUT ? &l->head[list] : &l->next[previous]) = next;
    *(next == OUT ? &l->tail[list] : &l->previous[next]) = previous;
    l->length[list]--;
    l->in[page] = NOWHERE;
}

static void join(struct lists *l, uint32_t page, int list) // at the tail: the last to be taken
{
    l->next[page] = OUT;
    l->previous[page] = l->tail[list];
    *(l->tail[list] == OUT ? &l->head[list] : &l->next[l->tail[list]]) = page;
    l->tail[list] = page;
    l->in[page] = (uint8_t)list;
    l->length[list]++;
}

static void move(struct lists *l, uint32_t page, int list)
{
    leave(l, page);
    join(l, page, list);
}

typedef void touch(struct lists *l, uint32_t page, uint32_t frames, struct outcome *outcome);

static int play_lists(const struct trace *trace, uint32_t frames, struct outcome *outcome,
                      touch *one)
{
    struct lists l;
    int error = lists_make(&l, trace->pages);
    for (uint32_t i = 0; i < trace->count && error == 0; i++) {
        one(&l, trace->page[i], frames, outcome);
    }
    lists_free(&l);
    return error;
}

// ---- first in, first out ----

enum { ALL = 1 };

static void fifo_touch(struct lists *l, uint32_t page, uint32_t frames, struct outcome *outcome)
{
    if (l->in[page] == ALL) {
        outcome->hits++;
        return;
    }
    if (l->length[ALL] == frames) {
        leave(l, l->head[ALL]);
    }
    join(l, page, ALL);
}

static int play_fifo(const struct trace *trace, uint32_t frames, struct outcome *outcome)
{
    return play_lists(trace, frames, outcome, fifo_touch);
}

// ---- least recently used: sees every touch, as no trap does ----

static void lru_touch(struct lists *l, uint32_t page, uint32_t frames, struct outcome *outcome)
{
    if (l->in[page] == ALL) {
        outcome->hits++;
        move(l, page, ALL);
        return;
    }
    fifo_touch(l, page, frames, outcome);
}

static int play_lru(const struct trace *trace, uint32_t frames, struct outcome *outcome)
{
    return play_lists(trace, frames, outcome, lru_touch);
}

// ---- second chance round the clock, closing what it passes ----

static void clock_touch(struct lists *l, uint32_t page, uint32_t frames, struct outcome *outcome)
{
    if (l->in[page] == ALL) {
        outcome->hits++;
        outcome->soft += !l->open[page];
        l->open[page] = 1;
        return;
    }
    while (l->length[ALL] == frames) {
        uint32_t head = l->head[ALL];
        if (l->open[head]) {
            l->open[head] = 0;
            move(l, head, ALL);
        } else {
            leave(l, head);
        }
    }
    join(l, page, ALL);
    l->open[page] = 1;
}

static int play_clock(const struct trace *trace, uint32_t frames, struct outcome *outcome)
{
    return play_lists(trace, frames, outcome, clock_touch);
}

// ---- at random ----

static int play_random(const struct trace *trace, uint32_t frames, struct outcome *outcome)
{
    uint32_t *frame = malloc(frames * sizeof *frame);
    uint8_t *in = calloc(trace->pages, 1);
    int error = frame != NULL && in != NULL ? 0 : -ENOMEM;
    uint32_t used = 0;
    uint64_t seed = 1;
    for (uint32_t i = 0; i < trace->count && error == 0; i++) {
        uint32_t page = trace->page[i];
        if (in[page]) {
            outcome->hits++;
            continue;
        }
        uint32_t at = used;
        if (used < frames) {
            used++;
        } else {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            at = (uint32_t)((seed >> 33) % frames);
            in[frame[at]] = 0;
        }
        frame[at] = page;
        in[page] = 1;
    }
    free(frame);
    free(in);
    return error;
}

// ---- Belady's: the one whose next touch is farthest away; knows the future ----

struct
    heap { // of pages in memory, the farthest next touch on top; keys that have changed stay behind as stale
    struct {
        uint32_t next, page;
    } * at;
    uint32_t length;
};

static void heap_push(struct heap *h, uint32_t next, uint32_t page)
{
    uint32_t i = h->length++;
    while (i > 0 && h->at[(i - 1) / 2].next < next) {
        h->at[i] = h->at[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->at[i].next = next;
    h->at[i].page = page;
}

static uint32_t heap_pop(struct heap *h,
                         const uint32_t *next_of) // the page on top that is not stale
{
    for (;;) {
        uint32_t next = h->at[0].next;
        uint32_t page = h->at[0].page;
        h->length--;
        uint32_t i = 0;
        for (uint32_t child = 1; child < h->length; child = 2 * i + 1) {
            child += child + 1 < h->length && h->at[child + 1].next > h->at[child].next;
            if (h->at[child].next <= h->at[h->length].next) {
                break;
            }
            h->at[i] = h->at[child];
            i = child;
        }
        h->at[i] = h->at[h->length];
        if (next_of[page] == next) {
            return page;
        }
    }
}

// when[i]: the touch after i of the same page; count and more: never (each its own, so that no two keys are equal).
static void look_ahead(const struct trace *trace, uint32_t *when, uint32_t *last)
{
    for (uint32_t p = 0; p < trace->pages; p++) {
        last[p] = OUT;
    }
    for (uint32_t i = trace->count; i-- > 0;) {
        uint32_t page = trace->page[i];
        when[i] = last[page] == OUT ? trace->count + page : last[page];
        last[page] = i;
    }
}

static int play_belady(const struct trace *trace, uint32_t frames, struct outcome *outcome)
{
    uint32_t *when = malloc(trace->count * sizeof *when);
    uint32_t *next_of = malloc(trace->pages * sizeof *next_of); // of pages in memory; OUT else
    struct heap heap = {.at = calloc(trace->count + 1ull, sizeof *heap.at)};
    int error = when != NULL && next_of != NULL && heap.at != NULL ? 0 : -ENOMEM;
    if (error == 0) {
        look_ahead(trace, when, next_of);
        for (uint32_t p = 0; p < trace->pages; p++) {
            next_of[p] = OUT;
        }
    }
    uint32_t used = 0;
    for (uint32_t i = 0; i < trace->count && error == 0; i++) {
        uint32_t page = trace->page[i];
        if (next_of[page] != OUT) {
            outcome->hits++;
        } else if (used < frames) {
            used++;
        } else {
            next_of[heap_pop(&heap, next_of)] = OUT;
        }
        next_of[page] = when[i];
        heap_push(&heap, when[i], page);
    }
    free(when);
    free(next_of);
    free(heap.at);
    return error;
}

const struct policy policies[] = {
    {"dsm", "the library's: probation, then second chance", play_own},
    {"clock", "second chance round the clock", play_clock},
    {"fifo", "first in, first out", play_fifo},
    {"random", "any", play_random},
    {"LRU", "least recently used, if every touch were seen", play_lru},
    {"Belady", "the best possible, if the future were known", play_belady},
    {NULL, NULL, NULL},
};
