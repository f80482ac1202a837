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
//   touches  are refused where a page may be read-only (stores) or without backing, and must be where it certainly is.
// What the calls do is in model_calls.c.
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

// Few, and together: calls on intervals fail at the first one.
bool model_may_vanish(uint64_t page)
{
    return model_may_kill(page) && page >= model_options.pages / 8 * 7;
}

void model_reset(void)
{
    memset(model_pages, 0, sizeof model_pages);
    atomic_store(&now, 1);
    for (uint64_t i = 0; i < model_options.pages; i++) {
        model_register_set(&model_pages[i].data, DSM_DATA_UNDEFINED);
        model_register_set(&model_pages[i].dirty, 0);
        model_register_set(&model_pages[i].read_only, 0);
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

static bool may_be_there(const struct model_page *p, uint64_t floor)
{
    return model_register_may_be(&p->data, DSM_DATA_UNDEFINED, floor) ||
           model_register_may_be(&p->data, DSM_DATA_UNCHANGED, floor) ||
           model_register_may_be(&p->data, DSM_DATA_CHANGED, floor);
}

// A store or an addition: what it writes besides the word.
static void begin_touch(struct model_page *p, struct model_call *c)
{
    model_call_begin(p, c);
    c->dirty_begun = model_register_begin(&p->dirty, 1 << 1);
    c->data_begun = model_register_begin(&p->data, 1 << DSM_DATA_CHANGED);
}

// The page may have been opened for it, and so be dirty and changed, before it became read-only and the store was refused.
static void end_touch(struct model_page *p, const struct model_call *c, bool stored)
{
    unsigned changed = 1 << DSM_DATA_CHANGED;
    uint64_t page = (uint64_t)(p - model_pages);
    bool opened = stored || model_register_may_be(&p->read_only, 1, c->read_only_floor);
    if (stored) {
        MODEL_CHECK(model_register_may_be(&p->read_only, 0, c->read_only_floor),
                    "page %lu: stored into, though it is read-only", page);
        atomic_store(&p->unsent, false);
    } else {
        MODEL_CHECK(opened || model_had_none(p, c), "page %lu: the store was refused", page);
    }
    model_register_end(&p->data, changed, opened ? changed : 0, stored ? c->data_begun : 0);
    model_register_end(&p->dirty, 1 << 1, opened ? 1 << 1 : 0, stored ? c->dirty_begun : 0);
}

void model_checked_load(uint64_t page, uint32_t slot)
{
    struct model_page *p = &model_pages[page];
    struct model_word *word = &p->words[slot];
    uint64_t dead = atomic_load(&word->dead);
    uint64_t done = atomic_load(&word->done);
    uint64_t data = model_register_floor(&p->data);
    uint64_t found;
    if (!model_try_load(page, slot, &found)) {
        MODEL_CHECK(model_register_may_be(&p->data, DSM_DATA_NONE, data),
                    "page %lu slot %u: the load was refused", page, slot);
        return;
    }
    MODEL_CHECK(may_be_there(p, data), "page %lu slot %u: loaded from a page without backing", page,
                slot);
    if (found != 0) {
        check_stored(page, slot, found, done, dead);
    } else {
        MODEL_CHECK(done == 0 || atomic_load(&p->killing) > 0 ||
                        atomic_load(&p->kill_ended) >= done,
                    "page %lu slot %u: zeros in the place of the store of %lu", page, slot, done);
    }
}

bool model_checked_store(uint64_t page, uint32_t slot)
{
    struct model_page *p = &model_pages[page];
    struct model_word *word = &p->words[slot];
    struct model_call c;
    begin_touch(p, &c);
    atomic_store(&word->begun, c.data_begun);
    bool stored = model_try_store(page, slot, c.data_begun << NOW_SHIFT | word_id(page, slot));
    if (stored) {
        atomic_store(&word->done, c.data_begun);
    }
    end_touch(p, &c, stored);
    return stored;
}

bool model_checked_add(uint64_t page, uint32_t slot)
{
    struct model_page *p = &model_pages[page];
    struct model_call c;
    begin_touch(p, &c);
    uint64_t done = atomic_load(&p->adds_done[slot]);
    (void)atomic_fetch_add(&p->adds_begun[slot], 1);
    uint64_t found;
    bool added = model_try_add(page, MODEL_SLOTS + slot, &found);
    if (added) {
        uint64_t most = atomic_fetch_add(&p->adds_begun[slot], 0) - 1;
        (void)atomic_fetch_add(&p->adds_done[slot], 1);
        MODEL_CHECK(found >= done && found <= most,
                    "page %lu counter %u: %lu, though %lu additions were over and %lu begun", page,
                    slot, found, done, most);
    } else {
        (void)atomic_fetch_sub(&p->adds_begun[slot], 1);
    }
    end_touch(p, &c, added);
    return added;
}

// ---- states ----

void model_checked_state(uint64_t page, const struct model_own *own)
{
    struct model_page *p = &model_pages[page];
    uint64_t data = model_register_floor(&p->data);
    uint64_t dirty = model_register_floor(&p->dirty);
    uint64_t read_only = model_register_floor(&p->read_only);
    uint64_t pins_done = atomic_load(&p->pins_done);
    uint64_t unpins_done = atomic_load(&p->unpins_done);
    dsm_page_info info;
    MODEL_OK(dsm_page_state(model_segment, page, &info));
    uint64_t pins_begun = atomic_load(&p->pins_begun);
    uint64_t unpins_begun = atomic_load(&p->unpins_begun);
    MODEL_CHECK(model_register_may_be(&p->data, info.data, data),
                "page %lu: data is %d; floor %lu, last ended %lu %lu %lu %lu, resident %d, needs "
                "cleaning %d",
                page, info.data, data, atomic_load(&p->data.ended[0]),
                atomic_load(&p->data.ended[1]), atomic_load(&p->data.ended[2]),
                atomic_load(&p->data.ended[3]), info.resident, info.needs_cleaning);
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
    MODEL_CHECK(!info.lost && model_register_may_be(&p->read_only, info.read_only != 0, read_only),
                "page %lu: lost %d, read-only %d", page, info.lost, info.read_only);
}
