// SPDX-License-Identifier: Apache-2.0
//
// Two runs with one question each.
//
// Exactly once: a tenth of the answers is dropped with its connection (one that is lost without a word ends the operation in
// doubt: sim.weather), and a tenth of the requests comes twice. Whatever is made, deleted, written, discarded, given up and
// allocated must be there once, none may fail, and no late copy of a request may undo what came after it.
//
// Late writers: a writer is paused with a request on its way, another takes the segment and writes, the first wakes and goes
// on. Nothing of it may be accepted, neither what was on the way nor what it sends then.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dsm/dsm.h"
#include "tests/simulator/network.h"
#include "tests/simulator/rival.h"
#include "tests/simulator/runs.h"
#include "tests/simulator/virtual_time.h"

enum { WRITERS = 4, PAGES = 16, MORE_WRITERS = 2 };

static _Atomic uint32_t writers_run;
static uint64_t operations_left;

static uint64_t make_segment(struct rival *rival, const char *name)
{
    struct control_segment info;
    int error = control_create(&rival->session, name, (uint64_t)PAGES * ORACLE_PAGE, ORACLE_PAGE, 0,
                               &info, NULL);
    if (error == 0) {
        error = control_close(&rival->session, info.id, NULL);
    }
    if (error != 0) {
        vt_fail("no segment %s: %d", name, error);
    }
    return info.id;
}

static void check(struct rival *rival, uint64_t page, uint32_t count)
{
    int error = rival_check(rival, page, count);
    if (error != 0) {
        vt_fail("writer %u cannot read: %d", rival->number, error);
    }
}

static void one_operation(struct rival *rival)
{
    uint64_t page = vt_below(PAGES);
    uint32_t count = 1 + (uint32_t)vt_below(PAGES - page < 4 ? PAGES - page : 4);
    switch (vt_below(8)) {
    case 0:
        rival_create(rival, (unsigned)vt_below(RIVAL_NAMES));
        return;
    case 1:
        rival_delete(rival, (unsigned)vt_below(RIVAL_NAMES));
        return;
    case 2:
    case 3:
        (void)rival_discard(rival, page, count);
        break;
    case 4:
        (void)rival_renew(rival, page, count);
        break;
    default:
        (void)rival_write(rival, page, count);
    }
    if (vt_below(8) == 0) {
        vt_sleep((int64_t)vt_below(4000) * VT_MS); // late copies come
    }
    check(rival, page, count);
}

// From time to time with a new segment: an oracle knows so many versions of a page.
static void writer_works(void *context)
{
    struct rival *rival = context;
    enum { OPERATIONS_OF_A_SEGMENT = 3000 };
    char name[] = "once/0/0000";
    for (unsigned turn = 0; operations_left > 0; turn++) {
        name[5] = (char)('0' + rival->number % 10);
        for (unsigned i = 0, rest = turn; i < 4; i++, rest /= 10) {
            name[10 - i] = (char)('0' + rest % 10);
        }
        struct oracle *oracle = oracle_make(make_segment(rival, name), rival->number);
        if (rival_take(rival, name, false, oracle) != 0) {
            vt_fail("writer %u cannot open its segment", rival->number);
        }
        for (int i = 0; i < OPERATIONS_OF_A_SEGMENT && operations_left > 0; i++) {
            uint64_t before = rival->operations;
            one_operation(rival);
            uint64_t done = rival->operations - before;
            operations_left -= done < operations_left ? done : operations_left;
        }
        check(rival, 0, PAGES);
        rival_let_go(rival);
        if (control_delete(&rival->session, name, NULL) != 0) {
            vt_fail("writer %u cannot delete its segment", rival->number);
        }
        free(oracle);
    }
    (void)atomic_fetch_sub(&writers_run, 1);
    vt_wake(&writers_run, INT32_MAX);
}

static unsigned names_of(const struct rival *rival)
{
    unsigned made = 0;
    for (unsigned i = 0; i < RIVAL_NAMES; i++) {
        made += rival->names[i].state == NAME_MADE;
    }
    return made;
}

// Of the answers, as far as so few of them tell. The seed decides: what is true of one run is true of all that repeat it.
static void must_be_a_tenth(const char *what, uint64_t count)
{
    if (count * 13 < network_totals.answers || count * 8 > network_totals.answers) {
        vt_fail("of %llu answers %llu were %s: not about a tenth",
                (unsigned long long)network_totals.answers, (unsigned long long)count, what);
    }
}

void run_exactly_once(void)
{
    struct rival *writers[WRITERS];
    server_start();
    operations_left = run_amount;
    atomic_store(&writers_run, WRITERS);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = rival_make(i + 1);
        writers[i]->strict = true;
    }
    network_plan = (struct network_plan){.cut_answer = 1000, .twice = 1000};
    for (unsigned i = 0; i < WRITERS; i++) {
        vt_spawn(writer_works, writers[i]);
    }
    for (uint32_t left; (left = atomic_load(&writers_run)) > 0;) {
        (void)vt_wait(&writers_run, left, INT64_MAX);
    }
    memset(&network_plan, 0, sizeof network_plan);
    must_be_a_tenth("dropped", network_totals.cut);
    must_be_a_tenth("doubled", network_totals.repeated);
    unsigned names = 0;
    unsigned segments = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        names += names_of(writers[i]);
        run_totals.operations += writers[i]->operations;
        rival_end(writers[i]);
    }
    struct store_segment *segment = NULL;
    while ((segment = store_segment_next(sim_server.store, segment)) != NULL) {
        segments++;
    }
    if (segments != names) {
        vt_fail("the server has %u segments, its clients made %u", segments, names);
    }
    server_audit();
    server_stop();
}

// ---- late writers ----

static struct late {
    struct rival *rival;
    int error;
    _Atomic uint32_t at_work;
} late;

static void write_late(void *context)
{
    (void)context;
    late.error = rival_write(late.rival, vt_below(PAGES), 1);
    atomic_store(&late.at_work, 0);
    vt_wake(&late.at_work, INT32_MAX);
}

static void take(struct rival *rival, const char *name, struct oracle *oracle)
{
    int error;
    do { // by force, or when the lease has lapsed
        error = rival_take(rival, name, vt_below(2) == 0, oracle);
        if (error == -EBUSY) {
            vt_sleep((int64_t)vt_below(20000) * VT_MS);
        }
    } while (error == -EBUSY || error == -ETIMEDOUT);
    if (error != 0) {
        vt_fail("writer %u cannot take the segment: %d", rival->number, error);
    }
}

static void one_round(struct rival *paused, struct rival *successor, const char *name,
                      struct oracle *oracle)
{
    if (!paused->held.open || paused->held.oracle->owner != paused->number) {
        take(paused, name, oracle);
    }
    (void)rival_write(paused, 0, PAGES / 2);
    late = (struct late){.rival = paused, .at_work = 1};
    network_hold(&paused->session, true); // what it sends now is on its way for long
    vt_spawn(write_late, NULL);
    vt_sleep((int64_t)vt_below(3000) * VT_MS);
    take(successor, name, oracle);
    (void)rival_write(successor, 0, 1 + (uint32_t)vt_below(PAGES));
    vt_sleep((int64_t)vt_below(12000) * VT_MS);
    network_hold(&paused->session, false);
    while (atomic_load(&late.at_work) != 0) {
        (void)vt_wait(&late.at_work, 1, INT64_MAX);
    }
    int again = late.error == -DSM_EFENCED ? late.error : rival_write(paused, vt_below(PAGES), 1);
    for (int i = 0; again == -ETIMEDOUT && i < 10; i++) {
        again = rival_write(paused, vt_below(PAGES), 1);
    }
    if (late.error == 0 || again != -DSM_EFENCED) {
        vt_fail("a write of the former owner ends with %d, the next with %d", late.error, again);
    }
    run_totals.refused_late += late.error == -DSM_EFENCED;
    check(successor, 0, PAGES);
}

void run_late_writers(void)
{
    static const char name[] = "late/segment";
    enum { ROUNDS_OF_A_SEGMENT = 200 };
    struct rival *rivals[MORE_WRITERS];
    struct oracle *oracle = NULL;
    server_start();
    for (unsigned i = 0; i < MORE_WRITERS; i++) {
        rivals[i] = rival_make(i + 1);
    }
    for (uint64_t round = 0; round < run_amount; round++) {
        if (round % ROUNDS_OF_A_SEGMENT == 0) {
            rival_let_go(rivals[0]);
            rival_let_go(rivals[1]);
            (void)control_delete(&rivals[0]->session, name, NULL);
            oracle = oracle_make(make_segment(rivals[0], name), rivals[0]->number);
        }
        one_round(rivals[round % 2], rivals[(round + 1) % 2], name, oracle);
    }
    run_totals.operations = run_amount;
    if (run_totals.refused_late * 2 < run_amount) { // of the others nothing came in time
        vt_fail("only %llu of the writes that were on their way met their refusal",
                (unsigned long long)run_totals.refused_late);
    }
    server_audit();
    server_kill();
}
