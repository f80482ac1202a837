// SPDX-License-Identifier: Apache-2.0
//
// What is paid for size, and for being there: nothing that was not touched.
//
// tebibyte: a thin segment of 1 TiB, of which some pages are stored, cleaned, and read again after it was closed and opened.
// All the while the process takes no more memory, tables of the kernel included, than a handful of pages explains. The time of
// each step is shown; how long it may take is for dsmperf(1) to say, for a busy machine's time proves nothing.
// crowd: $HOLD_CLIENTS processes with an open session each, which do nothing while the script looks at dsmd. The first of them
// come before its first look: what they make dsmd take for all is not the cost of one more. $HOLD_KEYS keys take turns.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { TOUCHED = 64, GROWTH_KIB = 4096, FIRST_CLIENTS = 20, CLIENTS_MOST = 2000 };
#define TEBIBYTE (UINT64_C(1) << 40)

// A line of /proc/self/status, in KiB.
static uint64_t status_kib(const char *name)
{
    char line[256];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kib = strtoul(line + strlen(name) + 1, NULL, 10);
        }
    }
    (void)fclose(file);
    return kib;
}

static uint64_t memory_kib(void)
{
    return status_kib("VmRSS") + status_kib("VmPTE");
}

static int64_t step_since; // of the step in hand

static void step(const char *what, uint64_t before_kib)
{
    int64_t now = hold_now_ms();
    uint64_t kib = memory_kib();
    printf("%-28s %5ld ms, memory %+ld KiB\n", what, (long)(now - step_since),
           (long)(kib - before_kib));
    CHECK(kib <= before_kib + GROWTH_KIB, "%s: %lu KiB became %lu", what, (unsigned long)before_kib,
          (unsigned long)kib);
    step_since = hold_now_ms();
}

// From one end of the segment to the other.
static uint64_t touched_page(const dsm_segment *segment, uint64_t i)
{
    return i * ((hold_pages(segment) - 1) / (TOUCHED - 1));
}

static void run_tebibyte(void)
{
    dsm *session = hold_open(4 * MIB);
    dsm_segment *segment;
    OK(dsm_segment_close(hold_create(session, "small", 16, PAGE))); // what the first takes for all
    uint64_t before = memory_kib();
    step_since = hold_now_ms();
    OK(dsm_segment_create(session, "tebibyte", TEBIBYTE, PAGE, DSM_NORESERVE, &segment));
    step("created", before);
    for (uint64_t i = 0; i < TOUCHED; i++) {
        hold_fill(segment, touched_page(segment, i), i);
    }
    step("64 pages stored", before);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    step("all of it cleaned", before);
    OK(dsm_segment_close(segment));
    step("closed", before);
    segment = hold_segment(session, "tebibyte", 0);
    step("opened", before);
    for (uint64_t i = 0; i < TOUCHED; i++) {
        CHECK(hold_holds(segment, touched_page(segment, i), i));
    }
    step("64 pages read", before);
    OK(dsm_segment_close(segment));
    step("closed", before);
    OK(dsm_segment_delete(session, "tebibyte"));
    step("deleted", before);
    hold_close(session);
}

enum {
    HERE = 70,
    GO = 71
}; // descriptors of every member: says that it is there; its end means to go

static void run_member(void)
{
    char byte = 0;
    dsm *session = hold_open(0);
    CHECK(write(HERE, &byte, 1) == 1);
    CHECK(read(GO, &byte, 1) == 0);
    hold_close(session);
}

static void come(pid_t *members, long first, long end, int here)
{
    long keys = strtol(hold_setting("HOLD_KEYS"), NULL, 10);
    for (long i = first; i < end; i++) {
        char path[512];
        char byte;
        (void)snprintf(path, sizeof path, "%s/client-%ld.key", hold_setting("HOLD_TALK"), i % keys);
        CHECK(setenv("DSM_KEY_FILE", path, 1) == 0);
        members[i] =
            hold_spawn("member"); // one after the other: a crowd at the door is another test
        struct pollfd arrival = {.fd = here, .events = POLLIN};
        CHECK(poll(&arrival, 1, AWAIT_SECONDS * 1000) == 1 && read(here, &byte, 1) == 1,
              "client %ld does not come", i);
    }
}

static void run_crowd(void)
{
    static pid_t members[FIRST_CLIENTS + CLIENTS_MOST];
    long count = strtol(hold_setting("HOLD_CLIENTS"), NULL, 10);
    int here[2];
    int go[2];
    CHECK(count > 0 && count <= CLIENTS_MOST);
    CHECK(pipe2(here, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0);
    CHECK(dup2(here[1], HERE) == HERE && dup2(go[0], GO) == GO);
    come(members, 0, FIRST_CLIENTS, here[0]);
    hold_say("first");
    hold_await("looked");
    come(members, FIRST_CLIENTS, FIRST_CLIENTS + count, here[0]);
    hold_say("crowd");
    hold_await("away");
    (void)close(go[1]);
    for (long i = 0; i < FIRST_CLIENTS + count; i++) {
        hold_wait_well(members[i]);
    }
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"tebibyte", run_tebibyte},
        {"member", run_member},
        {"crowd", run_crowd},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
