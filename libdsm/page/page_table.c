// SPDX-License-Identifier: Apache-2.0
//
// The page table. It owns the states, and nothing else: no I/O, no protection, no policy. A flat mapping that the kernel
// fills as it is touched is simpler than levels of our own, costs nothing for pages nobody looks at, and is read by the
// fault's handler without any step that could fail.
//
// The word is one futex: state, flags and a count of changes together, so that a sleeper notices any change, and a thread that
// faults again can tell whether anything happened meanwhile. Waking is apart from moving, for a whole run is moved
// under one hold of the lock.
#include "libdsm/page/page_table.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <sys/mman.h>

#include "libdsm/sync/futex.h"
#include "libdsm/sync/invariant.h"

enum { STATE_MASK = 15 };
_Static_assert(PAGE_STATE_COUNT <= STATE_MASK + 1, "states fit in the word");
_Static_assert(sizeof(struct page_entry) == 16, "16 bytes a page");

static void *map(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static uint64_t chunks(uint64_t pages)
{
    return (pages + PAGE_CHUNK - 1) / PAGE_CHUNK;
}

int page_table_create(struct page_table *table, uint64_t pages, enum page_state initial,
                      const struct lock *lock)
{
    *table = (struct page_table){.pages = pages, .initial = initial, .lock = lock};
    table->entries = map(pages * sizeof *table->entries);
    table->chunk_resident = map(chunks(pages) * sizeof *table->chunk_resident);
    if (table->entries == NULL || table->chunk_resident == NULL) {
        page_table_destroy(table);
        return -ENOMEM;
    }
    return 0;
}

void page_table_destroy(struct page_table *table)
{
    if (table->entries != NULL) {
        (void)munmap(table->entries, table->pages * sizeof *table->entries);
    }
    if (table->chunk_resident != NULL) {
        (void)munmap(table->chunk_resident, chunks(table->pages) * sizeof *table->chunk_resident);
    }
    *table = (struct page_table){0};
}

enum page_state page_state(const struct page_table *table, const struct page_entry *entry)
{
    enum page_state state = page_word(entry) & STATE_MASK;
    return state == PAGE_UNTOUCHED ? table->initial : state;
}

bool page_move_legal(enum page_state from, enum page_state to)
{
    switch ((unsigned)from << 8 | (unsigned)to) {
#define PAGE_MOVE(f, t, why) case (unsigned)PAGE_##f << 8 | (unsigned)PAGE_##t:
#include "libdsm/page/page_states.def"
#undef PAGE_MOVE
        return true;
    default:
        return false;
    }
}

static bool has_frame(enum page_state state)
{
    return state == PAGE_RESIDENT || state == PAGE_WRITING || state == PAGE_DISCARDING;
}

// Every change makes it another word, also one that ends where it began.
static void swap_word(struct page_entry *entry, uint32_t word)
{
    if (word != page_word(entry)) {
        atomic_store_explicit(&entry->word, word + PAGE_CHANGE_COUNT, memory_order_release);
    }
}

void page_move(struct page_table *table, uint64_t page, enum page_state to)
{
    INVARIANT(lock_held(table->lock));
    struct page_entry *entry = page_at(table, page);
    uint32_t word = page_word(entry);
    enum page_state from = page_state(table, entry);
    INVARIANT(page_move_legal(from, to));
    swap_word(entry, (word & ~(uint32_t)STATE_MASK) | to);
    if (has_frame(to) && !has_frame(from)) {
        table->chunk_resident[page / PAGE_CHUNK]++;
    } else if (has_frame(from) && !has_frame(to)) {
        table->chunk_resident[page / PAGE_CHUNK]--;
    }
}

void page_set(const struct page_table *table, struct page_entry *entry, uint32_t set,
              uint32_t clear)
{
    (void)table;
    INVARIANT(lock_held(table->lock) && ((set | clear) & STATE_MASK) == 0);
    swap_word(entry, (page_word(entry) & ~clear) | set);
}

void page_wake(const struct page_table *table, struct page_entry *entry)
{
    if (page_has(entry, PAGE_WAITERS)) {
        page_set(table, entry, 0, PAGE_WAITERS);
        sync_wake(&entry->word, INT_MAX);
    }
}

bool page_in_transit(enum page_state state)
{
    switch (state) {
    case PAGE_FILLING:
    case PAGE_KILLING:
    case PAGE_READING:
    case PAGE_WRITING:
    case PAGE_DISCARDING:
    case PAGE_GIVING_UP:
        return true;
    default:
        return false;
    }
}

const char *page_state_name(enum page_state state)
{
    static const char *const names[] = {
#define PAGE_STATE(name, place, transit, meaning) #name,
#include "libdsm/page/page_states.def"
#undef PAGE_STATE
    };
    return state < PAGE_STATE_COUNT ? names[state] : "?";
}
