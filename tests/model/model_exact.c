// SPDX-License-Identifier: Apache-2.0
//
// Random operations from one thread: here the model is exact. After each operation the state of every page must be the
// model's, and a word of each page that is in memory must hold what it should.
//
// The one thing that the model takes from the library is which pages replacement chose, for that is policy; and it holds the
// choice against the rules: no more go than the operation needs, none that is pinned, aged pages first, in the order
// they were aged. The laundry and read-ahead are off, for they would act on their own.
#include <errno.h>
#include <string.h>

#include "tests/model/model.h"

enum { OPERATION_PAGES = 8, PINNED_MOST = 16 };

struct exact_page {
    uint64_t words[MODEL_SLOTS];
    uint64_t aged; // when; 0: not among the aged
    enum dsm_data data;
    uint32_t pins;
    bool resident, dirty;
    bool open;      // for stores: the next one is not noticed
    bool read_only; // the program said so
    bool unsure;    // whether it is still among the aged: it may have gone and come back
    bool in_hand;   // the operation's own
    bool before;    // in memory before the operation
};

static struct exact_page pages[MODEL_PAGES_MOST];
static uint64_t random_state, operation, ages;
static dsm_interval in_hand;

static uint64_t some(uint64_t end)
{
    return model_below(&random_state, end);
}

// ---- what the model does ----

static void bring_in(struct exact_page *page)
{
    if (!page->resident) {
        page->resident = true;
        page->dirty = false;
        page->open = false;
    }
}

static void write_to(struct exact_page *page)
{
    page->dirty = true;
    page->open = true;
    page->data = DSM_DATA_CHANGED;
    atomic_store(&model_pages[page - pages].unsent, false);
}

static void kill_page(struct exact_page *page)
{
    memset(page->words, 0, sizeof page->words);
    // Who has pinned a page that is open for stores may store into it at any moment: it stays changed.
    if (!page->resident || !page->open || page->pins == 0) {
        page->data = DSM_DATA_UNDEFINED;
        page->dirty = false;
        page->open = false;
    }
}

static void swap_in(struct exact_page *page, unsigned flags)
{
    if ((flags & DSM_KILL) != 0) {
        kill_page(page);
    }
    bring_in(page);
    if ((flags & DSM_WRITE) != 0) {
        write_to(page);
    }
    page->pins += (flags & DSM_PIN) != 0;
}

static bool lacks_backing(const struct exact_page *page)
{
    return page->data == DSM_DATA_NONE;
}

static bool is_pinned(const struct exact_page *page)
{
    return page->pins > 0;
}

static bool lacks_backing_or_is_pinned(const struct exact_page *page)
{
    return lacks_backing(page) || is_pinned(page);
}

static bool refuses_stores(const struct exact_page *page)
{
    return page->read_only || lacks_backing(page);
}

// How many pages of the operation come before the first one that is so.
static uint64_t count_before(bool (*bad)(const struct exact_page *page))
{
    uint64_t n = 0;
    while (n < in_hand.count && !bad(&pages[in_hand.page + n])) {
        n++;
    }
    return n;
}

// An operation succeeds when all pages are good, else it names the first that is not.
static void expect(const char *what, int result, uint64_t good, int error)
{
    if (good == in_hand.count) {
        model_result(__FILE__, __LINE__, what, result, 0);
        return;
    }
    uint64_t named = dsm_error()->page;
    MODEL_CHECK(result == error && named == in_hand.page + good,
                "operation %lu: %s of [%lu, +%lu): %d, page %lu; it should be %d, page %lu",
                operation, what, in_hand.page, in_hand.count, result, named, error,
                in_hand.page + good);
}

// ---- what the library chose ----

static void check_first_aged(uint64_t gone)
{
    for (uint64_t i = 0; i < model_options.pages; i++) {
        const struct exact_page *p = &pages[i];
        bool sooner = p->aged != 0 && (pages[gone].aged == 0 || p->aged < pages[gone].aged);
        MODEL_CHECK(!sooner || p->unsure || !p->resident || !p->before || p->pins > 0 || p->in_hand,
                    "page %lu (aged %lu) was taken before page %lu (aged %lu)", gone,
                    pages[gone].aged, i, p->aged);
    }
}

static void evicted(uint64_t i)
{
    struct exact_page *page = &pages[i];
    MODEL_CHECK(page->pins == 0, "page %lu is pinned %u times and was taken", i, page->pins);
    page->resident = false;
    page->dirty = false;
    page->open = false;
}

// An interval's page that was in memory may be the victim of one before it, and be brought in again in its turn.
static void come_back(struct exact_page *page, const dsm_page_info *state)
{
    if (page->in_hand && page->before && page->resident && page->pins <= 1) {
        page->dirty &= state->needs_cleaning != 0;
        page->open &= page->dirty;
        page->unsure = page->aged != 0;
    }
}

static void take_choice(const dsm_page_info *states)
{
    uint64_t resident = 0;
    for (uint64_t i = 0; i < model_options.pages; i++) {
        resident += pages[i].resident;
    }
    uint64_t left = resident > model_options.cache_pages ? resident - model_options.cache_pages : 0;
    for (uint64_t i = 0; i < model_options.pages && left > 0; i++) {
        come_back(&pages[i], &states[i]);
    }
    for (uint64_t i = 0; i < model_options.pages; i++) {
        if (pages[i].resident && !states[i].resident) {
            MODEL_CHECK(left > 0, "page %lu was taken and no frame was needed", i);
            left--;
            evicted(i);
        }
    }
    MODEL_CHECK(left == 0, "%lu pages more than the cache has", left);
    for (uint64_t i = 0; i < model_options.pages; i++) {
        if (pages[i].before && !pages[i].resident && !pages[i].in_hand && !pages[i].unsure) {
            check_first_aged(i);
        }
    }
    for (uint64_t i = 0; i < model_options.pages; i++) {
        pages[i].aged = pages[i].resident ? pages[i].aged : 0;
        pages[i].unsure &= pages[i].aged != 0;
    }
}

static void check_page(uint64_t i, const dsm_page_info *info)
{
    const struct exact_page *page = &pages[i];
    MODEL_CHECK(info->data == page->data && info->resident == page->resident &&
                    info->needs_cleaning == page->dirty && info->pin_count == page->pins &&
                    info->read_only == page->read_only && !info->lost,
                "after operation %lu page %lu is data %d resident %d needs-cleaning %d pins %u "
                "read-only %d; it should be %d %d %d %u %d",
                operation, i, info->data, info->resident, info->needs_cleaning, info->pin_count,
                info->read_only, page->data, page->resident, page->dirty, page->pins,
                page->read_only);
    if (page->resident) {
        uint32_t slot = (uint32_t)(operation % MODEL_SLOTS);
        uint64_t found = model_load(i, slot);
        MODEL_CHECK(found == page->words[slot],
                    "after operation %lu page %lu slot %u holds %#lx instead of %#lx", operation, i,
                    slot, found, page->words[slot]);
    }
}

static void check_all(void)
{
    dsm_page_info states[MODEL_PAGES_MOST];
    for (uint64_t i = 0; i < model_options.pages; i++) {
        MODEL_OK(dsm_page_state(model_segment, i, &states[i]));
    }
    take_choice(states);
    for (uint64_t i = 0; i < model_options.pages; i++) {
        check_page(i, &states[i]);
    }
}

// ---- operations ----

static void take_in_hand(dsm_interval interval)
{
    in_hand = interval;
    for (uint64_t i = 0; i < model_options.pages; i++) {
        pages[i].in_hand = i >= interval.page && i - interval.page < interval.count;
        pages[i].before = pages[i].resident;
    }
}

static uint64_t pinned(void)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < model_options.pages; i++) {
        count += pages[i].pins > 0;
    }
    return count;
}

static void do_load(void)
{
    struct exact_page *page = &pages[in_hand.page];
    uint32_t slot = (uint32_t)some(MODEL_SLOTS);
    uint64_t found;
    bool loaded = model_try_load(in_hand.page, slot, &found);
    MODEL_CHECK(loaded == !lacks_backing(page), "operation %lu: page %lu is data %d, and loads %s",
                operation, in_hand.page, page->data, loaded ? "work" : "are refused");
    if (!loaded) {
        return;
    }
    MODEL_CHECK(found == page->words[slot], "operation %lu: page %lu slot %u holds %#lx, not %#lx",
                operation, in_hand.page, slot, found, page->words[slot]);
    bring_in(page);
}

static void do_store(void)
{
    struct exact_page *page = &pages[in_hand.page];
    uint32_t slot = (uint32_t)some(MODEL_SLOTS);
    uint64_t word = operation << 16 | in_hand.page;
    bool stored = model_try_store(in_hand.page, slot, word);
    MODEL_CHECK(stored == !refuses_stores(page),
                "operation %lu: page %lu is data %d, read-only %d, and stores %s", operation,
                in_hand.page, page->data, page->read_only, stored ? "work" : "are refused");
    if (!stored) {
        return;
    }
    page->words[slot] = word;
    bring_in(page);
    write_to(page);
}

static void do_swap_in(void)
{
    unsigned flags = (some(3) == 0 ? DSM_KILL : 0) | (some(4) == 0 ? DSM_WRITE : 0);
    flags |= pinned() + in_hand.count <= PINNED_MOST && some(3) == 0 ? DSM_PIN : 0;
    bool stores = (flags & (DSM_KILL | DSM_WRITE)) != 0;
    uint64_t good = count_before(stores ? refuses_stores : lacks_backing);
    bool none = good < in_hand.count && lacks_backing(&pages[in_hand.page + good]);
    int result = dsm_swap_in(model_segment, in_hand, flags, DSM_NO_PAGE);
    expect("swap-in", result, good, none ? -EFAULT : -EROFS);
    if (good < in_hand.count) { // those before it are in, without pins
        (void)atomic_fetch_add(&model_failed_calls, 1);
        flags &= ~(unsigned)DSM_PIN;
        take_in_hand((dsm_interval){in_hand.page, good});
    }
    for (uint64_t i = 0; i < good; i++) {
        swap_in(&pages[in_hand.page + i], flags);
    }
}

static void do_unpin(void)
{
    uint64_t good = count_before(lacks_backing);
    expect("unpin", dsm_unpin(model_segment, in_hand), good, -EFAULT);
    for (uint64_t i = 0; i < in_hand.count && good == in_hand.count; i++) {
        struct exact_page *page = &pages[in_hand.page + i];
        page->pins -= page->pins > 0;
    }
}

static void do_clean(void)
{
    uint64_t passed_over = UINT64_MAX;
    uint64_t expected = 0;
    uint64_t good = count_before(lacks_backing);
    expect("clean", dsm_clean(model_segment, in_hand, &passed_over), good, -EFAULT);
    for (uint64_t i = 0; i < good; i++) {
        struct exact_page *page = &pages[in_hand.page + i];
        expected += page->pins > 0;
        page->dirty &= page->pins > 0;
        page->open &= page->pins > 0;
    }
    MODEL_CHECK(passed_over == expected, "operation %lu: clean passed over %lu pages, not %lu",
                operation, passed_over, expected);
}

static void do_age(void)
{
    uint64_t good = count_before(lacks_backing);
    expect("age", dsm_age(model_segment, in_hand), good, -EFAULT);
    for (uint64_t i = 0; i < in_hand.count && good == in_hand.count; i++) {
        struct exact_page *page = &pages[in_hand.page + i];
        if (page->resident && page->pins == 0) {
            page->aged = ++ages;
            page->unsure = false;
        }
    }
}

static void set_data(struct exact_page *page, enum dsm_data data)
{
    if (data == DSM_DATA_NONE || data == DSM_DATA_UNDEFINED) {
        memset(page->words, 0, sizeof page->words);
        page->resident = false;
        page->dirty = false;
        page->open = false;
        page->read_only &= data != DSM_DATA_NONE;
    } else if (page->data == DSM_DATA_UNDEFINED) {
        atomic_store(&model_pages[page - pages].unsent, true);
    }
    page->open &= data != DSM_DATA_UNCHANGED;
    page->data = data;
}

// The error at the first page that stands in the way, and nothing is changed; a page without backing may get it again.
static int obstacle(bool none_allowed, uint64_t *good)
{
    *good = count_before(none_allowed ? is_pinned : lacks_backing_or_is_pinned);
    return *good < in_hand.count && lacks_backing(&pages[in_hand.page + *good]) ? -EFAULT : -EBUSY;
}

static void do_set_data(void)
{
    static const enum dsm_data choices[] = {DSM_DATA_NONE, DSM_DATA_UNDEFINED, DSM_DATA_UNDEFINED,
                                            DSM_DATA_UNCHANGED, DSM_DATA_CHANGED};
    enum dsm_data data = choices[some(sizeof choices / sizeof choices[0])];
    uint64_t count = 0;
    while (count < in_hand.count && model_may_vanish(in_hand.page + count)) {
        count++;
    }
    if (data == DSM_DATA_NONE) {
        take_in_hand((dsm_interval){in_hand.page, count});
    }
    uint64_t good;
    int error = obstacle(data == DSM_DATA_NONE || data == DSM_DATA_UNDEFINED, &good);
    expect("setting the data state", dsm_set_data_state(model_segment, in_hand, data), good, error);
    for (uint64_t i = 0; i < in_hand.count && good == in_hand.count; i++) {
        set_data(&pages[in_hand.page + i], data);
    }
}

static void do_protect(void)
{
    bool read_only = some(2) == 0;
    if (read_only && in_hand.count > 2) {
        take_in_hand((dsm_interval){in_hand.page, 2});
    }
    uint64_t good;
    int error = obstacle(false, &good);
    int result = read_only ? dsm_make_read_only(model_segment, in_hand)
                           : dsm_make_read_write(model_segment, in_hand);
    expect("protecting", result, good, error);
    for (uint64_t i = 0; i < in_hand.count && good == in_hand.count; i++) {
        pages[in_hand.page + i].read_only = read_only;
        pages[in_hand.page + i].open &= !read_only;
    }
}

static void do_one(void)
{
    static void (*const operations[])(void) = {
        do_load,  do_load,  do_load,    do_load,    do_store,    do_store,
        do_store, do_store, do_swap_in, do_swap_in, do_unpin,    do_unpin,
        do_clean, do_clean, do_age,     do_age,     do_set_data, do_protect};
    uint64_t page = some(model_options.pages);
    uint64_t left = model_options.pages - page;
    uint64_t which = some(sizeof operations / sizeof operations[0]);
    uint64_t most = left < OPERATION_PAGES ? left : OPERATION_PAGES;
    bool touch = operations[which] == do_load || operations[which] == do_store;
    take_in_hand((dsm_interval){page, touch ? 1 : some(most + 1)});
    operations[which]();
    check_all();
}

void model_run_exact(void)
{
    for (uint64_t i = 0; i < model_options.pages; i++) {
        pages[i].data = DSM_DATA_UNDEFINED;
    }
    random_state = model_options.seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (operation = 1; operation <= model_options.operations; operation++) {
        do_one();
    }
}
