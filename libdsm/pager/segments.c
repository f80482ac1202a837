// SPDX-License-Identifier: Apache-2.0
//
// Segments coming and going, and the operations on pages that need no I/O. A segment is published to the handler last and
// withdrawn first; who touches it in between has broken the rule that nobody does.
#include <errno.h>
#include <limits.h>

#include "libdsm/pager/pager.h"

static int publish(struct pager *pager, struct segment *segment)
{
    for (uint32_t i = 0; i < PAGER_SEGMENTS; i++) {
        struct segment *none = NULL;
        if (atomic_compare_exchange_strong(&pager->views[i].segment, &none, segment)) {
            segment->index = i;
            uintptr_t base = (uintptr_t)segment->view.base;
            // The end last: until then nothing lies between them.
            atomic_store_explicit(&pager->views[i].base, base, memory_order_release);
            atomic_store_explicit(&pager->views[i].end, base + segment->view.bytes,
                                  memory_order_release);
            return 0;
        }
    }
    return -EMFILE;
}

static void count_attached(struct segment *segment, int sign)
{
    struct pager *pager = segment->pager;
    sync_mask mask = sync_block_signals();
    lock_acquire(&pager->lock);
    frames_count_attached(pager, segment, sign);
    lock_release(&pager->lock);
    sync_restore_signals(mask);
}

int pager_attach(struct pager *pager, struct segment *segment, void *base)
{
    segment->pager = pager;
    segment->number = atomic_fetch_add(&pager->numbers, 1) + 1;
    segment->backing.number = segment->number;
    segment->page_shift = (uint32_t)__builtin_ctz(segment->page_bytes);
    segment->laundry_error = 0;
    segment->write_failed = false;
    placement_whole(&segment->placement, &segment->backing, segment->backing.pages);
    read_ahead_start(&segment->ahead);
    segment->fresh = (struct first_touch){.walks = {{0}}};
    uint64_t highest = atomic_load(&segment->backing.acknowledged);
    int error = page_table_create(&segment->table, segment->backing.pages,
                                  highest == 0 ? PAGE_UNDEFINED : PAGE_BACKING, &pager->lock);
    if (error != 0) {
        return error;
    }
    const struct trap_ops *trap = pager->options.trap;
    trap = trap != NULL ? trap : &trap_mprotect_ops;
    error = trap->attach(&segment->view, base, segment->backing.pages * segment->page_bytes,
                         pager->options.fill, segment->writable);
    if (error == 0) {
        error = publish(pager, segment);
        if (error != 0) {
            segment->view.ops->detach(&segment->view);
        }
    }
    if (error != 0) {
        page_table_destroy(&segment->table);
        return error;
    }
    count_attached(segment, 1);
    return 0;
}

// Takes one frame of the segment back, or says that it must be waited for. Under the lock. The caller gives its bytes back.
static bool drop_frame(struct pager *pager, struct segment *segment, uint32_t frame)
{
    uint64_t page = pager->replacement.frames[frame].page;
    struct page_entry *entry = page_at(&segment->table, page);
    if (page_state(&segment->table, entry) != PAGE_RESIDENT) {
        return false;
    }
    (void)protection_set(segment, page, 1, TRAP_NONE); // a fault under way may have opened it again
    if (entry->pins > 0) {
        pager->pinned_bytes -= segment->page_bytes;
        segment->pinned_pages--;
        entry->pins = 0;
    }
    page_move(&segment->table, page, PAGE_DISCARDING);
    prefetch_forgone(segment, entry);
    page_set(&segment->table, entry, 0, PAGE_OPEN | PAGE_DIRTY);
    replacement_remove(&pager->replacement, frame);
    entry->frame = 0;
    page_move(&segment->table, page, PAGE_BACKING);
    page_wake(&segment->table, entry);
    return true;
}

// False: somebody is at work on a page, or has taken a frame whose page is not told yet.
static bool drop_frames(struct pager *pager, struct segment *segment)
{
    bool all = true;
    uint64_t freed = 0;
    sync_mask mask = sync_block_signals();
    lock_acquire(&pager->lock);
    for (uint32_t i = 0; i < pager->replacement.count; i++) {
        const struct frame *frame = &pager->replacement.frames[i];
        if (frame_used(frame) && frame->segment == segment->index) {
            bool dropped = drop_frame(pager, segment, i);
            freed += dropped ? segment->page_bytes : 0;
            all &= dropped;
        }
    }
    all &= segment->users == 0;
    if (freed > 0) {
        frames_release(pager, freed);
    }
    lock_release(&pager->lock);
    sync_restore_signals(mask);
    return all;
}

struct segment *pager_use(struct pager *pager, uint32_t index)
{
    struct segment *segment =
        atomic_load_explicit(&pager->views[index].segment, memory_order_acquire);
    if (segment == NULL || atomic_load(&pager->views[index].base) == UINTPTR_MAX) {
        return NULL;
    }
    segment->users++;
    return segment;
}

bool pager_goes(const struct segment *segment)
{
    return atomic_load(&segment->pager->views[segment->index].base) == UINTPTR_MAX;
}

void pager_leave(struct segment *segment)
{
    segment->users--;
}

static bool in_use(struct segment *segment)
{
    sync_mask mask = sync_block_signals();
    lock_acquire(&segment->pager->lock);
    bool used = segment->users > 0;
    lock_release(&segment->pager->lock);
    sync_restore_signals(mask);
    return used;
}

// (L) Closes the next frame of the segment, or passes over some of others; where to look on.
static uint32_t close_next(struct pager *pager, struct segment *segment, uint32_t i)
{
    enum { LOOKS = 4096 };
    for (uint32_t looks = 0; looks < LOOKS && i < pager->replacement.count; looks++, i++) {
        const struct frame *frame = &pager->replacement.frames[i];
        if (frame_used(frame) && frame->segment == segment->index) {
            (void)protection_set(segment, frame->page, 1, TRAP_NONE);
            return i + 1;
        }
    }
    return i;
}

// Under the lock again for each: closing one page is a system call, and faults of other segments wait.
static void close_frames(struct pager *pager, struct segment *segment)
{
    for (uint32_t i = 0; i < pager->replacement.count;) {
        sync_mask mask = sync_block_signals();
        lock_acquire(&pager->lock);
        i = close_next(pager, segment, i);
        lock_release(&pager->lock);
        sync_restore_signals(mask);
    }
}

void pager_detach(struct segment *segment)
{
    struct pager *pager = segment->pager;
    uint32_t i = segment->index;
    atomic_store(&pager->views[i].base, UINTPTR_MAX);
    atomic_store(&pager->views[i].end, 0);
    close_frames(pager, segment);
    while (in_use(segment) || !drop_frames(pager, segment)) {
        (void)sync_wait(&pager->frames_word, atomic_load(&pager->frames_word), sync_after_ms(10));
    }
    segment->view.ops->detach(&segment->view);
    count_attached(segment, -1);
    page_table_destroy(&segment->table);
    atomic_store(&pager->views[i].segment, NULL);
}

// Cedar's DoInterval: one page at a time, the lock given back in between.
static int each_page(struct segment *segment, uint64_t page, uint64_t count,
                     void (*work)(struct segment *segment, uint64_t page))
{
    uint64_t pages = segment->table.pages;
    if (page > pages || count > pages - page) {
        return -EFAULT;
    }
    for (uint64_t i = 0; i < count; i++) {
        sync_mask mask = sync_block_signals();
        lock_acquire(&segment->pager->lock);
        work(segment, page + i);
        lock_release(&segment->pager->lock);
        sync_restore_signals(mask);
    }
    return 0;
}

static void unpin_page(struct segment *segment, uint64_t page)
{
    struct pager *pager = segment->pager;
    struct page_entry *entry = page_at(&segment->table, page);
    if (entry->pins > 0 && --entry->pins == 0) {
        pager->pinned_bytes -= segment->page_bytes;
        segment->pinned_pages--;
        (void)atomic_fetch_add(&pager->frames_word, 1);
    }
}

int pager_unpin(struct segment *segment, uint64_t page, uint64_t count)
{
    int error = each_page(segment, page, count, unpin_page);
    sync_wake(&segment->pager->frames_word, INT_MAX);
    return error;
}

static void age_page(struct segment *segment, uint64_t page)
{
    struct page_entry *entry = page_at(&segment->table, page);
    enum page_state state = page_state(&segment->table, entry);
    if ((state == PAGE_RESIDENT || state == PAGE_WRITING) && entry->pins == 0) {
        replacement_age(&segment->pager->replacement, entry->frame);
        page_set(&segment->table, entry, PAGE_AGED, 0);
    }
}

int pager_age(struct segment *segment, uint64_t page, uint64_t count)
{
    return each_page(segment, page, count, age_page);
}
