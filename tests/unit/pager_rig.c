// SPDX-License-Identifier: Apache-2.0
//
// See pager_rig.h. Here: starting, stopping, what a program does, and what is checked. The server is in pager_server.c.
#include "tests/unit/pager_rig.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rig rig;

enum { SEGMENT_SPACING_LOG2 = 32, FRAMES_FROM = 100 };

// ---- the view, watched ----

static const struct segment *segment_of(const struct trap_view *view)
{
    for (unsigned i = 0; i < RIG_SEGMENTS; i++) {
        if (&rig.segments[i].view == view) {
            return &rig.segments[i];
        }
    }
    return NULL;
}

static bool due(_Atomic int *failures)
{
    int left = atomic_load(failures);
    while (left > 0 && !atomic_compare_exchange_weak(failures, &left, left - 1)) {
    }
    return left > 0;
}

static int place(struct trap_view *view, uint64_t offset, uint64_t bytes, void **to)
{
    (void)atomic_fetch_add(&rig.places, 1);
    return due(&rig.places_fail) ? -ENOMEM : rig.options.trap->place(view, offset, bytes, to);
}

static int protect(struct trap_view *view, uint64_t offset, uint64_t bytes, enum trap_access from,
                   enum trap_access to)
{
    return due(&rig.protects_fail) ? -ENOMEM
                                   : rig.options.trap->protect(view, offset, bytes, from, to);
}

static uint64_t stored(struct trap_view *view, uint64_t offset, uint64_t bytes, uint64_t unit)
{
    uint64_t found = rig.options.trap->stored(view, offset, bytes, unit);
    if (rig.store_when_looked != NULL) {
        *rig.store_when_looked = 1;
        rig.store_when_looked = NULL;
    }
    return found;
}

static int discard(struct trap_view *view, uint64_t offset, uint64_t bytes)
{
    const struct segment *segment = segment_of(view);
    for (uint64_t at = offset; at < offset + bytes; at += segment->page_bytes) {
        const struct page_entry *entry = page_at(&segment->table, at >> segment->page_shift);
        if (protection_of(entry) != TRAP_NONE) {
            (void)atomic_fetch_add(&rig.punched_open, 1);
        }
    }
    while (atomic_load(&rig.hold_discards) != 0) {
        (void)atomic_fetch_add(&rig.discards_held, 1);
        (void)sync_wait(&rig.hold_discards, 1, SYNC_FOR_EVER);
        (void)atomic_fetch_sub(&rig.discards_held, 1);
    }
    return rig.options.trap->discard(view, offset, bytes);
}

static int fill(struct trap_view *view, uint64_t offset, const void *from, uint64_t bytes)
{
    return rig.options.trap->fill(view, offset, from, bytes);
}

static void detach_view(struct trap_view *view)
{
    rig.options.trap->detach(view);
}

static struct trap_ops watched = {
    .detach = detach_view,
    .place = place,
    .fill = fill,
    .protect = protect,
    .stored = stored,
    .discard = discard,
};

void rig_release(_Atomic uint32_t *hold)
{
    atomic_store(hold, 0);
    sync_wake(hold, INT32_MAX);
}

void rig_await(_Atomic uint32_t *count, uint32_t least)
{
    while (atomic_load(count) < least) {
        (void)usleep(200);
    }
}

// ---- start and stop ----

void rig_attach(unsigned i)
{
    const uint64_t address = LIMIT_BASE_LOW + ((uint64_t)i << SEGMENT_SPACING_LOG2);
    struct segment *segment = &rig.segments[i];
    if (rig.stores[i].data == NULL) {
        rig_server_make_store(i);
    }
    *segment = (struct segment){
        .page_bytes = rig.options.page_bytes,
        .writable = true,
        .backing = {.id = i + 1, .pages = rig.options.pages, .page_bytes = rig.options.page_bytes},
    };
    atomic_store(&segment->backing.next_version, 2);
    atomic_store(&segment->backing.acknowledged, rig.options.fresh ? 0 : 1);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address
    assert_int_equal(pager_attach(&rig.pager, segment, (void *)(uintptr_t)address), 0);
    segment->view.ops = &watched;
    rig_server_place(i);
}

void rig_detach(unsigned i)
{
    pager_detach(&rig.segments[i]);
    rig.segments[i].pager = NULL;
}

// Leaves without a word to whatever looks at leaks: the test is in the middle of something.
static void skip_without_userfaultfd(int error)
{
    (void)fprintf(stderr, "SKIPPED: no userfaultfd for shared memory here: %s\n", strerror(-error));
    _exit(77);
}

static void set_defaults(struct rig_options *o)
{
    o->pages = o->pages == 0 ? 256 : o->pages;
    o->page_bytes = o->page_bytes == 0 ? RIG_PAGE : o->page_bytes;
    o->cache_pages = o->cache_pages == 0 ? 64 : o->cache_pages;
    o->buffer_pages = o->buffer_pages == 0 ? LIMIT_RUN_PAGES : o->buffer_pages;
    o->fault_workers = o->fault_workers == 0 ? 4 : o->fault_workers;
    o->timeout_ms = o->timeout_ms == 0 ? LIMIT_FAULT_TIMEOUT_MS : o->timeout_ms;
    o->gap_pages = o->gap_pages == 0 ? LIMIT_RUN_PAGES : o->gap_pages;
    o->stores = o->stores == 0 ? 1 : o->stores;
    const char *trap = getenv("DSM_TRAP");
    trap = trap != NULL ? trap : "mprotect";
    if (o->trap == NULL) {
        o->trap = strcmp(trap, "uffd") == 0        ? &trap_uffd_ops
                  : strcmp(trap, "uffd-sync") == 0 ? &trap_uffd_sync_ops
                                                   : &trap_mprotect_ops;
    }
    if (o->trap != &trap_mprotect_ops) {
        int error = trap_uffd_get(o->trap->tracks, &o->trap);
        if (error != 0) {
            skip_without_userfaultfd(error);
        }
    }
    watched.maps_edges = o->trap->maps_edges;
    watched.tracks = o->trap->tracks;
}

void rig_start(const struct rig_options *options)
{
    memset(&rig, 0, sizeof rig);
    rig.options = *options;
    set_defaults(&rig.options);
    const struct rig_options *o = &rig.options;
    rig.fail_read = rig.fail_write = RIG_NOWHERE;
    (void)pthread_mutex_init(&rig.mutex, NULL);
    rig_server_start();
    struct pager_options pager = {
        .cache_bytes = (uint64_t)o->cache_pages * o->page_bytes,
        .fault_timeout_ms = o->timeout_ms,
        .swap_buffer_pages = o->buffer_pages,
        .clean_gap_pages = o->gap_pages,
        .read_ahead_bytes = o->read_ahead_bytes,
        .fault_workers = o->fault_workers,
        .map_limit = o->map_limit,
        .fill = o->fill,
        .trap = o->trap,
        .direct = getenv("DSM_DIRECT") != NULL,
        .laundry = o->laundry,
        .exact = !o->second_chance,
    };
    assert_int_equal(pager_start(&rig.pager, &pager, &rig.stat, &rig.backing), 0);
    assert_int_equal(trap_install(pager_fault, o->trap != &trap_mprotect_ops), 0);
    rig_attach(0);
}

static void stop(void)
{
    rig_release(&rig.hold);
    rig_release(&rig.hold_discards);
    for (unsigned i = 0; i < RIG_SEGMENTS; i++) {
        if (rig.segments[i].pager != NULL) {
            rig_detach(i);
        }
    }
    trap_uninstall();
    rig_server_cancel();
    pager_stop(&rig.pager);
    rig_server_stop();
    if (rig.options.trap != &trap_mprotect_ops) {
        trap_uffd_put();
    }
}

int rig_cmocka_stop(void **state)
{
    (void)state;
    if (rig.backing.lane_count > 0) {
        stop();
    }
    return 0;
}

void rig_stop(void)
{
    rig_check();
    uint64_t detached = 0;
    for (unsigned i = 0; i < RIG_SEGMENTS; i++) {
        if (rig.segments[i].pager != NULL) {
            rig_detach(i);
            detached++;
        }
    }
    assert_true(detached > 0);
    assert_int_equal(rig.pager.resident_bytes, 0);
    assert_int_equal(rig.pager.pinned_bytes, 0);
    assert_int_equal(rig.pager.edges, 0);
    assert_int_equal(rig.pager.replacement.in_use, 0);
    stop();
}

// ---- nothing is left behind ----

#define GET(name) (STAT_GET(&rig.stat, name))

struct tally {
    uint64_t transit, resident_bytes, pinned, pinned_bytes, edges, open, requested, users;
    uint64_t ahead, unsettled; // pages that came ahead and were not seen since; by the counters
};

static bool is_edge(enum trap_access before, enum trap_access now)
{
    return watched.maps_edges ? now != before
                              : watched.tracks && (now == TRAP_READ) != (before == TRAP_READ);
}

static void tally_segment(const struct segment *segment, struct tally *t)
{
    enum trap_access before = TRAP_NONE;
    uint64_t in_chunk = 0;
    for (uint64_t p = 0; p < segment->table.pages; p++) {
        const struct page_entry *entry = page_at(&segment->table, p);
        enum page_state state = page_state(&segment->table, entry);
        enum trap_access now = protection_of(entry);
        t->transit += page_in_transit(state);
        t->requested += page_has(entry, PAGE_REQUESTED);
        t->pinned += entry->pins > 0;
        t->ahead += page_has(entry, PAGE_AHEAD);
        assert_true(!page_has(entry, PAGE_AHEAD) || (state == PAGE_RESIDENT && now == TRAP_NONE));
        t->edges += is_edge(before, now);
        t->open += now != TRAP_NONE;
        before = now;
        if (state == PAGE_RESIDENT) {
            const struct frame *frame = &rig.pager.replacement.frames[entry->frame];
            assert_true(frame_used(frame) && frame->page == p && frame->segment == segment->index);
            assert_true(now != TRAP_READ_WRITE || page_has(entry, PAGE_DIRTY));
            t->resident_bytes += segment->page_bytes;
            in_chunk++;
        } else {
            assert_true(page_in_transit(state) || now == TRAP_NONE);
        }
        if (p % PAGE_CHUNK == PAGE_CHUNK - 1 || p + 1 == segment->table.pages) {
            assert_true(t->transit > 0 ||
                        segment->table.chunk_resident[p / PAGE_CHUNK] == in_chunk);
            in_chunk = 0;
        }
    }
    t->edges += is_edge(before, TRAP_NONE);
    t->pinned_bytes += segment->pinned_pages * segment->page_bytes;
    t->users += segment->users;
}

static bool quiet(struct tally *t)
{
    *t = (struct tally){0};
    sync_mask mask = sync_block_signals();
    lock_acquire(&rig.pager.lock);
    for (unsigned i = 0; i < RIG_SEGMENTS; i++) {
        if (rig.segments[i].pager != NULL) {
            tally_segment(&rig.segments[i], t);
        }
    }
    bool still = t->transit == 0 && t->requested == 0 && t->users == 0 &&
                 rig.pager.queue_count == 0 && t->resident_bytes == rig.pager.resident_bytes;
    assert_int_equal(t->open, GET(open_pages));
    t->unsettled = GET(read_ahead_pages) - GET(read_ahead_used) - GET(read_ahead_wasted);
    uint64_t edges = rig.pager.edges;
    uint64_t pinned = rig.pager.pinned_bytes;
    lock_release(&rig.pager.lock);
    sync_restore_signals(mask);
    still = still && rig_server_lanes_free();
    assert_int_equal(t->edges, edges);
    assert_int_equal(t->pinned_bytes, pinned);
    return still;
}

void rig_settle(void)
{
    struct tally t;
    for (int i = 0; i < 20000; i++) { // workers may be at work on what nobody waits for any more
        if (quiet(&t)) {
            assert_true(t.resident_bytes <= rig.pager.options.cache_bytes);
            assert_int_equal(t.ahead, t.unsettled);
            return;
        }
        (void)usleep(1000);
    }
    fail_msg("left behind: %" PRIu64 " in transit, %" PRIu64 " requested, %" PRIu64
             " users, %" PRIu64 " bytes in frames, %" PRIu64 " accounted for",
             t.transit, t.requested, t.users, t.resident_bytes, rig.pager.resident_bytes);
}

void rig_check_failed(void)
{
    rig_settle();
    assert_int_equal(atomic_load(&rig.punched_open), 0);
    assert_int_equal(GET(swap_in_pages), GET(swap_in_already_in) + GET(swap_in_no_read) +
                                             GET(swap_in_reads) + (uint64_t)rig.faulted);
    assert_true(GET(swap_in_physical_runs) >= GET(swap_in_virtual_runs));
    assert_true(GET(clean_physical_runs) >= GET(clean_virtual_runs));
    uint64_t absent = GET(clean_skipped_absent) + GET(clean_skipped_no_backing);
    assert_int_equal(GET(clean_cant_writes) - absent,
                     GET(clean_skipped_pinned) + GET(clean_skipped_clean));
    assert_true(GET(waits) >= GET(faults_waited));
    assert_true(GET(resident_peak_bytes) <= rig.pager.options.cache_bytes);
}

void rig_check(void)
{
    rig_check_failed();
    assert_int_equal(GET(clean_pages), GET(clean_writes) + GET(clean_check_out_cleans) -
                                           GET(clean_unneeded_check_out_cleans));
}

// ---- what a program does ----

int rig_swap_in_next(uint64_t page, uint64_t count, unsigned flags, uint64_t next)
{
    rig.call = (struct call){.kind = CALL_SWAP_IN,
                             .segment = &rig.segments[0],
                             .page = page,
                             .count = count,
                             .flags = flags,
                             .next_page = next};
    return pager_call(&rig.pager, &rig.call);
}

int rig_clean(uint64_t page, uint64_t count)
{
    rig.call = (struct call){
        .kind = CALL_CLEAN, .segment = &rig.segments[0], .page = page, .count = count};
    return pager_call(&rig.pager, &rig.call);
}

void rig_age(uint64_t page, uint64_t count)
{
    assert_int_equal(pager_age(&rig.segments[0], page, count), 0);
}

uint8_t *rig_at(uint64_t page)
{
    return rig.segments[0].view.base + page * rig.options.page_bytes;
}

void rig_store(uint64_t page, uint64_t stamp)
{
    rig_fill(rig_at(page), stamp, rig.options.page_bytes);
}

struct page_entry *rig_entry(uint64_t page)
{
    return page_at(&rig.segments[0].table, page);
}

enum page_state rig_state(uint64_t page)
{
    return page_state(&rig.segments[0].table, rig_entry(page));
}

bool rig_has(uint64_t page, uint32_t flags)
{
    sync_mask mask = sync_block_signals();
    lock_acquire(&rig.pager.lock);
    protection_look(&rig.segments[0], page, 1);
    lock_release(&rig.pager.lock);
    sync_restore_signals(mask);
    return page_has(rig_entry(page), flags);
}

// ---- golden scenarios ----

static void make_undefined(uint64_t page)
{
    static const enum page_state to[] = {PAGE_KILLING, PAGE_RESIDENT, PAGE_DISCARDING,
                                         PAGE_UNDEFINED};
    lock_acquire(&rig.pager.lock);
    for (int i = 0; i < 4; i++) {
        page_move(&rig.segments[0].table, page, to[i]);
    }
    lock_release(&rig.pager.lock);
}

static void make(uint64_t page, char state)
{
    switch (state) {
    case 'O':
        break;
    case 'U':
        make_undefined(page);
        break;
    case 'C':
        assert_int_equal(rig_swap_in(page, 1, 0), 0);
        break;
    case 'D':
        assert_int_equal(rig_swap_in(page, 1, 0), 0);
        rig_store(page, page + 1001);
        break;
    case 'P':
        assert_int_equal(rig_swap_in(page, 1, DSM_PIN | DSM_WRITE), 0);
        break;
    case 'R':
        lock_acquire(&rig.pager.lock);
        page_set(&rig.segments[0].table, rig_entry(page), PAGE_READ_ONLY, 0);
        lock_release(&rig.pager.lock);
        break;
    default:
        fail_msg("no state %c", state);
    }
}

void rig_pages(const char *states)
{
    for (uint64_t i = 0; states[i] != 0; i++) {
        make(i, states[i]);
    }
    rig_reset();
}

void rig_frames(const char *states)
{
    for (uint64_t i = 0; states[i] != 0; i++) {
        make(FRAMES_FROM + i, states[i]);
    }
    for (uint64_t i = 0; states[i] != 0; i++) {
        rig_age(FRAMES_FROM + i, 1);
    }
    rig_reset();
}

void rig_reset(void)
{
#define DSM_COUNTER(name, ...) STAT_SET(&rig.before, name, GET(name));
#include <dsm/counters.def>
#undef DSM_COUNTER
    (void)pthread_mutex_lock(&rig.mutex);
    rig.io_count = 0;
    (void)pthread_mutex_unlock(&rig.mutex);
}

void rig_expect(struct rig_counts expected)
{
    static const char *const names[] = {
#define DSM_COUNTER(name, ...) #name,
#include <dsm/counters.def>
#undef DSM_COUNTER
    };
    const uint64_t now[] = {
#define DSM_COUNTER(name, ...) GET(name) - STAT_GET(&rig.before, name),
#include <dsm/counters.def>
#undef DSM_COUNTER
    };
    for (unsigned i = 0; i < 17; i++) {
        uint64_t wanted = i < 9 ? expected.swap_in[i] : expected.clean[i - 9];
        if (now[i] != wanted) {
            fail_msg("%s: %" PRIu64 ", not %" PRIu64, names[i], now[i], wanted);
        }
    }
}
