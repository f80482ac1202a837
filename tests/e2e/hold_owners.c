// SPDX-License-Identifier: Apache-2.0
//
// One writer or many readers, in several processes: who comes second is told who holds the segment; a takeover by the
// same principal fences the former owner at its next request, and nothing that it still writes reaches the server: not from
// one that was stopped in the midst of writing and wakes up late, either.
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 4 * CACHE / PAGE, DIRTY = 8 };

static dsm *session;

static dsm_segment *written(void)
{
    session = hold_open(CACHE);
    dsm_segment *segment = hold_create(session, "own", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    return segment;
}

static void refused(unsigned flags)
{
    dsm_segment *segment;
    char holder[200];
    char host[64] = "";
    session = hold_open(CACHE);
    RESULT(dsm_segment_open(session, "own", flags, &segment), -EBUSY);
    CHECK(gethostname(host, sizeof host - 1) == 0);
    (void)snprintf(holder, sizeof holder, "%s/%d/hold_owners", host, (int)getppid());
    CHECK(strstr(dsm_error()->text, holder) != NULL, "\"%s\" does not name %s", dsm_error()->text,
          holder);
    CHECK(strcmp(dsm_error()->segment, "own") == 0 && dsm_error()->error == -EBUSY);
    printf("%s\n", dsm_error()->text);
    RESULT(dsm_segment_delete(session, "own"), -EBUSY);
    hold_close_after_errors(session);
}

static void writer_refused(void)
{
    refused(0);
}

static void reader_refused(void)
{
    refused(DSM_READ_ONLY);
}

static void refused_by_one(void) // of several
{
    dsm_segment *segment;
    session = hold_open(CACHE);
    RESULT(dsm_segment_open(session, "own", 0, &segment), -EBUSY);
    CHECK(strstr(dsm_error()->text, "/hold_owners") != NULL, "%s", dsm_error()->text);
    hold_close_after_errors(session);
}

static void run_writer(void)
{
    dsm_segment *segment = written();
    hold_wait_well(hold_spawn("writer-refused"));
    hold_wait_well(hold_spawn("reader-refused"));
    hold_check_all(segment, 1);
    hold_close_after_errors(session);
}

static void reader(void)
{
    session = hold_open(CACHE);
    dsm_segment *segment = hold_segment(session, "own", DSM_READ_ONLY);
    hold_say("reading");
    hold_await("both-read");
    hold_check_all(segment, 1);
    hold_close_after_errors(session);
}

static void run_readers(void)
{
    OK(dsm_segment_close(written()));
    dsm_segment *segment = hold_segment(session, "own", DSM_READ_ONLY);
    hold_wait_well(hold_spawn("writer-refused"));
    pid_t child = hold_spawn("reader");
    hold_await("reading");
    hold_wait_well(hold_spawn("refused-by-one"));
    hold_say("both-read");
    hold_check_all(segment, 1);
    hold_wait_well(child);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "own", 0); // the readers are gone
    hold_fill(segment, 0, 2);
    hold_close_after_errors(session);
}

// ---- takeover ----

static void taker(void)
{
    dsm_segment *segment;
    session = hold_open(CACHE);
    RESULT(dsm_segment_open(session, "own", 0, &segment), -EBUSY);
    OK(dsm_segment_open(session, "own", DSM_TAKEOVER, &segment));
    hold_say("taken");
    hold_await("fenced");
    hold_check_all(segment, 1);
    hold_fill_all(segment, 3);
    hold_close_after_errors(session);
}

static void check_fenced(dsm_segment *segment)
{
    uint64_t absent = hold_absent(segment, 0);
    struct hold_touch touch = hold_load(hold_at(segment, absent));
    CHECK_SIGBUS(touch, hold_at(segment, absent));
    touch = hold_store(hold_at(segment, absent), 1);
    CHECK_SIGBUS(touch, hold_at(segment, absent));
    RESULT(dsm_swap_in(segment, (dsm_interval){absent, 1}, 0, DSM_NO_PAGE), -DSM_EFENCED);
    RESULT(dsm_clean(segment, hold_all(segment), NULL), -DSM_EFENCED);
    CHECK(!hold_state(segment, absent).lost, "fenced is not lost");
}

static void run_takeover_by(void (*first)(dsm_segment *segment))
{
    hold_catch(SIGBUS);
    dsm_segment *segment = written();
    for (uint64_t page = PAGES - DIRTY; page < PAGES; page++) {
        hold_fill(segment, page, 2);
    }
    pid_t child = hold_spawn("taker");
    hold_await("taken");
    for (uint64_t page = PAGES - DIRTY; page < PAGES; page++) {
        CHECK(hold_state(segment, page).needs_cleaning, "nothing was tested");
        CHECK(hold_holds(segment, page, 2)); // it is mapped: no request
    }
    first(segment);
    check_fenced(segment);
    RESULT(dsm_segment_close(segment), -DSM_EFENCED);
    hold_say("fenced");
    hold_wait_well(child);
    segment = hold_segment(session, "own", 0);
    hold_check_all(segment, 3);
    hold_close_after_errors(session);
}

static void first_clean(dsm_segment *segment)
{
    RESULT(dsm_clean(segment, (dsm_interval){PAGES - 1, 1}, NULL), -DSM_EFENCED);
    CHECK(dsm_error()->page == PAGES - 1);
    CHECK(hold_state(segment, PAGES - 1).needs_cleaning);
}

static void first_touch(dsm_segment *segment)
{
    uint64_t absent = hold_absent(segment, 0);
    struct hold_touch touch = hold_load((char *)hold_at(segment, absent) + 56);
    CHECK_SIGBUS(touch, (char *)hold_at(segment, absent) + 56);
}

static void run_takeover_clean(void)
{
    run_takeover_by(first_clean);
}

static void run_takeover_touch(void)
{
    run_takeover_by(first_touch);
}

// ---- a writer that stands still ----

enum { PAUSES = 20, SOME = 64, FIRST_OF_TAKER = 1 << 20 };

static void name_turn(pid_t writer, char name[32])
{
    (void)snprintf(name, 32, "writing-%d", (int)writer);
}

// Writes version after version, until it is told that the segment is another's.
static void paused_writer(void)
{
    session = hold_open(CACHE);
    dsm_segment *segment = hold_segment(session, "own", 0);
    const dsm_interval some = {0, SOME};
    char turn[32];
    int error = 0;
    name_turn(getpid(), turn);
    for (uint64_t version = 2; error == 0; version++) {
        for (uint64_t page = 0; page < SOME; page++) {
            hold_fill(segment, page, version);
        }
        error = dsm_clean(segment, some, NULL);
        if (version == 2) {
            hold_say(turn);
        }
    }
    CHECK(error == -DSM_EFENCED, "it ends with %d", error);
    RESULT(dsm_clean(segment, some, NULL), -DSM_EFENCED);
    RESULT(dsm_segment_close(segment), -DSM_EFENCED);
    hold_close_after_errors(session);
}

static void pause_and_take(uint64_t version, uint64_t *seed)
{
    int status = 0;
    char turn[32];
    pid_t child = hold_spawn("paused-writer");
    name_turn(child, turn);
    hold_await(turn);
    (void)usleep((useconds_t)(hold_random(seed) % 10000));
    CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child &&
          WIFSTOPPED(status));
    dsm_segment *segment = hold_segment(session, "own", DSM_TAKEOVER);
    for (uint64_t page = 0; page < SOME; page++) {
        hold_fill(segment, page, version);
    }
    OK(dsm_clean(segment, hold_all(segment), NULL));
    CHECK(kill(child, SIGCONT) == 0);
    hold_wait_well(child);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "own", DSM_READ_ONLY); // what the server has
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(hold_holds(segment, page, page < SOME ? version : 1), "page %lu, round %lu",
              (unsigned long)page, (unsigned long)(version - FIRST_OF_TAKER));
    }
    OK(dsm_segment_close(segment));
}

static void run_paused(void)
{
    uint64_t seed = 5;
    OK(dsm_segment_close(written()));
    for (uint64_t round = 0; round < PAUSES; round++) {
        pause_and_take(FIRST_OF_TAKER + round, &seed);
    }
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"writer", run_writer},
        {"readers", run_readers},
        {"takeover-clean", run_takeover_clean},
        {"takeover-touch", run_takeover_touch},
        {"paused", run_paused},
        {"paused-writer", paused_writer},
        {"writer-refused", writer_refused},
        {"reader-refused", reader_refused},
        {"refused-by-one", refused_by_one},
        {"reader", reader},
        {"taker", taker},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
