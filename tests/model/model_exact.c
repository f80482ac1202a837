// SPDX-License-Identifier: Apache-2.0
//
// Random operations from one thread: here the model is exact. After each operation the state of every page must be the
// model's, and a word of each page that is in memory must hold what it should.
//
// The one thing that the model takes from the library is which pages replacement chose, for that is policy; and it holds the
// choice against the rules: no more go than the operation needs, none that is pinned, aged pages first, in the order
// they were aged. The laundry and read-ahead are off, for they would act on their own.
#include <string.h>

#include "tests/model/model.h"

enum { OPERATION_PAGES = 8, PINNED_MOST = 16 };

struct exact_page {
    uint64_t words[MODEL_SLOTS];
    uint64_t aged; // when; 0: not among the aged
    enum dsm_data data;
    uint32_t pins;
    bool resident, dirty;
    bool unsure;  // whether it is still among the aged: it may have gone and come back
    bool in_hand; // the operation's own
    bool before;  // in memory before the operation
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
    }
}

static void write_to(struct exact_page *page)
{
    page->dirty = true;
    page->data = DSM_DATA_CHANGED;
}

static void kill_page(struct exact_page *page)
{
    memset(page->words, 0, sizeof page->words);
    // Who has pinned a page that is open for stores may store into it at any moment: it stays changed.
    if (!page->resident || !page->dirty || page->pins == 0) {
        page->data = DSM_DATA_UNDEFINED;
        page->dirty = false;
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
}

// An interval's page that was in memory may be the victim of one before it, and be brought in again in its turn.
static void come_back(struct exact_page *page, const dsm_page_info *state)
{
    if (page->in_hand && page->before && page->resident && page->pins <= 1) {
        page->dirty &= state->needs_cleaning != 0;
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
                    !info->read_only && !info->lost,
                "after operation %lu page %lu is data %d resident %d needs-cleaning %d pins %u; it "
                "should be %d %d %d %u",
                operation, i, info->data, info->resident, info->needs_cleaning, info->pin_count,
                page->data, page->resident, page->dirty, page->pins);
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
    uint64_t found = model_load(in_hand.page, slot);
    MODEL_CHECK(found == page->words[slot], "operation %lu: page %lu slot %u holds %#lx, not %#lx",
                operation, in_hand.page, slot, found, page->words[slot]);
    bring_in(page);
}

static void do_store(void)
{
    struct exact_page *page = &pages[in_hand.page];
    uint32_t slot = (uint32_t)some(MODEL_SLOTS);
    page->words[slot] = operation << 16 | in_hand.page;
    model_store(in_hand.page, slot, page->words[slot]);
    bring_in(page);
    write_to(page);
}

static void do_swap_in(void)
{
    unsigned flags = (some(3) == 0 ? DSM_KILL : 0) | (some(4) == 0 ? DSM_WRITE : 0);
    flags |= pinned() + in_hand.count <= PINNED_MOST && some(3) == 0 ? DSM_PIN : 0;
    MODEL_OK(dsm_swap_in(model_segment, in_hand, flags, DSM_NO_PAGE));
    for (uint64_t i = 0; i < in_hand.count; i++) {
        swap_in(&pages[in_hand.page + i], flags);
    }
}

static void do_unpin(void)
{
    MODEL_OK(dsm_unpin(model_segment, in_hand));
    for (uint64_t i = 0; i < in_hand.count; i++) {
        struct exact_page *page = &pages[in_hand.page + i];
        page->pins -= page->pins > 0;
    }
}

static void do_clean(void)
{
    uint64_t passed_over = UINT64_MAX;
    uint64_t expected = 0;
    MODEL_OK(dsm_clean(model_segment, in_hand, &passed_over));
    for (uint64_t i = 0; i < in_hand.count; i++) {
        struct exact_page *page = &pages[in_hand.page + i];
        expected += page->pins > 0;
        page->dirty &= page->pins > 0;
    }
    MODEL_CHECK(passed_over == expected, "operation %lu: clean passed over %lu pages, not %lu",
                operation, passed_over, expected);
}

static void do_age(void)
{
    MODEL_OK(dsm_age(model_segment, in_hand));
    for (uint64_t i = 0; i < in_hand.count; i++) {
        struct exact_page *page = &pages[in_hand.page + i];
        if (page->resident && page->pins == 0) {
            page->aged = ++ages;
            page->unsure = false;
        }
    }
}

static void do_one(void)
{
    static void (*const operations[])(void) = {do_load,    do_load,  do_store, do_store,
                                               do_swap_in, do_unpin, do_clean, do_age};
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
