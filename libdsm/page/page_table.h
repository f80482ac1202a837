// SPDX-License-Identifier: Apache-2.0
//
// One segment's pages: 16 bytes for each, sparse (memory is used for what was touched), readable by the handler. States
// change in page_move() only, flags in page_set() only; both assert the pager's lock.
//
// Every field but `word` is under the pager's lock. `word` is written under it and read by whoever waits on it.
#ifndef LIBDSM_PAGE_PAGE_TABLE_H
#define LIBDSM_PAGE_PAGE_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libdsm/sync/lock.h"

enum page_state {
#define PAGE_STATE(name, place, transit, meaning) PAGE_##name,
#include "libdsm/page/page_states.def"
#undef PAGE_STATE
    PAGE_STATE_COUNT
};

enum page_flag {              // bits of the word above the state
    PAGE_DIRTY = 1 << 4,      // memory differs from backing
    PAGE_OPEN_READ = 1 << 5,  // the program's view lets loads through
    PAGE_OPEN_WRITE = 1 << 6, // ... and stores
    PAGE_READ_ONLY = 1 << 7,  // the program said so
    PAGE_AGED = 1 << 8,       // among the next victims
    PAGE_AHEAD = 1 << 9,      // came before any touch, closed, and no touch was seen since
    PAGE_WANTED = 1 << 10,    // delivered to a thread that has not run since
    PAGE_WAITERS = 1 << 11,   // threads sleep on the word
    PAGE_REQUESTED = 1 << 12, // stands in the queue of faults
    PAGE_UNBACKED = 1 << 13,  // resident or GIVING_UP, and the server has no contents worth reading
    PAGE_CHANGED = 1 << 14,   // the program's mark: a store happened
    PAGE_SENT = 1 << 15,      // was dirty; its contents are on their way to the server
    PAGE_DEFINED = 1 << 16,   // the program's mark: its zeros are contents
    PAGE_SPARED = 1 << 17,    // the clock passed it by once, since it came ahead
    PAGE_TRACKED = 1 << 18,   // open for loads and stores; whether one came the trap knows
    PAGE_CHANGE_COUNT = 1 << 19, // one in the count of changes, which has the bits from here up
};
#define PAGE_OPEN (PAGE_OPEN_READ | PAGE_OPEN_WRITE | PAGE_TRACKED)

struct page_entry {
    _Atomic uint32_t word;
    uint32_t frame; // while it has one; else what replacement knows of the last one, 0: nothing
    uint16_t pins;
    uint8_t error;         // why the last attempt failed: enum of the pager
    uint8_t attempts;      // failed ones, counted round
    uint32_t delivered_ms; // when, if PAGE_WANTED; low bits of the clock
};

enum { PAGE_CHUNK = 4096 }; // pages that are skipped together when none of them is resident

struct page_table {
    struct page_entry *entries;
    uint32_t *chunk_resident; // frames in each chunk
    uint64_t pages;
    enum page_state initial; // UNDEFINED or BACKING: what UNTOUCHED means here
    const struct lock *lock;
};

// Maps the table of `pages` entries. 0 or -ENOMEM.
int page_table_create(struct page_table *table, uint64_t pages, enum page_state initial,
                      const struct lock *lock);
void page_table_destroy(struct page_table *table);

static inline struct page_entry *page_at(const struct page_table *table, uint64_t page)
{
    return &table->entries[page];
}
static inline uint32_t page_word(const struct page_entry *entry)
{
    return atomic_load_explicit(&entry->word, memory_order_acquire);
}
static inline bool page_has(const struct page_entry *entry, uint32_t flags)
{
    return (page_word(entry) & flags) == flags;
}
// The state with UNTOUCHED resolved.
enum page_state page_state(const struct page_table *table, const struct page_entry *entry);
// The only writer of states. Keeps flags. Wakes nobody: see page_wake().
void page_move(struct page_table *table, uint64_t page, enum page_state to);
void page_set(const struct page_table *table, struct page_entry *entry, uint32_t set,
              uint32_t clear);
// Whoever ends a transit calls this after the move: wakes all who sleep on the word.
void page_wake(const struct page_table *table, struct page_entry *entry);
bool page_move_legal(enum page_state from, enum page_state to);
bool page_in_transit(enum page_state state);
const char *page_state_name(enum page_state state);

#endif
