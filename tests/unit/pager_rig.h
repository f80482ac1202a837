// SPDX-License-Identifier: Apache-2.0
//
// A pager in process: its lanes are lane_loop lanes to a store in memory that writes down what it was asked, fails where it is
// told to, and may be held. Touches are real: the handler is installed, and the segment lies at its address.
#ifndef TESTS_UNIT_PAGER_RIG_H
#define TESTS_UNIT_PAGER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"

enum { RIG_PAGE = 4096, RIG_SEGMENTS = 2, RIG_STORES = 3, RIG_IO_MOST = 4096 };
#define RIG_NOWHERE UINT64_MAX

struct
    rig_options { // 0 is: 256 pages of 4 KiB, cache of 64, buffer of 256, exact, all pages on backing
    uint64_t pages;
    uint32_t page_bytes;
    uint32_t cache_pages;
    uint32_t buffer_pages;
    bool fresh; // nobody ever wrote the segment: all pages undefined
    bool second_chance;
    bool laundry;
    uint64_t read_ahead_bytes;
    uint32_t map_limit;
    uint32_t fault_workers; // 4
    int64_t timeout_ms;     // 30,000
    uint32_t gap_pages;     // without limit
    enum trap_fill fill;
    const struct trap_ops *trap;     // NULL: as DSM_TRAP says
    uint32_t stores;                 // 1
    const struct placement_row *row; // of its pages in them
    uint32_t rows;
};

struct rig_store { // of one segment
    uint8_t *data;
    uint64_t *versions;
    uint64_t pages;
    uint32_t page_bytes;
};

struct rig {
    struct counters stat;
    struct counters before; // what rig_expect() starts from
    struct backing backing;
    struct backing others[RIG_STORES]; // but the first, which is `backing`
    struct pager pager;
    struct segment segments[RIG_SEGMENTS];
    struct backing_segment parts[RIG_SEGMENTS][RIG_STORES]; // but the first
    struct rig_options options;
    int64_t faulted; // swap-ins that met a fault in mid-interval (for the identities)
    uint64_t resume; // connections made
    pthread_t keeper;
    _Atomic uint32_t stopping;
    struct call call; // the last one
    // The server; under its mutex.
    pthread_mutex_t mutex;
    struct rig_store stores[RIG_SEGMENTS];
    uint64_t fail_read, fail_write;     // page whose next access fails, once
    enum wire_status refuse_writes;     // not WIRE_OK: every write fails so
    _Atomic unsigned write_us, read_us; // answers take this long
    bool cut;                           // the next answer is a cut
    _Atomic uint32_t dead_stores;       // bit n: every answer of store n is a cut
    _Atomic uint32_t sent;              // requests, whether or not they were answered
    _Atomic uint32_t hold;              // 1: answers wait until it is 0
    _Atomic uint32_t held;              // answers that wait
    // The view between pager and kernel.
    _Atomic int protects_fail; // so many calls fail from now on
    _Atomic int places_fail;
    _Atomic uint32_t places; // calls
    volatile uint8_t
        *store_when_looked; // is stored into once the trap has said what it knows; then NULL
    _Atomic uint32_t hold_discards; // 1: discards wait until it is 0
    _Atomic uint32_t discards_held;
    _Atomic uint32_t
        punched_open; // pages whose frame was taken away while the program could see it
    struct {
        char op; // 'R', 'W'
        uint64_t page, hint;
        uint32_t count, segment, store;
    } io[RIG_IO_MOST];
    unsigned io_count;
};

extern struct rig rig;

void rig_start(const struct rig_options *options);
// Checks that nothing is left behind, the identities of the counters, and stops.
void rig_stop(void);
void rig_check(void);        // the same, without stopping
void rig_settle(void);       // waits until nobody is at work
void rig_check_failed(void); // the same after injected failures of writing
void rig_attach(unsigned i); // a further segment, like the first
void rig_detach(unsigned i);
int rig_cmocka_stop(void **state); // teardown that stops what a failed test left running

void rig_server_start(void); // pager_server.c, for pager_rig.c
void rig_server_stop(void);
void rig_server_make_store(unsigned i);
void rig_server_place(unsigned i); // the segment's pages, as the options say
void rig_server_cancel(void);
bool rig_server_lanes_free(void);
void rig_fill(uint8_t *to, uint64_t stamp, uint32_t bytes);

void rig_release(_Atomic uint32_t *hold);                // hold, hold_discards
void rig_await(_Atomic uint32_t *count, uint32_t least); // until so many wait there

int rig_swap_in_next(uint64_t page, uint64_t count, unsigned flags, uint64_t next);
static inline int rig_swap_in(uint64_t page, uint64_t count, unsigned flags)
{
    return rig_swap_in_next(page, count, flags, DSM_NO_PAGE);
}
int rig_clean(uint64_t page, uint64_t count);
static inline int rig_give_up(uint64_t page, uint64_t count) // they have no contents then
{
    struct data_change change = {
        .segment = &rig.segments[0],
        .page = page,
        .end = page + count,
        .data = DSM_DATA_UNDEFINED,
        .deadline = pager_deadline(&rig.pager),
    };
    sync_mask mask = sync_block_signals();
    int error = pager_set_data(&change);
    sync_restore_signals(mask);
    return error;
}
void rig_age(uint64_t page, uint64_t count);
uint8_t *rig_at(uint64_t page);                        // in the program's view
void rig_store(uint64_t page, uint64_t stamp);         // fills the page, in the program's view
void rig_expect_page(uint64_t page, uint64_t stamp);   // in the program's view; 0: zeros
void rig_expect_stored(uint64_t page, uint64_t stamp); // on the server
uint64_t rig_first_stamp(uint64_t page);               // what is on the server from the start
enum page_state rig_state(uint64_t page);
bool rig_has(uint64_t page, uint32_t flags);
struct page_entry *rig_entry(uint64_t page);

// Brings pages [0, strlen) into the states of the golden scenarios: O U C D P R.
void rig_pages(const char *states);
// Frames 100, 101, ... in these states (C, D), aged in this order; then counters and I/O begin anew.
void rig_frames(const char *states);
void rig_reset(void);
struct rig_counts {
    uint64_t swap_in[9];
    uint64_t clean[8];
};
void rig_expect(struct rig_counts expected);
void rig_io_text(char *text, size_t bytes);
// "R0+3>4 W7+1 R11+1": page + count > hint; with several stores "R0+3@A R3+1@B>4"
void rig_expect_io(const char *expected);

#endif
