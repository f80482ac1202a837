// SPDX-License-Identifier: Apache-2.0
//
// dsm_alloc() and dsm_free() with a server of this program's own, of 256 MiB, and a cache of 4 MiB: what is given out
// does not overlap and keeps what was written, what is given back is used again, mistakes are told apart, and all of the
// server's room can be had, again and again.
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <dsm/dsm.h>

#define MIB ((size_t)1 << 20)
enum { PAGE = 4096, ARENA_PAGES = (64 << 20) / PAGE };

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

// cmocka has handlers of its own for each test, so a session must not live longer than one.
static dsm *begin(void)
{
    dsm *session;
    assert_int_equal(dsm_open(NULL, &session), 0);
    return session;
}

static void stamp(void *at, size_t bytes, uint64_t with)
{
    uint64_t *words = at;
    for (size_t i = 0; i < bytes / sizeof *words; i += PAGE / sizeof *words) {
        words[i] = with + i;
    }
    words[bytes / sizeof *words - 1] = ~with;
}

static int stamped(const void *at, size_t bytes, uint64_t with)
{
    const uint64_t *words = at;
    int good = words[bytes / sizeof *words - 1] == ~with;
    for (size_t i = 0; i + 1 < bytes / sizeof *words; i += PAGE / sizeof *words) {
        good = good && words[i] == with + i;
    }
    return good;
}

static void test_apart(void **state)
{
    enum { COUNT = 200 };
    uint64_t *at[COUNT];
    (void)state;
    dsm *session = begin();
    for (unsigned i = 0; i < COUNT; i++) {
        at[i] = dsm_alloc((i % 7 + 1) * PAGE);
        assert_non_null(at[i]);
        assert_int_equal((uintptr_t)at[i] % page_bytes(), 0);
        stamp(at[i], (i % 7 + 1) * PAGE, i);
    }
    for (unsigned i = 0; i < COUNT; i += 2) {
        assert_int_equal(dsm_free(at[i]), 0);
        at[i] = dsm_alloc((i % 5 + 1) * PAGE); // into the holes, or behind
        assert_non_null(at[i]);
        stamp(at[i], (i % 5 + 1) * PAGE, 1000 + i);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        assert_true(i % 2 == 0 ? stamped(at[i], (i % 5 + 1) * PAGE, 1000 + i)
                               : stamped(at[i], (i % 7 + 1) * PAGE, i));
        assert_int_equal(dsm_free(at[i]), 0);
    }
    assert_int_equal(dsm_close(session), 0);
}

// Pieces given back in any order make the whole again.
static void test_joined(void **state)
{
    enum { PIECES = 64 };
    char *at[PIECES];
    (void)state;
    dsm *session = begin();
    for (int i = 0; i < PIECES; i++) {
        at[i] = dsm_alloc(MIB);
        assert_non_null(at[i]);
    }
    char *first = at[0];
    for (int i = 1; i < PIECES; i++) { // they fill one arena
        assert_ptr_equal(at[i], first + (size_t)i * MIB);
    }
    for (int i = 0; i < PIECES; i++) {
        int j = i * 37 % PIECES;
        assert_int_equal(dsm_free(at[j]), 0);
    }
    char *half = dsm_alloc(32 * MIB);
    char *other = dsm_alloc(32 * MIB);
    assert_ptr_equal(half, first);
    assert_ptr_equal(other, first + 32 * MIB);
    assert_int_equal(dsm_free(half), 0);
    assert_int_equal(dsm_free(other), 0);
    assert_int_equal(dsm_close(session), 0);
}

static void test_mistakes(void **state)
{
    (void)state;
    dsm *session = begin();
    int here;
    char *at = dsm_alloc(3 * PAGE);
    char *large = dsm_alloc(40 * MIB);
    assert_non_null(at);
    assert_non_null(large);
    assert_int_equal(dsm_free(NULL), 0);
    assert_int_equal(dsm_free(&here), -EINVAL);
    assert_int_equal(dsm_free(at + PAGE), -EINVAL);     // within
    assert_int_equal(dsm_free(at + 2 * PAGE), -EINVAL); // its last page
    assert_int_equal(dsm_free(at + 8), -EINVAL);
    assert_int_equal(dsm_free(large + PAGE), -EINVAL);
    assert_string_not_equal(dsm_error()->text, "");
    assert_int_equal(dsm_free(at), 0);
    assert_int_equal(dsm_free(at), -EINVAL);
    assert_int_equal(dsm_free(large), 0);
    assert_int_equal(dsm_free(large), -EINVAL);
    void *none = dsm_alloc(0);
    void *none_too = dsm_alloc(0);
    assert_non_null(none);
    assert_ptr_not_equal(none, none_too);
    assert_int_equal(dsm_free(none), 0);
    assert_int_equal(dsm_free(none_too), 0);
    assert_int_equal(dsm_close(session), 0);
}

static void test_full(void **state)
{
    (void)state;
    dsm *session = begin();
    for (int i = 0; i < 10; i++) { // a large one is gone from the server when it is free
        char *large = dsm_alloc(150 * MIB);
        assert_non_null(large);
        large[0] = large[150 * MIB - 1] = (char)i;
        assert_int_equal(dsm_free(large), 0);
    }
    errno = 0;
    assert_null(dsm_alloc(1024 * MIB));
    assert_int_equal(errno, ENOMEM);
    assert_null(dsm_alloc(SIZE_MAX));
    char *most = dsm_alloc(160 * MIB); // an arena is kept already
    assert_non_null(most);
    char *small[300];
    int count = 0;
    while (count < 300 && (small[count] = dsm_alloc(MIB)) != NULL) {
        stamp(small[count], MIB, (uint64_t)count);
        count++;
    }
    assert_int_equal(errno, ENOMEM);
    // 256 MiB less 160, by single segments where no arena has room. The store has some of the room for itself.
    assert_in_range(count, 85, 96);
    for (int i = 0; i < count; i++) {
        assert_true(stamped(small[i], MIB, (uint64_t)i));
        assert_int_equal(dsm_free(small[i]), 0);
    }
    assert_int_equal(dsm_free(most), 0);
    assert_int_equal(dsm_close(session), 0);
}

static void *alloc_and_free(void *argument)
{
    enum { HELD = 16, TURNS = 400 };
    struct {
        void *at;
        size_t bytes;
        uint64_t stamp;
    } held[HELD] = {{0}};
    uint64_t seed = (uintptr_t)argument;
    uint64_t random = seed * 0x9e3779b97f4a7c15ULL + 1;
    for (unsigned turn = 0; turn < TURNS + HELD; turn++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        unsigned i = turn < TURNS ? (unsigned)(random >> 33) % HELD : turn - TURNS;
        if (held[i].at != NULL) {
            if (!stamped(held[i].at, held[i].bytes, held[i].stamp) || dsm_free(held[i].at) != 0) {
                return "another's words, or not to be freed";
            }
            held[i].at = NULL;
        }
        if (turn < TURNS) {
            held[i].bytes = ((random >> 40) % 60 + 1) * PAGE;
            held[i].stamp = seed << 32 | turn;
            held[i].at = dsm_alloc(held[i].bytes);
            if (held[i].at == NULL) {
                return "no memory";
            }
            stamp(held[i].at, held[i].bytes, held[i].stamp);
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    (void)state;
    dsm *session = begin();
    for (uintptr_t i = 0; i < THREADS; i++) {
        // NOLINTNEXTLINE(performance-no-int-to-ptr): a number for the thread
        assert_int_equal(pthread_create(&threads[i], NULL, alloc_and_free, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        if (wrong != NULL) {
            fail_msg("%s: %s", (const char *)wrong, dsm_error()->text);
        }
    }
    assert_int_equal(dsm_close(session), 0);
}

// The last one, since nobody can close what dsm_alloc() opened.
static void test_sessions(void **state)
{
    (void)state;
    dsm *session;
    char *at = dsm_alloc(PAGE); // opens one
    assert_non_null(at);
    assert_int_equal(dsm_open(NULL, &session), -EALREADY);
    pid_t child = fork();
    if (child == 0) {
        errno = 0;
        _exit(dsm_alloc(PAGE) == NULL && errno == ECHILD && dsm_free(at) == -ECHILD ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    at[0] = 1;
    assert_int_equal(dsm_free(at), 0);
}

// What is not freed goes with the session.
static void test_closed(void **state)
{
    (void)state;
    dsm *session;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dsm_free(&session), -EINVAL); // no session at all
        assert_int_equal(dsm_open(NULL, &session), 0);
        char *at = dsm_alloc(200 * MIB);
        assert_non_null(at);
        at[0] = 1;
        assert_non_null(dsm_alloc(PAGE));
        assert_int_equal(dsm_close(session), 0);
    }
}

static int open_none(void **state)
{
    (void)state;
    (void)setenv("DSM_EMBEDDED_SIZE", "256M", 1);
    (void)setenv("DSM_CACHE", "4M", 1);
    (void)setenv("DSM_CONFIG", "", 1);
    (void)unsetenv("DSM_SERVER");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed),   cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_joined),   cmocka_unit_test(test_apart),
        cmocka_unit_test(test_full),     cmocka_unit_test(test_threads),
        cmocka_unit_test(test_sessions),
    };
    return cmocka_run_group_tests(tests, open_none, NULL);
}
