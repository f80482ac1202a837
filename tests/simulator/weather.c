// SPDX-License-Identifier: Apache-2.0
//
// A program, up to two rivals for its segment, and the weather: partitions of one direction or both, a machine that stands
// still, kills and restarts of the server, now and then a store that is another or an older one. At the end the sky
// clears, everything must come to rest, and an auditor reads every page and looks at every name.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dsm/dsm.h"
#include "tests/simulator/network.h"
#include "tests/simulator/program.h"
#include "tests/simulator/rival.h"
#include "tests/simulator/runs.h"
#include "tests/simulator/virtual_time.h"

enum { RIVALS = 2, FIRST_RIVAL = 2, AUDITOR = 15, CACHE_PAGES = 24 };

static struct {
    struct program_plan plan;
    struct rival *rivals[RIVALS];
    unsigned rival_count;
    _Atomic uint32_t program_runs, rivals_run, weather_runs;
    bool over, clear;
    bool store_lost;
} run;

// ---- the rivals ----

static void use_segment(struct rival *rival)
{
    uint64_t pages = rival->held.segment.pages;
    int error = 0;
    for (uint64_t i = vt_below(12); i > 0 && error != -DSM_EFENCED && error != -DSM_ELOST; i--) {
        uint64_t page = vt_below(pages);
        uint32_t most = pages - page < RIVAL_RUN ? (uint32_t)(pages - page) : RIVAL_RUN;
        uint32_t count = 1 + (uint32_t)vt_below(most);
        switch (vt_below(4)) {
        case 0:
            error = rival_check(rival, page, count);
            break;
        case 1:
            error = rival_discard(rival, page, count);
            break;
        default:
            error = rival_write(rival, page, count);
        }
        vt_sleep((int64_t)vt_below(400) * VT_MS);
    }
    rival_let_go(rival);
}

static void rival_lives(void *context)
{
    struct rival *rival = context;
    while (!run.over) {
        vt_sleep((int64_t)vt_below(20000) * VT_MS);
        struct oracle *oracle = program_oracle();
        if (vt_below(2) == 0) {
            rival_create(rival, (unsigned)vt_below(RIVAL_NAMES));
        } else {
            rival_delete(rival, (unsigned)vt_below(RIVAL_NAMES));
        }
        if (oracle != NULL && vt_below(3) == 0 && !run.over &&
            rival_take(rival, program_segment, vt_chance(5000), oracle) == 0) {
            use_segment(rival);
        }
    }
    (void)atomic_fetch_sub(&run.rivals_run, 1);
    vt_wake(&run.rivals_run, INT32_MAX);
}

static void start_rivals(void)
{
    run.rival_count = run.plan.may_lose_store ? 0 : (unsigned)vt_below(RIVALS + 1);
    atomic_store(&run.rivals_run, run.rival_count);
    for (unsigned i = 0; i < run.rival_count; i++) {
        run.rivals[i] = rival_make(FIRST_RIVAL + i);
        vt_spawn(rival_lives, run.rivals[i]);
    }
}

// ---- the weather ----

static int64_t some_ms(int64_t most)
{
    return (1 + (int64_t)vt_below((uint64_t)most)) * VT_MS;
}

// Short mostly, and now and then longer than any time-out.
static int64_t duration(void)
{
    return vt_chance(7000) ? some_ms(3000) : some_ms(vt_chance(7000) ? 25000 : 90000);
}

static const struct session *somebody(void)
{
    uint64_t who = vt_below(run.rival_count + 2);
    return who < run.rival_count ? &run.rivals[who]->session : program_session();
}

static void restart_server(void)
{
    bool kill = vt_below(2) == 0;
    if (kill) {
        server_kill();
    } else {
        server_stop();
    }
    vt_sleep(duration());
    server_up();
}

static void lose_store(void)
{
    if (vt_below(2) == 0) {
        server_kill();
        server_replace();
    } else {
        server_stop();
        server_keep_copy();
        server_up();
        vt_sleep(some_ms(20000));
        server_kill();
        server_restore_copy();
    }
    run.store_lost = true;
    server_up();
}

static void one_fault(void)
{
    const struct session *victim = somebody();
    uint64_t choice = vt_below(100);
    if (choice < 30) {
        restart_server();
    } else if (choice < 60 && run.plan.may_lose_store && !run.store_lost) {
        lose_store();
    } else if (victim == NULL) {
        return;
    } else if (choice < 60) {
        vt_note("its machine stands still");
        network_hold(victim, true);
        vt_sleep(duration());
        network_hold(victim, false);
    } else {
        uint64_t way = 1 + vt_below(3);
        vt_note("partition %u", (unsigned)way);
        network_part(victim, (way & 1) != 0, (way & 2) != 0);
        vt_sleep(duration());
        network_join(victim);
    }
    vt_note("that is over");
}

static void weather(void *context)
{
    (void)context;
    while (!run.clear) {
        vt_sleep(some_ms(12000));
        if (!run.clear) {
            one_fault();
        }
    }
    atomic_store(&run.weather_runs, 0);
    vt_wake(&run.weather_runs, INT32_MAX);
}

static void await(_Atomic uint32_t *word)
{
    for (uint32_t left; (left = atomic_load(word)) > 0;) {
        (void)vt_wait(word, left, INT64_MAX);
    }
}

// ---- the end ----

static unsigned found(const char *name)
{
    unsigned count = 0;
    struct store_segment *segment = NULL;
    while ((segment = store_segment_next(sim_server.store, segment)) != NULL) {
        count += strcmp(store_segment_record(segment)->name, name) == 0;
    }
    return count;
}

static void audit_names(const struct rival *rival)
{
    char name[LIMIT_SEGMENT_NAME_BYTES];
    for (unsigned i = 0; i < RIVAL_NAMES; i++) {
        rival_name(rival, i, name);
        unsigned count = found(name);
        bool wrong = rival->names[i].state == NAME_MADE ? count != 1 : count != 0;
        if (wrong && rival->names[i].state != NAME_UNSURE) {
            vt_fail("there are %u segments %s", count, name);
        }
    }
}

static void audit(void)
{
    server_stop();
    server_up();
    server_audit();
    for (unsigned i = 0; i < run.rival_count && !run.store_lost; i++) {
        audit_names(run.rivals[i]);
    }
    if (!run.store_lost) {
        struct rival *auditor = rival_make(AUDITOR);
        int error = rival_take(auditor, program_segment, false, program_oracle());
        if (error != 0) {
            vt_fail("the auditor cannot open the segment: %d", error);
        }
        rival_end(auditor);
    }
    server_stop();
}

static void make_plan(void)
{
    static const char *const fills[] = {"pwrite", "alias"};
    static const char *const laundries[] = {"on", "off"};
    static const char *const ahead[] = {"0", "16K", "1M"};
    char cache[32];
    run.plan = (struct program_plan){
        .pages = 48 + vt_below(80),
        .operations = 10 + (unsigned)vt_below(30),
        .may_lose_store = vt_chance(1000),
    };
    (void)snprintf(cache, sizeof cache, "%d", CACHE_PAGES * ORACLE_PAGE);
    (void)setenv("DSM_CACHE", cache, 1);
    (void)setenv("DSM_EXACT", "on", 1); // so small a cache is for tests
    (void)setenv("DSM_FILL", fills[vt_below(2)], 1);
    (void)setenv("DSM_LAUNDRY", laundries[vt_below(2)], 1);
    (void)setenv("DSM_READ_AHEAD", ahead[vt_below(3)], 1);
    network_plan = (struct network_plan){
        .slow = (unsigned)vt_below(300),
        .stuck = (unsigned)vt_below(20),
        .cut_request = (unsigned)vt_below(100),
        .cut_answer = (unsigned)vt_below(100),
        .lose_request = (unsigned)vt_below(40),
        .lose_answer = (unsigned)vt_below(40),
        .spoil = (unsigned)vt_below(40),
        .twice = (unsigned)vt_below(500),
        .lost_attach = (unsigned)vt_below(200),
        .no_memory = (unsigned)vt_below(500),
    };
}

void run_weather(void)
{
    make_plan();
    server_start();
    program_start(&run.plan, &run.program_runs);
    start_rivals();
    atomic_store(&run.weather_runs, 1);
    vt_spawn(weather, NULL);
    await(&run.program_runs);
    run.clear = true; // one more fault ends, then it is quiet
    await(&run.weather_runs);
    memset(&network_plan, 0, sizeof network_plan);
    run.over = true;
    await(&run.rivals_run);
    program_finish();
    for (unsigned i = 0; i < run.rival_count; i++) {
        run_totals.operations += run.rivals[i]->operations;
        rival_end(run.rivals[i]);
    }
    run_totals.operations += program_totals.operations;
    audit();
}
