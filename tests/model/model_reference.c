// SPDX-License-Identifier: Apache-2.0
//
// The reference for operations that overlap. It never stops the operations that it watches (a lock around each would hide what
// is looked for); so it does not know in which order two that overlap took place, and accepts each order that is possible,
// and nothing else:
//   a word   has one thread that stores into it, always something new: the time at which the store began, and which word
//            this is. A load may find a store that began before the load ended, and none older than the last that was over
//            when the load began; zeros only where a kill may have come after that one; nothing that was killed before.
//   a counter is added to by every thread, on pages that are never killed: no addition may be lost or seen early.
//   a state  (the program's mark, needs_cleaning) is a register, see model.h. Evictions and the laundry clean at any moment:
//            needs_cleaning may be said to be off, but not on without a store after the last clean.
//   pins     are counted when they begin and when they are over: the truth lies between.
//
// Time is a counter that ticks at each question, so that no two events have the same. All of this is atomic and in order: the
// bounds are read before the library is asked, or after it answered, never while.
#include <stdio.h>
#include <string.h>

#include "tests/model/model.h"

enum { NOW_SHIFT = 16 };

struct model_page model_pages[MODEL_PAGES_MOST];
static _Atomic uint64_t now;

uint64_t model_now(void)
{
    return atomic_fetch_add(&now, 1) + 1;
}

static void at_least(_Atomic uint64_t *what, uint64_t value)
{
    uint64_t before = atomic_load(what);
    while (before < value && !atomic_compare_exchange_weak(what, &before, value)) {
    }
}

// ---- registers ----

void model_register_set(struct model_register *r, unsigned value)
{
    memset(r, 0, sizeof *r);
    atomic_store(&r->floor, 1);
    atomic_store(&r->ended[value], 1);
}

uint64_t model_register_begin(struct model_register *r, unsigned values)
{
    for (unsigned v = 0; v < 4; v++) {
        if ((values >> v & 1) != 0) {
            (void)atomic_fetch_add(&r->writing[v], 1);
        }
    }
    return model_now();
}

void model_register_end(struct model_register *r, unsigned values, unsigned written, uint64_t begun)
{
    uint64_t end = model_now();
    for (unsigned v = 0; v < 4; v++) {
        if ((written >> v & 1) != 0) {
            at_least(&r->ended[v], end);
        }
    }
    if (written != 0) {
        at_least(&r->floor, begun);
    }
    for (unsigned v = 0; v < 4; v++) {
        if ((values >> v & 1) != 0) {
            (void)atomic_fetch_sub(&r->writing[v], 1);
        }
    }
}

uint64_t model_register_floor(const struct model_register *r)
{
    return atomic_load(&r->floor);
}

bool model_register_may_be(const struct model_register *r, unsigned value, uint64_t floor)
{
    return value < 4 &&
           (atomic_load(&r->writing[value]) > 0 || atomic_load(&r->ended[value]) >= floor);
}

// ---- words ----

static uint64_t word_id(uint64_t page, uint32_t slot)
{
    return page * MODEL_SLOTS + slot + 1;
}

bool model_may_kill(uint64_t page)
{
    return page % 3 != 0;
}

void model_reset(void)
{
    memset(model_pages, 0, sizeof model_pages);
    atomic_store(&now, 1);
    for (uint64_t i = 0; i < model_options.pages; i++) {
        model_register_set(&model_pages[i].data, DSM_DATA_UNDEFINED);
        model_register_set(&model_pages[i].dirty, 0);
    }
}

static void check_stored(uint64_t page, uint32_t slot, uint64_t found, uint64_t done, uint64_t dead)
{
    const struct model_word *word = &model_pages[page].words[slot];
    uint64_t when = found >> NOW_SHIFT;
    MODEL_CHECK((found & ((1 << NOW_SHIFT) - 1)) == word_id(page, slot),
                "page %lu slot %u: loaded %#lx, which was never stored there", page, slot, found);
    MODEL_CHECK(when <= atomic_load(&word->begun),
                "page %lu slot %u: loaded the store of %lu before it began", page, slot, when);
    MODEL_CHECK(when >= done, "page %lu slot %u: stale: loaded the store of %lu, lost that of %lu",
                page, slot, when, done);
    MODEL_CHECK(when > dead, "page %lu slot %u: loaded the store of %lu, killed at %lu", page, slot,
                when, dead);
}

void model_checked_load(uint64_t page, uint32_t slot)
{
    struct model_page *p = &model_pages[page];
    struct model_word *word = &p->words[slot];
    uint64_t dead = atomic_load(&word->dead);
    uint64_t done = atomic_load(&word->done);
    uint64_t found = model_load(page, slot);
    if (found != 0) {
        check_stored(page, slot, found, done, dead);
    } else {
        MODEL_CHECK(done == 0 || atomic_load(&p->killing) > 0 ||
                        atomic_load(&p->kill_ended) >= done,
                    "page %lu slot %u: zeros in the place of the store of %lu", page, slot, done);
    }
}

void model_checked_store(uint64_t page, uint32_t slot)
{
    struct model_page *p = &model_pages[page];
    struct model_word *word = &p->words[slot];
    uint64_t dirty = model_register_begin(&p->dirty, 1 << 1);
    uint64_t begun = model_register_begin(&p->data, 1 << DSM_DATA_CHANGED);
    atomic_store(&word->begun, begun);
    model_store(page, slot, begun << NOW_SHIFT | word_id(page, slot));
    atomic_store(&word->done, begun);
    model_register_end(&p->data, 1 << DSM_DATA_CHANGED, 1 << DSM_DATA_CHANGED, begun);
    model_register_end(&p->dirty, 1 << 1, 1 << 1, dirty);
}

void model_checked_add(uint64_t page, uint32_t slot)
{
    struct model_page *p = &model_pages[page];
    uint64_t dirty = model_register_begin(&p->dirty, 1 << 1);
    uint64_t begun = model_register_begin(&p->data, 1 << DSM_DATA_CHANGED);
    uint64_t done = atomic_load(&p->adds_done[slot]);
    (void)atomic_fetch_add(&p->adds_begun[slot], 1);
    uint64_t found = model_add(page, MODEL_SLOTS + slot);
    uint64_t most = atomic_fetch_add(&p->adds_begun[slot], 0) - 1;
    (void)atomic_fetch_add(&p->adds_done[slot], 1);
    MODEL_CHECK(found >= done && found <= most,
                "page %lu counter %u: %lu, though %lu additions were over and %lu begun", page,
                slot, found, done, most);
    model_register_end(&p->data, 1 << DSM_DATA_CHANGED, 1 << DSM_DATA_CHANGED, begun);
    model_register_end(&p->dirty, 1 << 1, 1 << 1, dirty);
}

// ---- states ----

void model_checked_state(uint64_t page, const struct model_own *own)
{
    struct model_page *p = &model_pages[page];
    uint64_t data = model_register_floor(&p->data);
    uint64_t dirty = model_register_floor(&p->dirty);
    uint64_t pins_done = atomic_load(&p->pins_done);
    uint64_t unpins_done = atomic_load(&p->unpins_done);
    dsm_page_info info;
    MODEL_OK(dsm_page_state(model_segment, page, &info));
    uint64_t pins_begun = atomic_load(&p->pins_begun);
    uint64_t unpins_begun = atomic_load(&p->unpins_begun);
    MODEL_CHECK(model_register_may_be(&p->data, info.data, data), "page %lu: data is %d", page,
                info.data);
    MODEL_CHECK(info.needs_cleaning == 0 || model_register_may_be(&p->dirty, 1, dirty),
                "page %lu: needs cleaning, and nobody stored into it since it was cleaned", page);
    MODEL_CHECK(info.pin_count + unpins_begun >= pins_done &&
                    info.pin_count + unpins_done <= pins_begun,
                "page %lu: pinned %u times; pins %lu to %lu, unpins %lu to %lu", page,
                info.pin_count, pins_done, pins_begun, unpins_done, unpins_begun);
    // A call that pins counts its pin when it asks for the page.
    MODEL_CHECK(info.resident || (info.pin_count <= pins_begun - pins_done && !info.needs_cleaning),
                "page %lu: not in memory, pinned %u times, needs cleaning: %d", page,
                info.pin_count, info.needs_cleaning);
    MODEL_CHECK(own->pins == 0 || info.resident, "page %lu: pinned, and not in memory", page);
    MODEL_CHECK(!own->dirty_while_pinned || info.needs_cleaning,
                "page %lu: stored into while it is pinned, and needs no cleaning", page);
    MODEL_CHECK(!info.lost && !info.read_only, "page %lu: lost %d, read-only %d", page, info.lost,
                info.read_only);
}

static bool may_be_pinned(const struct model_page *p)
{
    uint64_t gone = atomic_load(&p->unpins_done);
    return atomic_load(&p->pins_begun) != gone;
}

// ---- swap-ins ----

struct writes { // of one page, by one call
    unsigned data, dirty;
    uint64_t data_begun, dirty_begun;
    uint64_t done[MODEL_SLOTS]; // stores that are over: a kill takes them
    uint64_t pins;
    bool pinned;
};

static void begin_kill(struct model_page *p, struct writes *w)
{
    for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
        w->done[i] = atomic_load(&p->words[i].done);
    }
    (void)atomic_fetch_add(&p->killing, 1);
}

static void end_kill(struct model_page *p, const struct writes *w)
{
    at_least(&p->kill_ended, model_now());
    for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
        at_least(&p->words[i].dead, w->done[i]);
    }
    (void)atomic_fetch_sub(&p->killing, 1);
}

static void begin_swap_in(struct model_page *p, unsigned flags, struct writes *w)
{
    bool kill = (flags & DSM_KILL) != 0;
    bool write = (flags & DSM_WRITE) != 0;
    w->pins = atomic_load(&p->pins_begun);
    w->pinned = may_be_pinned(p);
    w->data = (kill ? 1U << DSM_DATA_UNDEFINED : 0) | (kill || write ? 1U << DSM_DATA_CHANGED : 0);
    w->dirty = (kill ? 1 : 0) | (kill || write ? 1 << 1 : 0);
    if (kill) {
        begin_kill(p, w);
    }
    w->data_begun = model_register_begin(&p->data, w->data);
    w->dirty_begun = model_register_begin(&p->dirty, w->dirty);
    if ((flags & DSM_PIN) != 0) {
        (void)atomic_fetch_add(&p->pins_begun, 1);
    }
}

// A killed page that somebody has pinned for stores stays changed.
static void end_swap_in(struct model_page *p, unsigned flags, const struct writes *w)
{
    uint64_t own_pins = (flags & DSM_PIN) != 0;
    bool pinned = w->pinned || atomic_load(&p->pins_begun) != w->pins + own_pins;
    bool write = (flags & DSM_WRITE) != 0;
    bool kill = (flags & DSM_KILL) != 0;
    unsigned changed = 1U << DSM_DATA_CHANGED;
    unsigned data = write ? changed : kill ? 1U << DSM_DATA_UNDEFINED | (pinned ? changed : 0) : 0;
    unsigned dirty = write ? 1 << 1 : kill ? (pinned ? 3 : 1) : 0;
    (void)atomic_fetch_add(&p->pins_done, own_pins);
    model_register_end(&p->dirty, w->dirty, dirty, w->dirty_begun);
    model_register_end(&p->data, w->data, data, w->data_begun);
    if (kill) {
        end_kill(p, w);
    }
}

void model_checked_swap_in(dsm_interval interval, unsigned flags, uint64_t next_page)
{
    enum { MOST = 16 };
    struct writes writes[MOST];
    MODEL_CHECK(interval.count <= MOST, "interval of %lu pages", interval.count);
    for (uint64_t i = 0; i < interval.count; i++) {
        begin_swap_in(&model_pages[interval.page + i], flags, &writes[i]);
    }
    MODEL_OK(dsm_swap_in(model_segment, interval, flags, next_page));
    for (uint64_t i = 0; i < interval.count; i++) {
        end_swap_in(&model_pages[interval.page + i], flags, &writes[i]);
    }
}

void model_checked_unpin(dsm_interval interval)
{
    for (uint64_t i = 0; i < interval.count; i++) {
        (void)atomic_fetch_add(&model_pages[interval.page + i].unpins_begun, 1);
    }
    MODEL_OK(dsm_unpin(model_segment, interval));
    for (uint64_t i = 0; i < interval.count; i++) {
        (void)atomic_fetch_add(&model_pages[interval.page + i].unpins_done, 1);
    }
}

// Pages that nobody had pinned are clean when it is over, but for stores meanwhile.
void model_checked_clean(dsm_interval interval)
{
    static __thread struct writes writes[MODEL_PAGES_MOST];
    uint64_t passed_over = UINT64_MAX;
    uint64_t pinned = 0;
    for (uint64_t i = 0; i < interval.count; i++) {
        struct model_page *p = &model_pages[interval.page + i];
        writes[i].pins = atomic_load(&p->pins_begun);
        writes[i].pinned = may_be_pinned(p);
        writes[i].dirty_begun = model_register_begin(&p->dirty, 1);
    }
    MODEL_OK(dsm_clean(model_segment, interval, &passed_over));
    for (uint64_t i = 0; i < interval.count; i++) {
        struct model_page *p = &model_pages[interval.page + i];
        bool certain = !writes[i].pinned && atomic_load(&p->pins_begun) == writes[i].pins;
        model_register_end(&p->dirty, 1, certain ? 1 : 0, writes[i].dirty_begun);
        pinned += !certain;
    }
    MODEL_CHECK(passed_over <= pinned, "clean of [%lu, +%lu): %lu passed over, %lu pinned at most",
                interval.page, interval.count, passed_over, pinned);
}
