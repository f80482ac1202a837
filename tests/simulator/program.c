// SPDX-License-Identifier: Apache-2.0
//
// See program.h. Each page has one thread that stores into it; all threads load from all pages. As long as the segment is the
// program's, a load gives exactly what was stored last, or it ends in SIGBUS: at the address touched, after the fault
// timeout or at once when the segment was lost or taken. When it was taken, the program opens it again, reads every page,
// and goes on from what its rivals left.
#include "tests/simulator/program.h"

#include <dsm/dsm.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdsm/session_api.h"
#include "tests/simulator/virtual_time.h"

enum { FAULT_MS = LIMIT_FAULT_TIMEOUT_MS, MOST_RUN = 32, TRIES = 400 };

const char program_segment[] = "program/pages";
struct program_totals program_totals;

static struct {
    struct program_plan plan;
    dsm *session;
    dsm_segment *segment;
    struct oracle *oracle;
    uint8_t *base;
    uint32_t own[ORACLE_PAGES]; // what the page holds in this program
    bool taken;                 // by a rival: threads stop
    bool lost;
    _Atomic uint32_t threads; // at work
    _Atomic uint32_t *running;
} program;

// ---- touches ----

static struct touch {
    sigjmp_buf back;
    volatile bool on;
    uintptr_t address;
} touches[VT_FIBERS];

static void bus(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    struct touch *touch = &touches[vt_self()];
    if (!touch->on) {
        vt_fail("SIGBUS at %p outside a touch", info->si_addr);
    }
    touch->address = (uintptr_t)info->si_addr;
    siglongjmp(touch->back, 1);
}

// Copies a page from or into the segment. False: SIGBUS.
static bool copy(uint8_t *to, const uint8_t *from)
{
    struct touch *touch = &touches[vt_self()];
    if (sigsetjmp(touch->back, 1) != 0) {
        touch->on = false;
        return false;
    }
    touch->on = true;
    volatile uint64_t *at = (volatile uint64_t *)to;
    const volatile uint64_t *source = (const volatile uint64_t *)from;
    for (size_t i = 0; i < ORACLE_PAGE / 8; i++) {
        at[i] = source[i];
    }
    touch->on = false;
    return true;
}

static bool ours(void)
{
    uint32_t fate = atomic_load(&program.segment->segment.backing.fate);
    program.taken = program.taken || fate == BACKING_FENCED;
    program.lost = program.lost || fate == BACKING_LOST;
    if (program.lost && !program.plan.may_lose_store) {
        vt_fail("the pages are said to be lost, but the store is the same");
    }
    return fate == BACKING_WELL;
}

// A touch that met SIGBUS did so where it should, and when.
static void judge_sigbus(uint64_t page, int64_t begun)
{
    uintptr_t at = (uintptr_t)program.base + page * ORACLE_PAGE;
    int64_t ms = (vt_now() - begun) / VT_MS;
    vt_note("SIGBUS at page %llu after %lld ms", (unsigned long long)page, (long long)ms);
    if (touches[vt_self()].address != at) {
        vt_fail("SIGBUS at %#lx instead of %#lx", touches[vt_self()].address, at);
    }
    if (!ours()) {
        return;
    }
    program_totals.faults_timed_out++;
    if (ms < FAULT_MS * 9 / 10 || ms > FAULT_MS * 11 / 10) {
        vt_fail("a fault timed out after %lld ms, not %d", (long long)ms, FAULT_MS);
    }
}

static void store(uint64_t page)
{
    uint8_t contents[ORACLE_PAGE];
    uint32_t stamp = oracle_begin(program.oracle, page, PROGRAM_WRITER, false);
    oracle_contents(program.oracle, page, stamp, contents);
    int64_t begun = vt_now();
    if (copy(program.base + page * ORACLE_PAGE, contents)) {
        program.own[page] = stamp;
    } else {
        judge_sigbus(page, begun);
    }
}

static void load(uint64_t page)
{
    uint8_t contents[ORACLE_PAGE];
    int64_t begun = vt_now();
    if (copy(contents, program.base + page * ORACLE_PAGE)) {
        oracle_expect(program.oracle, page, program.own[page], contents, "the program");
    } else {
        judge_sigbus(page, begun);
    }
}

// ---- calls ----

static void look_at(const char *what, int error, int64_t begun)
{
    int64_t ms = (vt_now() - begun) / VT_MS;
    vt_note("%s: %d after %lld ms", what, error, (long long)ms);
    if (error == 0 || !ours()) {
        return;
    }
    if (error != -ETIMEDOUT && error != -EIO && error != -ENOMEM) {
        vt_fail("%s ends with %d", what, error);
    }
}

static void clean(uint64_t page, uint64_t count)
{
    uint32_t before[ORACLE_PAGES];
    memcpy(before, program.own, sizeof before);
    uint64_t passed_over = 0;
    int64_t begun = vt_now();
    const dsm_interval interval = {page, count};
    int error = dsm_clean(program.segment, interval, &passed_over);
    look_at("clean", error, begun);
    for (uint64_t i = page; error == 0 && passed_over == 0 && i < page + count; i++) {
        oracle_acknowledge(program.oracle, i, PROGRAM_WRITER, before[i]);
    }
}

static void swap_in(uint64_t page, uint64_t count)
{
    int64_t begun = vt_now();
    const dsm_interval interval = {page, count};
    look_at("swap in", dsm_swap_in(program.segment, interval, 0, DSM_NO_PAGE), begun);
}

static void age(uint64_t page, uint64_t count)
{
    const dsm_interval interval = {page, count};
    look_at("age", dsm_age(program.segment, interval), vt_now());
}

static void operate(unsigned number)
{
    uint64_t pages = program.plan.pages;
    uint64_t page = vt_below(pages);
    uint64_t most = pages - page < MOST_RUN ? pages - page : MOST_RUN;
    uint64_t choice = vt_below(100);
    program_totals.operations++;
    if (choice < 40) {
        page = page / PROGRAM_THREADS * PROGRAM_THREADS + number;
        store(page < pages ? page : number);
    } else if (choice < 80) {
        load(page);
    } else if (choice < 90) {
        clean(page, 1 + vt_below(most));
    } else if (choice < 95) {
        swap_in(page, 1 + vt_below(most < 8 ? most : 8));
    } else {
        age(page, 1 + vt_below(most));
    }
}

// ---- the program ----

static void thread(void *context)
{
    unsigned number = (unsigned)(uintptr_t)context;
    for (unsigned i = 0; i < program.plan.operations && !program.taken && !program.lost; i++) {
        operate(number);
        vt_sleep((int64_t)vt_below(vt_chance(300) ? 6000 : 30) * VT_MS + 1);
    }
    (void)atomic_fetch_sub(&program.threads, 1);
    vt_wake(&program.threads, INT32_MAX);
}

static void run_threads(void)
{
    atomic_store(&program.threads, PROGRAM_THREADS);
    for (uintptr_t i = 0; i < PROGRAM_THREADS; i++) {
        vt_spawn(thread, (void *)i); // NOLINT(performance-no-int-to-ptr)
    }
    for (uint32_t left; (left = atomic_load(&program.threads)) > 0;) {
        (void)vt_wait(&program.threads, left, INT64_MAX);
    }
}

static void open_session(void)
{
    for (int i = 0;; i++) {
        int error = dsm_open(NULL, &program.session);
        if (error == 0) {
            return;
        }
        if (i == TRIES) {
            vt_fail("no session: %s", dsm_error()->text);
        }
        vt_sleep(300LL * VT_MS);
    }
}

static void make_segment(void)
{
    for (int i = 0;; i++) {
        int error =
            dsm_segment_create(program.session, program_segment, program.plan.pages * ORACLE_PAGE,
                               ORACLE_PAGE, 0, &program.segment);
        if (error == -EEXIST || error == -EBUSY) { // a creation without an answer was done
            error = dsm_segment_open(program.session, program_segment, 0, &program.segment);
        }
        if (error == 0) {
            break;
        }
        if (i == TRIES) {
            vt_fail("no segment: %d, %s", error, dsm_error()->text);
        }
        vt_sleep(300LL * VT_MS);
    }
    program.base = dsm_segment_base(program.segment);
    program.oracle = oracle_make(program.segment->segment.backing.id, PROGRAM_WRITER);
}

// What rivals left in the pages. False: it was taken again meanwhile.
static bool settle_all(void)
{
    uint8_t contents[ORACLE_PAGE];
    for (uint64_t page = 0; page < program.plan.pages; page++) {
        while (!copy(contents, program.base + page * ORACLE_PAGE)) {
            if (!ours()) {
                return false;
            }
        }
        program.own[page] = oracle_read(program.oracle, page, contents, "the program");
        oracle_settle(program.oracle, page, program.own[page]);
    }
    oracle_hand_over(program.oracle, PROGRAM_WRITER);
    return true;
}

static void open_again(void)
{
    program_totals.fenced++;
    for (int i = 0; i < TRIES; i++) {
        if (program.segment != NULL) {
            vt_note("closes what was taken: %d", dsm_segment_close(program.segment));
            program.segment = NULL;
        }
        int error = dsm_segment_open(program.session, program_segment,
                                     vt_chance(3000) ? DSM_TAKEOVER : 0, &program.segment);
        vt_note("opens again: %d %s", error, error != 0 ? dsm_error()->text : "");
        if (error == 0) {
            program.taken = false;
            if (settle_all()) {
                return;
            }
        } else if (error != -EBUSY && error != -ETIMEDOUT && error != -DSM_EFENCED &&
                   error != -EIO) { // the server's memory
            vt_fail("the segment does not open again: %d, %s", error, dsm_error()->text);
        }
        vt_sleep((int64_t)(1 + vt_below(5)) * 1000 * VT_MS);
    }
    vt_fail("the segment could not be opened again: %s", dsm_error()->text);
}

// All that it stored is on the server; a last look at every page.
void program_finish(void)
{
    for (int i = 0; i < TRIES && !program.lost; i++) {
        if (!ours() && !program.lost) {
            open_again();
        }
        uint64_t passed_over = 0;
        const dsm_interval all = {0, program.plan.pages};
        if (dsm_clean(program.segment, all, &passed_over) == 0) {
            break;
        }
    }
    for (uint64_t page = 0; page < program.plan.pages && !program.lost; page++) {
        load(page);
    }
    bool well = !program.lost && ours();
    int error = dsm_segment_close(program.segment);
    if (error != 0 && well) {
        vt_fail("the last close ends with %d", error);
    }
    for (uint64_t page = 0; page < program.plan.pages && well; page++) {
        oracle_acknowledge(program.oracle, page, PROGRAM_WRITER, program.own[page]);
    }
    program_totals.lost += program.lost;
    (void)dsm_close(program.session);
}

static void body(void *context)
{
    (void)context;
    struct sigaction action = {.sa_sigaction = bus, .sa_flags = SA_SIGINFO};
    (void)sigaction(SIGBUS, &action, NULL);
    open_session();
    make_segment();
    run_threads();
    while (program.taken && !program.lost) {
        open_again();
        run_threads();
    }
    atomic_store(program.running, 0);
    vt_wake(program.running, INT32_MAX);
}

void program_start(const struct program_plan *plan, _Atomic uint32_t *running)
{
    program.plan = *plan;
    program.running = running;
    atomic_store(running, 1);
    vt_spawn(body, NULL);
}

struct oracle *program_oracle(void)
{
    return program.oracle;
}

const struct session *program_session(void)
{
    return program.session == NULL ? NULL : &program.session->session;
}
