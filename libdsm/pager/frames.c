// SPDX-License-Identifier: Apache-2.0
//
// Memory for pages: never more than the cache in all. Bytes are promised under the lock; a victim's bytes pass to the page that
// needs them only once its frame is punched, so the kernel's own figure never exceeds the cache either.
//
// A victim is chosen, closed and marked under the lock (so that nobody opens it again), and punched outside of it, in runs, by
// the one who took it. A frame with its page's thread not yet awake is spared, so that no page is taken away before it
// was of use; so is a pinned one, and one in transit.
#include <errno.h>
#include <limits.h>

#include "libdsm/pager/pager.h"
#include "libdsm/stat/probes.h"
#include "libdsm/sync/invariant.h"

enum { CLOSE_RUN = 64, CLOSE_PART = 32 };

struct segment *frames_owner(const struct pager *pager, uint32_t frame)
{
    return atomic_load_explicit(&pager->views[pager->replacement.frames[frame].segment].segment,
                                memory_order_relaxed);
}

uint64_t frames_free(const struct pager *pager)
{
    return pager->options.cache_bytes - pager->resident_bytes;
}

// A part of the cache is kept free, but never much more than what finds no place in any case: where all but a few pages fit, to
// keep more free would drive out pages that are wanted again, round after round. Nor less than a page, or none would come.
static void set_water_marks(struct pager *pager)
{
    enum { MOST_FREE = 4 << 20 };
    uint64_t cache = pager->options.cache_bytes;
    uint64_t beyond = pager->attached_bytes > cache ? pager->attached_bytes - cache : 0;
    if (beyond > 0 && beyond < pager->largest_page) {
        beyond = pager->largest_page;
    }
    uint64_t high = smaller(smaller(cache / 16, MOST_FREE), 2 * beyond);
    pager->high_water = high;
    pager->low_water = pager->options.laundry ? high / 2 : 0;
}

void frames_count_attached(struct pager *pager, const struct segment *segment, int sign)
{
    uint64_t bytes = segment->backing.pages * segment->page_bytes;
    pager->attached_bytes += sign > 0 ? bytes : -bytes;
    if (sign > 0 && segment->page_bytes > pager->largest_page) {
        pager->largest_page = segment->page_bytes;
    } else if (pager->attached_bytes == 0) {
        pager->largest_page = 0;
    }
    set_water_marks(pager);
}

bool frames_enough(const struct pager *pager, uint64_t promised, uint64_t mark)
{
    return frames_free(pager) + promised >= mark;
}

bool frames_spare(const struct pager *pager, uint64_t bytes, uint64_t kept)
{
    return frames_free(pager) >= bytes + kept;
}

static uint32_t now_ms(void)
{
    return (uint32_t)(sync_now() / 1000000);
}

bool frames_evictable(const struct pager *pager, const struct segment *segment, uint64_t page)
{
    const struct page_entry *entry = page_at(&segment->table, page);
    if (page_state(&segment->table, entry) != PAGE_RESIDENT || entry->pins > 0) {
        return false;
    }
    (void)pager;
    return !page_has(entry, PAGE_WANTED) || now_ms() - entry->delivered_ms > PAGER_WANTED_MS;
}

// A page that came ahead of any touch is passed by once, so that it can be touched at all.
static bool spared(struct segment *segment, uint64_t page)
{
    struct page_entry *entry = page_at(&segment->table, page);
    if (!page_has(entry, PAGE_AHEAD) || page_has(entry, PAGE_SPARED)) {
        return false;
    }
    page_set(&segment->table, entry, PAGE_SPARED, 0);
    return true;
}

// Changes of a lost or fenced segment can be saved nowhere: they must not take the memory of the others. Whoever touches
// such a page later gets SIGBUS.
static bool is_to_be_written(const struct segment *segment, uint64_t page)
{
    return page_has(page_at(&segment->table, page), PAGE_DIRTY) &&
           backing_fate_of(&segment->placement, page) == BACKING_WELL;
}

bool frames_needs_write(struct segment *segment, uint64_t page)
{
    protection_look(segment, page, 1);
    return is_to_be_written(segment, page);
}

static uint8_t queue_of(const struct pager *pager, const struct segment *segment, uint64_t page)
{
    return pager->replacement.frames[page_at(&segment->table, page)->frame].queue;
}

static bool may_close(const struct pager *pager, const struct segment *segment, uint64_t page,
                      uint8_t queue)
{
    return page < segment->table.pages &&
           protection_of(page_at(&segment->table, page)) != TRAP_NONE &&
           frames_evictable(pager, segment, page) && queue_of(pager, segment, page) == queue;
}

// Neighbours that came together are closed together: one system call, and no more edges than before.
static bool second_chance(struct pager *pager, struct segment *segment, uint64_t page)
{
    uint32_t most = pager->replacement.in_use / CLOSE_PART;
    most = most > CLOSE_RUN ? CLOSE_RUN : most;
    uint8_t queue = queue_of(pager, segment, page);
    uint64_t first = page;
    uint64_t end = page + 1;
    while (end - first < most && may_close(pager, segment, end, queue)) {
        end++;
    }
    while (first > 0 && end - first < most && may_close(pager, segment, first - 1, queue)) {
        first--;
    }
    if (protection_set(segment, first, end - first, TRAP_NONE) != 0) {
        return false;
    }
    STAT_ADD(pager->stat, second_chances, end - first);
    return true;
}

enum replacement_view frames_view(struct pager *pager, uint32_t frame)
{
    struct segment *segment = frames_owner(pager, frame);
    uint64_t page = pager->replacement.frames[frame].page;
    if (pager->options.exact) {
        return REPLACEMENT_TAKE;
    }
    if (protection_of(page_at(&segment->table, page)) != TRAP_NONE) {
        return second_chance(pager, segment, page) ? REPLACEMENT_PASS : REPLACEMENT_SKIP;
    }
    return spared(segment, page) ? REPLACEMENT_SKIP : REPLACEMENT_TAKE;
}

static bool failed_before(const struct claims *claims, const struct segment *segment, uint64_t page)
{
    for (uint32_t i = 0; i < claims->failed_count; i++) {
        if (claims->failed[i].segment == segment && claims->failed[i].page == page) {
            return true;
        }
    }
    return false;
}

static bool may_take(const struct pager *pager, struct claims *claims, uint32_t frame,
                     struct victim *victim)
{
    *victim = (struct victim){frames_owner(pager, frame), pager->replacement.frames[frame].page};
    if (!frames_evictable(pager, victim->segment, victim->page)) {
        claims->others |= page_at(&victim->segment->table, victim->page)->pins == 0;
        return false;
    }
    return !failed_before(claims, victim->segment, victim->page);
}

struct choice {
    struct pager *pager;
    struct claims *claims;
    struct victim victim;
};

static enum replacement_view look(void *context, uint32_t frame, bool aged)
{
    struct choice *c = context;
    if (!may_take(c->pager, c->claims, frame, &c->victim)) {
        return REPLACEMENT_SKIP;
    }
    return aged ? REPLACEMENT_TAKE : frames_view(c->pager, frame);
}

static bool choose(struct pager *pager, struct claims *claims, struct victim *victim)
{
    struct choice choice = {.pager = pager, .claims = claims};
    claims->others = false;
    if (replacement_choose(&pager->replacement, look, &choice, UINT32_MAX) == FRAME_NONE) {
        return false;
    }
    *victim = choice.victim;
    return true;
}

// A page that cannot be closed (no mapping left for the split) is no victim: punching it open would show zeros. Nor is one that
// was stored into since it was looked at.
bool frames_take_victim(struct pager *pager, struct claims *claims, struct victim victim)
{
    struct page_entry *entry = page_at(&victim.segment->table, victim.page);
    if (protection_of(entry) != TRAP_NONE &&
        protection_set(victim.segment, victim.page, 1, TRAP_NONE) != 0) {
        return false;
    }
    if (is_to_be_written(victim.segment, victim.page)) {
        return false;
    }
    bool written = page_state(&victim.segment->table, entry) == PAGE_WRITING;
    page_move(&victim.segment->table, victim.page, PAGE_DISCARDING);
    prefetch_forgone(victim.segment, entry);
    page_set(&victim.segment->table, entry, 0, PAGE_AGED | PAGE_WANTED);
    entry->frame = replacement_take(&pager->replacement, entry->frame);
    victim.segment
        ->users++; // until its frame is gone: whoever punches it may serve another segment
    claims->victims[claims->count++] = victim;
    claims->credit += victim.segment->page_bytes;
    STAT_ADD(pager->stat, victims, 1);
    probe_victim(victim.segment->number, victim.page, written);
    return true;
}

void frames_note_failed(struct claims *claims, struct victim victim, int error)
{
    claims->failed_error = error;
    if (claims->failed_count < PAGER_FAILED_VICTIMS) {
        claims->failed[claims->failed_count++] = victim;
    }
}

enum claim frames_claim(struct pager *pager, struct claims *claims, uint64_t bytes,
                        struct victim *dirty, bool *all_failed)
{
    INVARIANT(lock_held(&pager->lock));
    while (claims->credit < bytes) {
        if (frames_spare(pager, bytes - claims->credit, claims->kept)) {
            pager->resident_bytes += bytes - claims->credit;
            claims->credit = bytes;
            break;
        }
        struct victim victim;
        if (claims->count == PAGER_BATCH || !choose(pager, claims, &victim)) {
            *all_failed = claims->failed_count > 0 && !claims->others;
            return CLAIM_NONE;
        }
        if (frames_needs_write(victim.segment, victim.page)) {
            *dirty = victim;
            return CLAIM_DIRTY;
        }
        if (!frames_take_victim(pager, claims, victim)) {
            if (is_to_be_written(victim.segment, victim.page)) {
                *dirty = victim;
                return CLAIM_DIRTY;
            }
            frames_note_failed(claims, victim, -ENOMEM);
            if (claims->failed_count == PAGER_FAILED_VICTIMS) {
                return CLAIM_NONE;
            }
        }
    }
    claims->credit -= bytes;
    if (!frames_enough(pager, 0, pager->low_water)) {
        laundry_wake(pager);
    }
    if (pager->resident_bytes > STAT_GET(pager->stat, resident_peak_bytes)) {
        STAT_SET(pager->stat, resident_peak_bytes, pager->resident_bytes);
    }
    STAT_SET(pager->stat, resident_bytes, pager->resident_bytes);
    return CLAIM_DONE;
}

void frames_release(struct pager *pager, uint64_t bytes)
{
    INVARIANT(pager->resident_bytes >= bytes);
    pager->resident_bytes -= bytes;
    STAT_SET(pager->stat, resident_bytes, pager->resident_bytes);
    (void)atomic_fetch_add(&pager->frames_word, 1);
    sync_wake(&pager->frames_word, INT_MAX);
}

static uint32_t run_of_victims(const struct claims *claims, uint32_t i)
{
    const struct victim *v = &claims->victims[i];
    uint32_t n = 1;
    while (i + n < claims->count && v[n].segment == v->segment && v[n].page == v->page + n) {
        n++;
    }
    return n;
}

static void victim_gone(const struct victim *victim)
{
    struct page_table *table = &victim->segment->table;
    struct page_entry *entry = page_at(table, victim->page);
    page_move(table, victim->page, page_has(entry, PAGE_UNBACKED) ? PAGE_UNDEFINED : PAGE_BACKING);
    page_set(table, entry, 0, PAGE_UNBACKED | PAGE_DIRTY);
    page_wake(table, entry);
    pager_leave(victim->segment);
}

static bool before(const struct victim *a, const struct victim *b)
{
    return a->segment != b->segment ? a->segment->index < b->segment->index : a->page < b->page;
}

// So that neighbours are punched together. By insertion: the clock brings them nearly in order.
static void sort_victims(struct claims *claims)
{
    for (uint32_t i = 1; i < claims->count; i++) {
        struct victim v = claims->victims[i];
        uint32_t at = i;
        for (; at > 0 && before(&v, &claims->victims[at - 1]); at--) {
            claims->victims[at] = claims->victims[at - 1];
        }
        claims->victims[at] = v;
    }
}

void frames_discard(struct pager *pager, struct claims *claims)
{
    if (claims->count == 0) {
        return;
    }
    sort_victims(claims);
    for (uint32_t i = 0; i < claims->count;) {
        uint32_t n = run_of_victims(claims, i);
        struct segment *segment = claims->victims[i].segment;
        (void)segment->view.ops->discard(&segment->view,
                                         claims->victims[i].page << segment->page_shift,
                                         (uint64_t)n << segment->page_shift);
        i += n;
    }
    lock_acquire(&pager->lock);
    for (uint32_t i = 0; i < claims->count; i++) {
        victim_gone(&claims->victims[i]);
    }
    lock_release(&pager->lock);
    claims->count = 0;
}

void frames_settle(struct pager *pager, struct claims *claims)
{
    frames_discard(pager, claims);
    if (claims->credit > 0) {
        lock_acquire(&pager->lock);
        frames_release(pager, claims->credit);
        lock_release(&pager->lock);
        claims->credit = 0;
    }
}
