// SPDX-License-Identifier: Apache-2.0
//
// Killed between any two steps. A child runs a seeded random script of creates, writes, discards,
// updates and removes on a store, with one failpoint armed to kill it at its n-th pass; what it
// attempts and what was acknowledged it notes in memory that it shares with the parent. The parent
// opens the store and compares: each page holds what was acknowledged last or what was attempted
// after it, whole; each segment whose create was acknowledged is there and none whose remove was;
// the audit passes. Then it does what a client would do, tries the interrupted operation again,
// sees it done, and the next child goes on with the same store.
//
// Each point must have killed at its first pass on a medium where it is passed at all, so no line
// of this test is vacuous. The child uses no cmocka: it ends with a code that names the line.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/store/failpoint.h"
#include "tests/unit/store_rig.h"

enum { SEGMENTS = 4, PAGES = 64, RUN = 16, STEPS = 150, MIB = 1 << 20 };
enum presence { GONE, CREATING, THERE, REMOVING };

struct page_note {
    uint64_t acknowledged, attempted; // versions; equal when nothing is under way
    bool acknowledged_zeros, attempted_zeros;
};

struct segment_note {
    enum presence presence;
    uint64_t id;
    uint64_t epoch, attempted_epoch;
    struct page_note pages[PAGES];
};

struct notes { // shared by parent and child
    uint64_t version, seed, highest_id;
    struct segment_note segments[SEGMENTS];
};

struct script {
    struct rig *rig;
    struct notes *notes;
    struct store_segment *segments[SEGMENTS];
    _Atomic bool overwritten;
};

#define CHILD_MUST(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            _exit(3);                                                                              \
        }                                                                                          \
    } while (0)

static uint32_t page_bytes_of(unsigned which)
{
    return which % 2 == 0 ? 4096 : 16384;
}

static struct store_segment_record record_of(unsigned which)
{
    const char *names[SEGMENTS] = {"s0", "s1", "s2", "s3"};
    return rig_record(names[which], (uint64_t)PAGES * page_bytes_of(which), page_bytes_of(which),
                      which >= 2);
}

static void step_create(struct script *script, unsigned which)
{
    struct segment_note *note = &script->notes->segments[which];
    struct store_segment_record record = record_of(which);
    memset(note, 0, sizeof *note);
    note->epoch = note->attempted_epoch = 1;
    note->presence = CREATING;
    CHILD_MUST(store_segment_create(script->rig->store, &record, &script->segments[which]) == 0);
    note->id = store_segment_record(script->segments[which])->id;
    CHILD_MUST(note->id > script->notes->highest_id);
    script->notes->highest_id = note->id;
    note->presence = THERE;
}

static void step_remove(struct script *script, unsigned which)
{
    struct segment_note *note = &script->notes->segments[which];
    note->presence = REMOVING;
    CHILD_MUST(store_segment_remove(script->rig->store, script->segments[which]) == 0);
    script->segments[which] = NULL;
    note->presence = GONE;
}

static void step_update(struct script *script, unsigned which)
{
    struct segment_note *note = &script->notes->segments[which];
    struct store_segment_record record = *store_segment_record(script->segments[which]);
    record.epoch = ++note->attempted_epoch;
    CHILD_MUST(store_segment_update(script->rig->store, script->segments[which], &record) == 0);
    note->epoch = note->attempted_epoch;
}

// The pages of an attempt: zeros where a bit of `zeros` is set.
static void attempt(struct segment_note *note, uint64_t page, uint32_t count, uint64_t version,
                    uint64_t zeros)
{
    for (uint32_t i = 0; i < count; i++) {
        note->pages[page + i].attempted_zeros = (zeros >> (i % 64) & 1) != 0;
        note->pages[page + i].attempted = version;
    }
}

static void acknowledge(struct segment_note *note, uint64_t page, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        note->pages[page + i].acknowledged_zeros = note->pages[page + i].attempted_zeros;
        note->pages[page + i].acknowledged = note->pages[page + i].attempted;
    }
}

static int write_run(struct script *script, unsigned which, uint64_t page, uint32_t count,
                     uint64_t version, uint64_t zeros)
{
    static uint8_t data[RUN * 16384];
    struct store_segment *segment = script->segments[which];
    uint32_t page_bytes = page_bytes_of(which);
    uint8_t map[WIRE_MAP_BYTES] = {0};
    uint8_t *to = data;
    uint32_t done = 0;
    for (uint32_t i = 0; i < count; i++) {
        if ((zeros >> (i % 64) & 1) == 0) {
            wire_map_set(map, i);
            rig_fill(to, page_bytes, script->notes->segments[which].id, page + i, version);
            to += page_bytes;
        }
    }
    return store_write(script->rig->store, segment, page, count, version, map, data, &done);
}

static void step_write(struct script *script, unsigned which, uint64_t random)
{
    struct segment_note *note = &script->notes->segments[which];
    uint32_t count = 1 + (uint32_t)(random & 0xff) % RUN;
    uint64_t page = (random >> 8 & 0xff) % (PAGES - count + 1);
    uint64_t zeros = random >> 16 & random >> 32; // a quarter
    uint64_t version = ++script->notes->version;
    attempt(note, page, count, version, zeros);
    CHILD_MUST(write_run(script, which, page, count, version, zeros) == 0);
    acknowledge(note, page, count);
}

static void step_discard(struct script *script, unsigned which, uint64_t random)
{
    struct segment_note *note = &script->notes->segments[which];
    uint32_t count = 1 + (uint32_t)(random & 0xff) % PAGES;
    uint64_t page = (random >> 8 & 0xff) % (PAGES - count + 1);
    uint64_t version = ++script->notes->version;
    attempt(note, page, count, version, UINT64_MAX);
    CHILD_MUST(store_discard(script->rig->store, script->segments[which], page, count, version) ==
               0);
    acknowledge(note, page, count);
}

static void run_script(struct script *script)
{
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t random = rig_random(&script->notes->seed);
        unsigned which = (unsigned)random % SEGMENTS;
        unsigned what = (unsigned)(random >> 8) % 100;
        random >>= 16;
        if (script->notes->segments[which].presence == GONE) {
            step_create(script, which);
        } else if (what < 65) {
            step_write(script, which, random);
        } else if (what < 80) {
            step_discard(script, which, random);
        } else if (what < 93) {
            step_update(script, which);
        } else {
            step_remove(script, which);
        }
    }
}

static void child_open(struct script *script, const char *point)
{
    struct failure failure = {""};
    (void)setenv("DSM_FAILPOINT", point, 1);
    CHILD_MUST(store_open(&script->rig->options, &script->rig->store, &failure) == 0);
    CHILD_MUST(store_thread_register(script->rig->store) == 0);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        script->segments[i] = rig_find(script->rig, record_of(i).name);
    }
}

static void child_script(struct script *script, const char *point)
{
    child_open(script, point);
    run_script(script);
    CHILD_MUST(store_close(&script->rig->store) == 0);
}

// In the parent: what a page holds against what was noted. Then the interrupted attempt once more,
// as a client would.
static void verify_page(struct script *script, unsigned which, uint64_t number)
{
    struct store_segment *segment = script->segments[which];
    struct page_note *page = &script->notes->segments[which].pages[number];
    bool under_way = page->attempted != page->acknowledged;
    bool may_be_zeros =
        page->acknowledged == 0 || page->acknowledged_zeros || (under_way && page->attempted_zeros);
    uint64_t found = rig_read(script->rig, segment, number);
    if (found == 0) {
        assert_true(may_be_zeros);
    } else if (found == page->attempted) {
        assert_false(page->attempted_zeros);
    } else {
        assert_int_equal(found, page->acknowledged);
        assert_false(page->acknowledged_zeros);
    }
    if (under_way) {
        assert_int_equal(
            write_run(script, which, number, 1, page->attempted, page->attempted_zeros ? 1 : 0), 0);
        assert_int_equal(rig_read(script->rig, segment, number),
                         page->attempted_zeros ? 0 : page->attempted);
        page->acknowledged = page->attempted;
        page->acknowledged_zeros = page->attempted_zeros;
    }
    // An older write never gets through.
    if (page->acknowledged > 1) {
        assert_int_equal(write_run(script, which, number, 1, page->acknowledged - 1, 0), 0);
        assert_int_equal(rig_read(script->rig, segment, number),
                         page->acknowledged_zeros ? 0 : page->acknowledged);
    }
}

static void verify_segment(struct script *script, unsigned which)
{
    struct segment_note *note = &script->notes->segments[which];
    struct store_segment *segment = rig_find(script->rig, record_of(which).name);
    if (note->presence == CREATING || note->presence == REMOVING) {
        note->presence = segment == NULL ? GONE : THERE;
    }
    assert_int_equal(segment != NULL, note->presence == THERE);
    script->segments[which] = segment;
    if (segment == NULL) {
        return;
    }
    if (note->id == 0) { // the create was not acknowledged
        note->id = store_segment_record(segment)->id;
        assert_true(note->id > script->notes->highest_id);
        script->notes->highest_id = note->id;
    }
    assert_int_equal(store_segment_record(segment)->id, note->id);
    uint64_t epoch = store_segment_record(segment)->epoch;
    assert_true(epoch == note->epoch || epoch == note->attempted_epoch);
    note->epoch = note->attempted_epoch = epoch;
    uint64_t acknowledged = 0;
    uint64_t attempted = 0;
    for (uint64_t i = 0; i < PAGES; i++) {
        const struct page_note *page = &note->pages[i];
        acknowledged = page->acknowledged > acknowledged ? page->acknowledged : acknowledged;
        attempted = page->attempted > attempted ? page->attempted : attempted;
    }
    assert_in_range(store_segment_highest(segment), acknowledged, attempted);
    uint64_t stored = 0;
    for (uint64_t i = 0; i < PAGES; i++) {
        verify_page(script, which, i);
        stored += note->pages[i].acknowledged != 0 && !note->pages[i].acknowledged_zeros
                      ? page_bytes_of(which)
                      : 0;
    }
    assert_int_equal(store_segment_stored_bytes(segment), stored);
}

static void verify_store(struct script *script)
{
    struct failure failure = {""};
    struct store_segment *segment = NULL;
    unsigned found = 0;
    unsigned expected = 0;
    rig_open(script->rig);
    if (store_check(script->rig->store, &failure) != 0) {
        fail_msg("store_check after the crash: %s", failure.text);
    }
    for (unsigned i = 0; i < SEGMENTS; i++) {
        verify_segment(script, i);
        expected += script->notes->segments[i].presence == THERE ? 1 : 0;
    }
    while ((segment = store_segment_next(script->rig->store, segment)) != NULL) {
        found++;
    }
    assert_int_equal(found, expected);
    if (store_check(script->rig->store, &failure) != 0) {
        fail_msg("store_check after going on: %s", failure.text);
    }
    assert_int_equal(store_close(&script->rig->store), 0);
}

// true: the child was killed at the point; false: it ended well.
static bool run_child(struct script *script, const char *point,
                      void (*body)(struct script *, const char *))
{
    pid_t child = fork();
    int status = 0;
    assert_true(child >= 0);
    if (child == 0) {
        body(script, point);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        fail_msg("%s: the child ended with status %#x", point, (unsigned)status);
    }
    return killed;
}

static void *overwrite(void *context)
{
    struct script *script = context;
    for (unsigned i = 0; i < 70; i++) {
        step_write(script, 1, 15 | (uint64_t)i << 8);
        for (unsigned run = 0; run < 6; run++) {
            step_write(script, 1, 15 | (uint64_t)run * 8 << 8);
        }
    }
    atomic_store(&script->overwritten, true);
    return NULL;
}

// Slots of one page size fill the headroom while a reader holds them; another page size then needs
// their blocks.
static void child_punch(struct script *script, const char *point)
{
    pthread_t thread;
    struct store_facts facts = {.headroom_waits = 0};
    child_open(script, point);
    for (unsigned i = 0; i < 2; i++) {
        if (script->segments[i] == NULL) {
            step_create(script, i);
        }
    }
    store_read_begin(script->rig->store);
    CHILD_MUST(pthread_create(&thread, NULL, overwrite, script) == 0);
    while (facts.headroom_waits == 0) {
        CHILD_MUST(!atomic_load(&script->overwritten));
        (void)usleep(1000);
        store_facts(script->rig->store, &facts);
    }
    store_read_end(script->rig->store);
    CHILD_MUST(pthread_join(thread, NULL) == 0);
    step_discard(script, 1, PAGES - 1);
    for (unsigned i = 0; i < 8; i++) {
        step_write(script, 0, 15 | (uint64_t)i * 7 << 8);
    }
    CHILD_MUST(store_close(&script->rig->store) == 0);
}

static bool passed_here(enum failpoint_id point)
{
    return point != FAILPOINT_WRITE_COMMIT || rig_medium != RIG_TMPFS;
}

static void crash_at(enum failpoint_id point, struct notes *notes)
{
    struct rig rig;
    struct script script = {.rig = &rig, .notes = notes};
    const unsigned counts[] = {1, 2, 3, 7, 40, 300};
    const unsigned rounds = rig_medium == RIG_POWER ? 2 : sizeof counts / sizeof counts[0];
    bool punch = point == FAILPOINT_SLOT_PUNCH;
    rig_make(&rig, rig_medium, 2 * PAGES * (4096 + 16384) + MIB / 2);
    memset(notes, 0, sizeof *notes);
    notes->seed = (uint64_t)point * 1000 + (uint64_t)rig_medium;
    for (unsigned i = 0; i < (punch ? 1 : rounds); i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s:kill:%u", failpoint_name(point), counts[i]);
        bool killed = run_child(&script, text, punch ? child_punch : child_script);
        if (counts[i] == 1 && killed != passed_here(point)) {
            fail_msg("%s: %s", text, killed ? "killed where it is not passed" : "never passed");
        }
        verify_store(&script);
    }
    rig_end(&rig);
}

static void test_killed_at_every_point(void **state)
{
    (void)state;
    struct notes *notes =
        mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(notes != MAP_FAILED);
    for (enum failpoint_id point = FAILPOINT_NONE + 1; point < FAILPOINT_COUNT; point++) {
        if (point < FAILPOINT_CLONE_COPIED ||
            point > FAILPOINT_IMAGE_RENAME) { // tried by store_clone, catalog_images_killed
            crash_at(point, notes);
        }
    }
    (void)munmap(notes, sizeof *notes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_killed_at_every_point)};
    return rig_run_on_media(tests, sizeof tests / sizeof tests[0]);
}
