// SPDX-License-Identifier: Apache-2.0
//
// Random operations from several threads at once on a segment that is larger than the cache. Each thread works for a while on
// a few neighbouring pages, so that most touches are hits, then moves on; threads meet on the same pages. What a thread does
// depends on the seed and its number alone; how the threads meet does not.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tests/model/model.h"

enum { WINDOW = 6, HELD_MOST = 2, PIN_PAGES_MOST = 3 };

struct worker {
    pthread_t thread;
    uint64_t random;
    uint64_t window; // first of the pages it works on
    dsm_interval held[HELD_MOST];
    uint32_t number, held_count;
    struct model_own own[MODEL_PAGES_MOST];
};

static struct worker workers[MODEL_THREADS_MOST];

static uint64_t some(struct worker *w, uint64_t end)
{
    return model_below(&w->random, end);
}

static uint64_t some_page(struct worker *w)
{
    if (some(w, 96) == 0) {
        w->window = some(w, model_options.pages);
    }
    return (w->window + some(w, WINDOW)) % model_options.pages;
}

static dsm_interval some_interval(struct worker *w, uint64_t most)
{
    uint64_t page = some_page(w);
    uint64_t left = model_options.pages - page;
    return (dsm_interval){page, some(w, (left < most ? left : most) + 1)};
}

static void note_stored(struct worker *w, uint64_t page)
{
    w->own[page].dirty_while_pinned |= w->own[page].pins > 0;
}

static void do_load(struct worker *w)
{
    model_checked_load(some_page(w), (uint32_t)some(w, MODEL_SLOTS));
}

// Words belong to threads in turn. With more threads than words some have none.
static void do_store(struct worker *w)
{
    uint64_t slot = w->number + some(w, MODEL_SLOTS) * model_options.threads;
    uint64_t page = some_page(w);
    if (slot < MODEL_SLOTS && model_checked_store(page, (uint32_t)slot)) {
        note_stored(w, page);
    }
}

static void do_add(struct worker *w)
{
    uint64_t page = some_page(w);
    if (!model_may_kill(page) && model_checked_add(page, (uint32_t)some(w, MODEL_COUNTERS))) {
        note_stored(w, page);
    }
}

static void do_state(struct worker *w)
{
    uint64_t page = some_page(w);
    model_checked_state(page, &w->own[page]);
}

static void do_unpin(struct worker *w)
{
    if (w->held_count == 0) {
        return;
    }
    dsm_interval interval = w->held[--w->held_count];
    for (uint64_t i = 0; i < interval.count; i++) {
        struct model_own *own = &w->own[interval.page + i];
        own->dirty_while_pinned &= --own->pins > 0;
    }
    model_checked_unpin(interval);
}

static bool all_may(bool (*may)(uint64_t page), dsm_interval interval)
{
    for (uint64_t i = 0; i < interval.count; i++) {
        if (!may(interval.page + i)) {
            return false;
        }
    }
    return true;
}

static void do_swap_in(struct worker *w)
{
    dsm_interval interval = some_interval(w, 10);
    unsigned flags = some(w, 4) == 0 ? DSM_WRITE : 0;
    flags |= some(w, 3) == 0 ? DSM_PIN : 0;
    flags |= some(w, 2) == 0 ? DSM_KILL : 0;
    if ((flags & DSM_KILL) != 0) {
        interval.count = interval.count > 2 ? 2 : interval.count;
        flags &= all_may(model_may_kill, interval) ? ~0U : ~(unsigned)DSM_KILL;
    }
    if ((flags & DSM_PIN) != 0) {
        if (w->held_count == (model_options.threads > 4 ? 1 : HELD_MOST)) { // never all the frames
            do_unpin(w);
        }
        interval.count = interval.count > PIN_PAGES_MOST ? PIN_PAGES_MOST : interval.count;
    }
    bool in = model_checked_swap_in(interval, flags, some(w, 3) == 0 ? some_page(w) : DSM_NO_PAGE);
    if (in && (flags & DSM_PIN) != 0) {
        for (uint64_t i = 0; i < interval.count; i++) {
            struct model_own *own = &w->own[interval.page + i];
            own->pins++;
            own->dirty_while_pinned |= (flags & DSM_WRITE) != 0;
        }
        w->held[w->held_count++] = interval;
    }
}

// Pages without backing are among the last.
static void do_clean(struct worker *w)
{
    uint64_t pages = some(w, 4) == 0 ? model_options.pages : model_options.pages / 8 * 7;
    model_checked_clean(some(w, 16) == 0 ? (dsm_interval){0, pages} : some_interval(w, 12));
}

static void do_age(struct worker *w)
{
    model_checked_age(some_interval(w, 8));
}

static void do_set_data(struct worker *w)
{
    static const enum dsm_data choices[] = {
        DSM_DATA_NONE,      DSM_DATA_UNDEFINED, DSM_DATA_UNDEFINED, DSM_DATA_UNDEFINED,
        DSM_DATA_UNCHANGED, DSM_DATA_UNCHANGED, DSM_DATA_CHANGED,
    };
    dsm_interval interval = some_interval(w, 3);
    enum dsm_data data = choices[some(w, sizeof choices / sizeof choices[0])];
    if ((data == DSM_DATA_NONE && !all_may(model_may_vanish, interval)) ||
        (data == DSM_DATA_UNDEFINED && !all_may(model_may_kill, interval))) {
        data = DSM_DATA_UNCHANGED;
    }
    model_checked_set_data(interval, data);
}

// Few pages are read-only at any time, so that most stores go through.
static void do_protect(struct worker *w)
{
    bool read_only = some(w, 2) == 0;
    model_checked_protect(some_interval(w, read_only ? 2 : 8), read_only);
}

// Beyond the end nothing is done, whatever the operation.
static void do_beyond(struct worker *w)
{
    uint64_t pages = model_options.pages;
    dsm_interval interval = {pages - some(w, 3), 3 + some(w, 3)};
    if (some(w, 4) == 0) {
        interval = (dsm_interval){pages - 1, UINT64_MAX};
    }
    int error = some(w, 2) == 0 ? dsm_swap_in(model_segment, interval, DSM_PIN | DSM_KILL, 0)
                                : dsm_clean(model_segment, interval, NULL);
    uint64_t named = dsm_error()->page;
    MODEL_CHECK(error == -EFAULT && named == pages, "[%lu, +%lu): %d, page %lu", interval.page,
                interval.count, error, named);
}

static const struct {
    void (*run)(struct worker *worker);
    uint32_t share, states_share; // of 1000; where the question is what dsm_page_state() says
} operations[] = {
    {do_load, 526, 120},  {do_store, 250, 150}, {do_add, 80, 40},    {do_state, 80, 550},
    {do_swap_in, 20, 40}, {do_unpin, 12, 20},   {do_clean, 4, 30},   {do_age, 12, 18},
    {do_beyond, 2, 2},    {do_set_data, 8, 18}, {do_protect, 6, 12},
};

static void do_one(struct worker *w)
{
    uint64_t at = some(w, 1000);
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        uint32_t share = model_options.states ? operations[i].states_share : operations[i].share;
        if (at < share) {
            operations[i].run(w);
            return;
        }
        at -= share;
    }
    MODEL_CHECK(false, "the shares do not sum up to 1000");
}

static void *run_worker(void *argument)
{
    struct worker *w = argument;
    uint64_t count = model_options.operations / model_options.threads;
    for (uint64_t i = 0; i < count; i++) {
        do_one(w);
    }
    while (w->held_count > 0) {
        do_unpin(w);
    }
    return NULL;
}

static void check_at_rest(void)
{
    static const struct model_own nothing;
    for (uint64_t page = 0; page < model_options.pages; page++) {
        model_checked_state(page, &nothing);
        for (uint32_t slot = 0; slot < MODEL_SLOTS; slot++) {
            model_checked_load(page, slot);
        }
        for (uint32_t slot = 0; slot < MODEL_COUNTERS && !model_may_vanish(page); slot++) {
            uint64_t found = model_load(page, MODEL_SLOTS + slot);
            uint64_t added = atomic_load(&model_pages[page].adds_done[slot]);
            MODEL_CHECK(found == added, "page %lu counter %u: %lu after %lu additions", page, slot,
                        found, added);
        }
    }
}

void model_run_overlapping(void)
{
    for (uint32_t i = 0; i < model_options.threads; i++) {
        struct worker *w = &workers[i];
        w->number = i;
        w->random =
            (model_options.seed * MODEL_THREADS_MOST + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
        w->window = some(w, model_options.pages);
        int error = pthread_create(&w->thread, NULL, run_worker, w);
        MODEL_CHECK(error == 0, "pthread_create: %d", error);
    }
    for (uint32_t i = 0; i < model_options.threads; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
    check_at_rest();
}
