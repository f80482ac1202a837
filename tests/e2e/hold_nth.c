// SPDX-License-Identifier: Apache-2.0
//
// The n-th allocation of the library fails, n = 1, 2, ..., in a program that opens a session, makes a segment, touches, swaps in,
// cleans, closes and opens again (-Wl,--wrap: of the heap, and of the mappings that the pager makes). A call that meets it
// ends with an error in words, the same call works right after it, and in the end every page holds what was stored.
// A round leaves neither a descriptor nor mapped memory more than the rounds before; leaks are the leak checker's.
#include <dirent.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/e2e/hold_rig.h"

enum {
    CACHE = 2 * MIB,
    PAGES = 2 * CACHE / PAGE,
    SETTLED = 8,
    MOST = 1000,
    MORE_BYTES = 128 << 10,
    // Of a thread, with what guards it: no multiple of it is near the size of anything else that is mapped here.
    STACK_BYTES = (1 << 20) + (36 << 10),
    GUARDED_BYTES = STACK_BYTES + 4096,
    MORE_STACKS = 8
};

static _Atomic uint64_t allocations, failing; // the n-th from now on fails; 0: none
static uint64_t refusals;

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_reallocarray(void *old, size_t count, size_t bytes);
void *__real_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_reallocarray(void *old, size_t count, size_t bytes);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);

static bool fails(void)
{
    uint64_t n = atomic_load(&failing);
    return n != 0 && atomic_fetch_add(&allocations, 1) + 1 == n;
}

static bool has_failed(void)
{
    return atomic_load(&failing) != 0 && atomic_load(&allocations) >= atomic_load(&failing);
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_reallocarray(void *old, size_t count, size_t bytes)
{
    return fails() ? NULL : __real_reallocarray(old, count, bytes);
}

void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap64(at, bytes, protection, flags, fd, offset);
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

// True: it was refused, as it should be, and is to be tried again.
static bool refused(const char *what, int error)
{
    if (error == 0) {
        return false;
    }
    uint64_t n = atomic_load(&failing);
    CHECK(has_failed(), "%s ends with %d (%s) though nothing failed", what, error,
          dsm_error()->text);
    CHECK(dsm_error()->error == error && dsm_error()->text[0] != '\0', "%s: %d without a word",
          what, error);
    printf("%lu: %s: %d, %s\n", (unsigned long)n, what, error, dsm_error()->text);
    refusals++;
    atomic_store(&failing, 0);
    return true;
}

#define TWICE(call)                                                                                \
    do {                                                                                           \
        if (refused(#call, (call))) {                                                              \
            OK(call);                                                                              \
        }                                                                                          \
    } while (0)

static dsm *open_session(void)
{
    dsm *session = NULL;
    const dsm_options options = {.size = sizeof options, .cache_bytes = CACHE};
    TWICE(dsm_open(&options, &session));
    return session;
}

// A creation whose answer could not be taken may have been done.
static dsm_segment *make_segment(dsm *session)
{
    dsm_segment *segment = NULL;
    int error = dsm_segment_create(session, "nth", PAGES * PAGE, PAGE, 0, &segment);
    if (refused("dsm_segment_create", error)) {
        error = dsm_segment_create(session, "nth", PAGES * PAGE, PAGE, 0, &segment);
        if (error == -EEXIST || error == -EBUSY) {
            error = dsm_segment_open(session, "nth", 0, &segment);
        }
        RESULT(error, 0);
    }
    return segment;
}

static void work(dsm *session)
{
    dsm_segment *segment = make_segment(session);
    const dsm_interval some = {0, CACHE / PAGE / 2};
    hold_fill_all(segment, 1); // with victims, which are written
    TWICE(dsm_clean(segment, hold_all(segment), NULL));
    TWICE(dsm_swap_in(segment, some, DSM_KILL | DSM_WRITE, DSM_NO_PAGE));
    for (uint64_t page = 0; page < some.count; page++) {
        hold_fill(segment, page, 1);
    }
    TWICE(dsm_segment_close(segment));
    TWICE(dsm_segment_open(session, "nth", DSM_READ_ONLY, &segment));
    TWICE(dsm_swap_in(segment, some, 0, DSM_NO_PAGE));
    hold_check_all(segment, 1);
    TWICE(dsm_segment_close(segment));
    TWICE(dsm_segment_delete(session, "nth"));
}

static unsigned descriptors(void)
{
    unsigned count = 0;
    DIR *all = opendir("/proc/self/fd");
    CHECK(all != NULL);
    while (readdir(all) != NULL) {
        count++;
    }
    (void)closedir(all);
    return count;
}

// Of addresses, but for what is free in the heap: that stays as large as its fullest moment. Under a sanitizer, which maps what
// it likes, none.
static uint64_t mapped_bytes(void)
{
    unsigned long pages = 0;
    uint64_t unused = 0;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    FILE *facts = fopen("/proc/self/statm", "re");
    CHECK(facts != NULL && fscanf(facts, "%lu", &pages) == 1); // NOLINT(cert-err34-c): the kernel's
    (void)fclose(facts);
    unused = mallinfo2().fordblks;
#endif
    return (uint64_t)pages * 4096 - unused;
}

static void run_each(void)
{
    unsigned had_descriptors = 0;
    uint64_t had_bytes = 0;
    uint64_t n = 0;
    bool failed = true;
    while (failed) {
        CHECK(++n < MOST, "there is no end of it");
        atomic_store(&allocations, 0);
        atomic_store(&failing, n);
        dsm *session = open_session();
        work(session);
        failed = atomic_load(&failing) == 0 || has_failed();
        atomic_store(&failing, 0);
        hold_close_after_errors(session);
        if (n == SETTLED) {
            had_descriptors = descriptors();
            had_bytes = mapped_bytes();
        }
    }
    uint64_t bytes = mapped_bytes();
    uint64_t more = bytes > had_bytes ? bytes - had_bytes : 0;
    // gRPC begins threads of its own when it finds that there is more to do than they can; their stacks are kept.
    uint64_t stacks = more / GUARDED_BYTES;
    printf("%lu allocations, %lu refusals; %lu KiB mapped, %lu before; %lu stacks more\n",
           (unsigned long)n - 1, (unsigned long)refusals, (unsigned long)bytes >> 10,
           (unsigned long)had_bytes >> 10, (unsigned long)stacks);
    CHECK(n > 20 && refusals > 10, "nothing was tested");
    CHECK(descriptors() == had_descriptors, "%u descriptors, and %u before", descriptors(),
          had_descriptors);
    CHECK(stacks <= MORE_STACKS && more - stacks * GUARDED_BYTES <= MORE_BYTES, "memory is left");
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"each", run_each}};
    pthread_attr_t threads;
    CHECK(pthread_attr_init(&threads) == 0);
    CHECK(pthread_attr_setstacksize(&threads, STACK_BYTES) == 0);
    CHECK(pthread_setattr_default_np(&threads) == 0);
    (void)mallopt(M_ARENA_MAX, 1); // threads that meet in malloc get 64 MiB of addresses otherwise
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
