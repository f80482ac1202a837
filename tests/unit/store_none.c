// SPDX-License-Identifier: Apache-2.0
//
// Pages without backing in the store: what they give back and take again, who is refused, what a restart finds, and a crash
// between any two steps. In the crash test a child goes through a fixed list of changes with a failpoint armed and
// notes in shared memory how far it came; the parent finds each page as it was before or after the change under way, tries
// all changes again, as clients do, and finds the end of the list.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/store/failpoint.h"
#include "tests/unit/store_rig.h"

enum { PAGE = 4096, MIB = 1 << 20, PAGES = 600 }; // more than two runs
enum { NO_BACKING = 0x7fffffff };

static void give_up(struct rig *rig, struct store_segment *segment, uint64_t page, uint32_t count,
                    uint64_t version)
{
    uint32_t done = 0;
    assert_int_equal(store_give_up(rig->store, segment, page, count, version, &done), 0);
    assert_int_equal(done, count);
}

static int allocate(struct rig *rig, struct store_segment *segment, uint64_t page, uint32_t count,
                    uint64_t version)
{
    uint32_t done = 0;
    int error = store_allocate(rig->store, segment, page, count, version, &done);
    assert_int_equal(done, error == 0 ? count : 0);
    return error;
}

// The version of a page's data, 0: zeros, NO_BACKING.
static uint64_t look(struct rig *rig, struct store_segment *segment, uint64_t page)
{
    return store_segment_none_among(segment, page, 1) != 0 ? NO_BACKING
                                                           : rig_read(rig, segment, page);
}

static void test_promise_comes_back(void **state)
{
    struct rig *rig = *state; // of 4 MiB
    struct store_segment *segment = rig_segment(rig, "a", 3 * MIB, PAGE, false);
    assert_int_equal(rig_write(rig, segment, 0, 200, 1), 0);
    uint64_t stored = rig_facts(rig).stored_bytes;
    give_up(rig, segment, 0, 512, 2);
    assert_int_equal(rig_facts(rig).reserved_bytes, 1 * MIB);
    assert_int_equal(stored - rig_facts(rig).stored_bytes, 200 * PAGE);
    assert_int_equal(store_segment_none_bytes(segment), 2 * MIB);
    give_up(rig, segment, 100, 512, 3); // some have none already
    assert_int_equal(store_segment_none_pages(segment), 612);
    assert_int_equal(allocate(rig, segment, 512, 100, 4), 0);
    // Another takes what came back: then there is none for all, and nobody gets a part.
    struct store_segment *b = rig_segment(rig, "b", 2 * MIB + MIB / 2, PAGE, false);
    assert_int_equal(allocate(rig, segment, 0, 512, 5), -ENOSPC);
    assert_int_equal(store_segment_none_pages(segment), 512);
    assert_int_equal(allocate(rig, segment, 0, 128, 6), 0);
    assert_int_equal(allocate(rig, segment, 128, 1, 7), -ENOSPC);
    assert_int_equal(store_segment_remove(rig->store, b), 0);
    assert_int_equal(allocate(rig, segment, 0, 768, 8), 0);
    assert_int_equal(rig_facts(rig).reserved_bytes, 3 * MIB);
    assert_int_equal(rig_read(rig, segment, 0), 0);
}

static void test_refused_and_fenced_by_version(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    uint32_t done = 0;
    assert_int_equal(rig_write(rig, segment, 0, 8, 5), 0);
    give_up(rig, segment, 0, 8, 4); // came late: the pages are newer
    assert_int_equal(rig_read(rig, segment, 3), 5);
    give_up(rig, segment, 2, 2, 6);
    assert_int_equal(store_segment_highest(segment), 6);
    assert_int_equal(rig_write(rig, segment, 0, 4, 5), 0); // so did this
    assert_int_equal(look(rig, segment, 2), NO_BACKING);
    assert_int_equal(rig_write(rig, segment, 0, 4, 7), -EFAULT);
    assert_int_equal(rig_read(rig, segment, 1), 7); // before the one that failed
    struct iovec pieces[LIMIT_RUN_PAGES];
    uint8_t map[WIRE_MAP_BYTES];
    store_read_begin(rig->store);
    assert_int_equal(store_read(rig->store, segment, 0, 4, map, pieces, &done), -EFAULT);
    store_read_end(rig->store);
    assert_int_equal(done, 2);
    assert_int_equal(allocate(rig, segment, 0, 8, 8), 0);
    assert_int_equal(rig_read(rig, segment, 1), 7); // has backing: passed over
    assert_int_equal(rig_read(rig, segment, 2), 0);
    give_up(rig, segment, 2, 2, 6); // once more, late
    assert_int_equal(rig_write(rig, segment, 2, 1, 9), 0);
    assert_int_equal(allocate(rig, segment, 2, 1, 8), 0);
    assert_int_equal(rig_read(rig, segment, 2), 9);
    assert_int_equal(store_give_up(rig->store, segment, 250, 7, 10, &done), -EINVAL);
    assert_int_equal(store_give_up(rig->store, segment, 0, 0, 10, &done), -EINVAL);
    assert_int_equal(store_allocate(rig->store, segment, 0, 1, 0, &done), -EINVAL);
}

static void test_found_again(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", PAGES * PAGE, PAGE, false);
    struct store_segment *thin = rig_segment(rig, "t", PAGES * PAGE, PAGE, true);
    assert_int_equal(rig_write(rig, thin, 0, 4, 1), 0);
    give_up(rig, thin, 2, 10, 2);
    give_up(rig, segment, 1, 1, 1);
    give_up(rig, segment, 250, 300, 2);
    uint64_t reserved = rig_facts(rig).reserved_bytes;
    rig_reopen(rig);
    assert_int_equal(rig_facts(rig).reserved_bytes, reserved);
    segment = rig_find(rig, "a");
    thin = rig_find(rig, "t");
    assert_int_equal(store_segment_none_pages(segment), 301);
    assert_int_equal(store_segment_none_bytes(thin), 0);
    uint64_t page = 0;
    uint64_t count = 0;
    assert_true(store_segment_next_none(segment, 0, &page, &count));
    assert_true(page == 1 && count == 1);
    assert_true(store_segment_next_none(segment, 2, &page, &count));
    assert_true(page == 250 && count == 300);
    assert_false(store_segment_next_none(segment, 550, &page, &count));
    assert_true(store_segment_next_none(thin, 0, &page, &count));
    assert_true(page == 2 && count == 10);
    assert_int_equal(allocate(rig, thin, 0, 12, 3), 0);
    assert_int_equal(rig_read(rig, thin, 1), 1);
}

// ---- killed in between ----

enum change_kind { WRITE, GIVE_UP, ALLOCATE };
static const struct {
    enum change_kind kind;
    uint32_t count;
    uint64_t page;
} changes[] = {
    {WRITE, 250, 0},     {GIVE_UP, 400, 100}, {ALLOCATE, 300, 150}, {WRITE, 10, 200},
    {GIVE_UP, PAGES, 0}, {ALLOCATE, 256, 0},  {WRITE, 2, 5},
};
enum { CHANGES = sizeof changes / sizeof changes[0] };

static int make_change(struct rig *rig, struct store_segment *segment, unsigned i)
{
    uint32_t done = 0;
    switch (changes[i].kind) {
    case WRITE:
        return rig_write(rig, segment, changes[i].page, changes[i].count, i + 1);
    case GIVE_UP:
        return store_give_up(rig->store, segment, changes[i].page, changes[i].count, i + 1, &done);
    default:
        return store_allocate(rig->store, segment, changes[i].page, changes[i].count, i + 1, &done);
    }
}

// What a page is after the first `made` changes.
static uint64_t model(uint64_t page, unsigned made)
{
    uint64_t is = 0;
    for (unsigned i = 0; i < made; i++) {
        if (page < changes[i].page || page - changes[i].page >= changes[i].count) {
            continue;
        }
        bool none = is == NO_BACKING;
        is = changes[i].kind == WRITE     ? i + 1
             : changes[i].kind == GIVE_UP ? NO_BACKING
             : none                       ? 0
                                          : is;
    }
    return is;
}

static void child(struct rig *rig, const char *point, unsigned *made)
{
    struct failure failure = {""};
    (void)setenv("DSM_FAILPOINT", point, 1);
    if (store_open(&rig->options, &rig->store, &failure) != 0 ||
        store_thread_register(rig->store) != 0) {
        _exit(3);
    }
    struct store_segment *segment = rig_find(rig, "a");
    for (unsigned i = 0; i < CHANGES; i++) {
        if (make_change(rig, segment, i) != 0) {
            _exit(4);
        }
        *made = i + 1;
    }
    _exit(0);
}

static bool killed(struct rig *rig, const char *point, unsigned *made)
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        child(rig, point, made);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        return true;
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return false;
}

static void audit(struct rig *rig, unsigned made)
{
    struct failure failure = {""};
    struct store_segment *segment = rig_find(rig, "a");
    if (store_check(rig->store, &failure) != 0) {
        fail_msg("%s", failure.text);
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t is = look(rig, segment, page);
        if (is != model(page, made) && (made == CHANGES || is != model(page, made + 1))) {
            fail_msg("page %lu is %lu after %u changes", (unsigned long)page, (unsigned long)is,
                     made);
        }
    }
}

static bool crash(const char *point, unsigned pass)
{
    struct rig rig;
    char text[64];
    unsigned *made =
        mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(made != MAP_FAILED);
    rig_make(&rig, rig_medium, 4 * MIB);
    rig_open(&rig);
    (void)rig_segment(&rig, "a", PAGES * PAGE, PAGE, false);
    assert_int_equal(store_close(&rig.store), 0);
    (void)snprintf(text, sizeof text, "%s:kill:%u", point, pass);
    bool was_killed = killed(&rig, text, made);
    rig_open(&rig);
    audit(&rig, *made);
    for (unsigned i = *made; i < CHANGES; i++) {
        assert_int_equal(make_change(&rig, rig_find(&rig, "a"), i), 0);
    }
    audit(&rig, CHANGES);
    assert_int_equal(rig_facts(&rig).reserved_bytes, 256 * PAGE);
    rig_end(&rig);
    (void)munmap(made, sizeof *made);
    return was_killed;
}

static void test_killed_in_between(void **state)
{
    (void)state;
    static const char *const points[] = {"write.begin", "write.entry", "write.version",
                                         "write.highest", "write.free"};
    static const unsigned runs[] = {2, 3, 4, 5, 7, 8, 9};
    static const unsigned entries[] = {251, 400, 651, 800, 970, 1400, 1600};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        bool each_page = i == 1 || i == 2;
        for (size_t k = 0; k < sizeof runs / sizeof runs[0]; k++) {
            if (rig_medium == RIG_TMPFS || k % 3 == 0) { // a disk is slow
                assert_true(crash(points[i], each_page ? entries[k] : runs[k]));
            }
        }
    }
    if (rig_medium != RIG_TMPFS) {
        assert_true(crash("write.commit", 3));
    }
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_promise_comes_back),
        STORE_TEST(test_refused_and_fenced_by_version),
        STORE_TEST(test_found_again),
        cmocka_unit_test(test_killed_in_between),
    };
    return rig_run_on_media(tests, sizeof tests / sizeof tests[0]);
}
