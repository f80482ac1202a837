// SPDX-License-Identifier: Apache-2.0
//
// Addresses of segments are kept free while a session is open, so that nothing else can come to lie where a task's memory must go.
//
//   kept     nobody gets them, with a hint or without; segments come and go there, and leave them kept; at the end they are free
//   taken    what was there before the session stays; the segment that needs just that place is refused, and told what is there
//   limited  where the system does not allow so many addresses, or none are wanted, segments take theirs as they find them
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "rpc/limits.h"
#include "tests/e2e/hold_rig.h"

enum { GIB = 1 << 30, SEGMENTS = 40 };

// Mappings that reach into what servers deal out, and how many bytes of it they are.
static uint64_t mapped(unsigned *count)
{
    char line[512];
    uint64_t bytes = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    *count = 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        char *end;
        uint64_t from = strtoull(line, &end, 16), to = strtoull(end + 1, NULL, 16);
        if (from >= LIMIT_BASE_LOW && to <= LIMIT_BASE_LOW + (8ULL << 40)) {
            bytes += to - from;
            (*count)++;
        }
    }
    (void)fclose(maps);
    return bytes;
}

static void check_kept(uint64_t bytes, unsigned mappings)
{
    unsigned count;
    uint64_t found = mapped(&count);
    CHECK(found == bytes && count == mappings, "%lu bytes in %u mappings instead of %lu",
          (unsigned long)found, count, (unsigned long)bytes);
}

static uint64_t whole(void)
{
    uint64_t all = LIMIT_BASE_HIGH - LIMIT_BASE_LOW;
    return all < 8ULL << 40 ? all : 8ULL << 40;
}

static void *at_gib(unsigned gib)
{
    return (void *)(uintptr_t)(LIMIT_BASE_LOW +
                               (uint64_t)gib * GIB); // NOLINT(performance-no-int-to-ptr)
}

static void *map(void *hint, int flags)
{
    return mmap(hint, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static void nobody_gets_it(void)
{
    for (unsigned gib = 0; gib < whole() / GIB; gib += 13) {
        CHECK(map(at_gib(gib), MAP_FIXED_NOREPLACE) == MAP_FAILED && errno == EEXIST);
    }
    void *other = map(at_gib(3), 0);
    CHECK(other != MAP_FAILED && other != at_gib(3));
    CHECK(munmap(other, PAGE) == 0);
}

static void use_it(dsm *session)
{
    dsm_segment *segments[SEGMENTS];
    char name[32];
    for (int i = 0; i < SEGMENTS; i++) {
        (void)snprintf(name, sizeof name, "arena-%d", i);
        segments[i] = hold_create(session, name, 1 + (uint64_t)i * 7, PAGE);
        hold_fill_all(segments[i], 1);
    }
    for (int i = 0; i < SEGMENTS; i++) { // not in the order in which they came
        dsm_segment *segment = segments[i * 7 % SEGMENTS];
        hold_check_all(segment, 1);
        void *base = dsm_segment_base(segment);
        OK(dsm_segment_close(segment));
        CHECK(map(base, MAP_FIXED_NOREPLACE) == MAP_FAILED);
    }
    dsm_segment *again = hold_segment(session, "arena-5", 0);
    hold_check_all(again, 1);
    OK(dsm_segment_close(again));
}

static void kept(void)
{
    for (int round = 0; round < 2; round++) {
        check_kept(0, 0);
        dsm *session = hold_open(2 * MIB);
        check_kept(whole(), 1);
        CHECK(hold_stats(session).arena_bytes == whole());
        nobody_gets_it();
        if (round == 0) {
            use_it(session);
        }
        check_kept(whole(), 1);
        hold_close(session);
    }
    check_kept(0, 0);
}

static void taken(void)
{
    unsigned count;
    dsm_segment *segment = NULL;
    void *there = map(at_gib(0), MAP_FIXED_NOREPLACE);
    CHECK(there == at_gib(0));
    *(uint64_t *)there = 42;
    dsm *session = hold_open(2 * MIB);
    CHECK(mapped(&count) == whole() - GIB + PAGE);
    RESULT(dsm_segment_create(session, "first", 4 * PAGE, PAGE, 0, &segment), -EADDRINUSE);
    CHECK(strstr(dsm_error()->text, "memory lies at 0x") != NULL &&
              strstr(dsm_error()->text, "RLIMIT_AS") == NULL,
          "%s", dsm_error()->text);
    CHECK(*(uint64_t *)there == 42);
    CHECK(munmap(there, PAGE) == 0);
    OK(dsm_segment_open(session, "first", 0, &segment));
    hold_fill_all(segment, 1);
    hold_check_all(segment, 1);
    OK(dsm_segment_close(segment));
    check_kept(whole() - GIB + PAGE * 4, 2); // what a segment had is kept
    hold_close_after_errors(session);
}

// The refusal says why nothing was kept free, too.
static void in_the_way(dsm *session)
{
    dsm_segment *segment = NULL;
    void *there = map(at_gib(0), MAP_FIXED_NOREPLACE);
    CHECK(there == at_gib(0));
    RESULT(dsm_segment_create(session, "first", PAGE, PAGE, 0, &segment), -EADDRINUSE);
    CHECK(strstr(dsm_error()->text, "RLIMIT_AS") != NULL, "%s", dsm_error()->text);
    CHECK(munmap(there, PAGE) == 0);
}

static void limited(void)
{
    unsigned count;
    struct rlimit limit;
    CHECK(setenv("DSM_ARENA", "0", 1) == 0);
    dsm *session = hold_open(2 * MIB);
    CHECK(mapped(&count) == 0);
    hold_close(session);
    CHECK(unsetenv("DSM_ARENA") == 0);
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = 4ULL << 30;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    session = hold_open(2 * MIB);
    CHECK(mapped(&count) == 0 && hold_stats(session).arena_bytes == 0);
    in_the_way(session);
    dsm_segment *segment = hold_create(session, "limited", 16, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_segment_close(segment));
    CHECK(mapped(&count) == 0);
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"kept", kept}, {"taken", taken}, {"limited", limited}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
