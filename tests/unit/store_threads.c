// SPDX-License-Identifier: Apache-2.0
//
// Readers against writers: while a page is overwritten again and again, a reader sees one whole
// version of it, never an older one than it saw before, and what it found stays unchanged until it
// ends its section. Slots are handed out lowest first, so a slot that came back too early would be
// written to at once and be seen. Work is counted, not timed.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "tests/unit/store_rig.h"

enum { PAGE = 4096, PAGES = 64, RUN = 16, SEGMENTS = 2, READERS = 3, CHURNS = 20 };
struct match {
    struct rig *rig;
    struct store_segment *segments[SEGMENTS];
    uint64_t rounds;
    _Atomic uint64_t version;
    _Atomic int writers;
    _Atomic uint64_t faults; // pages that were not what they should be
    _Atomic uint64_t reads;
};

static void *write_pages(void *context)
{
    struct match *match = context;
    uint64_t seed = atomic_fetch_add(&match->version, 1);
    for (uint64_t i = 0; i < match->rounds; i++) {
        uint64_t random = rig_random(&seed);
        struct store_segment *segment = match->segments[random % SEGMENTS];
        uint32_t count = 1 + (uint32_t)(random >> 8) % RUN;
        uint64_t page = (random >> 16) % (PAGES - count + 1);
        // Two writers may overtake each other between version and write: the newer stays.
        uint64_t version = atomic_fetch_add(&match->version, 1);
        if (rig_write(match->rig, segment, page, count, version) != 0) {
            atomic_fetch_add(&match->faults, 1);
        }
    }
    atomic_fetch_sub(&match->writers, 1);
    return NULL;
}

static void read_run(struct match *match, unsigned which, uint64_t page, uint64_t *seen)
{
    struct store_segment *segment = match->segments[which];
    const uint64_t id = store_segment_record(segment)->id;
    struct iovec pieces[RUN];
    uint8_t map[WIRE_MAP_BYTES];
    uint64_t versions[RUN];
    uint32_t done = 0;
    unsigned found = 0;
    store_read_begin(match->rig->store);
    if (store_read(match->rig->store, segment, page, RUN, map, pieces, &done) != 0) {
        atomic_fetch_add(&match->faults, 1);
    }
    for (unsigned i = 0; i < done; i++) {
        uint64_t version = 0;
        if (wire_map_get(map, i)) {
            version = rig_verify(pieces[found].iov_base, PAGE, id, page + i);
            versions[found++] = version;
        }
        if (version == UINT64_MAX || version < seen[page + i]) {
            atomic_fetch_add(&match->faults, 1);
        }
        seen[page + i] = version;
    }
    (void)sched_yield();
    for (unsigned i = 0, piece = 0; i < done; i++) {
        if (wire_map_get(map, i)) {
            uint64_t again = rig_verify(pieces[piece].iov_base, PAGE, id, page + i);
            atomic_fetch_add(&match->faults, again == versions[piece] ? 0 : 1);
            piece++;
        }
    }
    store_read_end(match->rig->store);
    atomic_fetch_add(&match->reads, 1);
}

static void *read_pages(void *context)
{
    struct match *match = context;
    uint64_t seen[SEGMENTS][PAGES] = {{0}};
    uint64_t seed = 99;
    if (store_thread_register(match->rig->store) != 0) {
        atomic_fetch_add(&match->faults, 1);
        return NULL;
    }
    while (atomic_load(&match->writers) != 0) {
        uint64_t random = rig_random(&seed);
        unsigned which = (unsigned)random % SEGMENTS;
        read_run(match, which, (random >> 16) % (PAGES - RUN + 1), seen[which]);
    }
    return NULL;
}

// Segments come and go meanwhile: their slots go round too.
static void *churn_segments(void *context)
{
    struct match *match = context;
    for (unsigned i = 0; i < CHURNS; i++) {
        struct store_segment_record record = rig_record("churn", PAGES * PAGE, PAGE, i % 2 == 0);
        struct store_segment *segment = NULL;
        if (store_segment_create(match->rig->store, &record, &segment) != 0 ||
            rig_write(match->rig, segment, 0, PAGES, 1) != 0 ||
            store_discard(match->rig->store, segment, 3, 40, 2) != 0 ||
            store_segment_remove(match->rig->store, segment) != 0) {
            atomic_fetch_add(&match->faults, 1);
        }
    }
    atomic_fetch_sub(&match->writers, 1);
    return NULL;
}

static void test_readers_against_writers(void **state)
{
    (void)state;
    struct rig rig;
    struct match match = {.rig = &rig, .rounds = rig_medium == RIG_POWER ? 100 : 4000};
    pthread_t threads[READERS + 3];
    struct failure failure = {""};
    rig_make(&rig, rig_medium, 1 << 20);
    rig_open(&rig);
    match.segments[0] = rig_segment(&rig, "reserved", PAGES * PAGE, PAGE, false);
    match.segments[1] = rig_segment(&rig, "thin", PAGES * PAGE, PAGE, true);
    atomic_store(&match.version, 1);
    atomic_store(&match.writers, 3);
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_pages, &match), 0);
    }
    for (unsigned i = READERS; i < READERS + 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_pages, &match), 0);
    }
    assert_int_equal(pthread_create(&threads[READERS + 2], NULL, churn_segments, &match), 0);
    for (unsigned i = 0; i < READERS + 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&match.faults), 0);
    assert_true(atomic_load(&match.reads) > 0);
    if (store_check(rig.store, &failure) != 0) {
        fail_msg("store_check: %s", failure.text);
    }
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_readers_against_writers)};
    return rig_run_on_media(tests, sizeof tests / sizeof tests[0]);
}
