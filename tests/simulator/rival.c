// SPDX-License-Identifier: Apache-2.0
//
// See rival.h. An operation that ends without an answer in its time is unsure: whether the server did it shows later, and the
// oracle allows for both until then.
#include "tests/simulator/rival.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dsm/dsm.h"
#include "tests/simulator/virtual_time.h"

enum { TRIES = 200, MADE_PAGES = 16, PATIENCE_MS = 15000 };

struct rival *rival_make(unsigned number)
{
    struct rival *rival = calloc(1, sizeof *rival);
    struct failure failure = {""};
    if (rival == NULL) {
        vt_fail("no memory");
    }
    rival->number = number;
    rival->settings.fault_workers = 1;
    for (int i = 0;; i++) {
        int error = session_start(&rival->session, &rival->settings, &rival->stat, &failure);
        if (error == 0) {
            return rival;
        }
        if (i == TRIES) {
            vt_fail("writer %u: no session: %d, %s", number, error, failure.text);
        }
        memset(&rival->session, 0, sizeof rival->session);
        vt_sleep(500LL * VT_MS);
    }
}

void rival_end(struct rival *rival)
{
    rival_let_go(rival);
    session_stop(&rival->session);
}

// ---- pages ----

struct landing_place {
    uint64_t page;
    uint8_t data[RIVAL_RUN * ORACLE_PAGE];
};

static int place(void *context, uint64_t page, uint32_t count, void **to)
{
    struct landing_place *l = context;
    uint8_t *at = l->data + (page - l->page) * ORACLE_PAGE;
    memset(at, 0, (size_t)count * ORACLE_PAGE);
    if (to != NULL) {
        *to = at;
    }
    return 0;
}

static int fill(void *context, uint64_t page, uint32_t offset, const void *from, uint32_t bytes)
{
    struct landing_place *l = context;
    memcpy(l->data + (page - l->page) * ORACLE_PAGE + offset, from, bytes);
    return 0;
}

static void deliver(void *context, uint64_t page, uint32_t count)
{
    (void)context;
    (void)page;
    (void)count;
}

static const struct backing_sink sink = {place, fill, deliver};

static struct backing_lane *take_lane(struct rival *rival, int64_t *deadline)
{
    *deadline = vt_now() + PATIENCE_MS * (int64_t)VT_MS;
    return backing_take(&rival->session.backing, BACKING_CALL, *deadline);
}

static int read_pages(struct rival *rival, uint64_t page, uint32_t count, struct landing_place *to)
{
    int64_t deadline;
    struct backing_lane *lane = take_lane(rival, &deadline);
    if (lane == NULL) {
        return -ETIMEDOUT;
    }
    struct backing_run run = {
        .segment = &rival->held.segment, .page = page, .count = count, .hint = WIRE_NO_HINT};
    to->page = page;
    backing_read_send(lane, &run, deadline);
    int error = backing_read_receive(lane, &run, &sink, to, deadline);
    backing_give(lane);
    return error;
}

static void name_self(const struct rival *rival, char to[16])
{
    (void)snprintf(to, 16, "writer %u", rival->number);
}

int rival_check(struct rival *rival, uint64_t page, uint32_t count)
{
    struct landing_place *at = malloc(sizeof *at);
    char who[16];
    name_self(rival, who);
    int error = at == NULL ? -ENOMEM : read_pages(rival, page, count, at);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        (void)oracle_read(rival->held.oracle, page + i, at->data + (size_t)i * ORACLE_PAGE, who);
    }
    free(at);
    return error;
}

static int settle_all(struct rival *rival, struct oracle *oracle)
{
    struct landing_place *at = malloc(sizeof *at);
    char who[16];
    int error = at == NULL ? -ENOMEM : 0;
    name_self(rival, who);
    uint64_t pages = rival->held.segment.pages;
    for (uint64_t page = 0; page < pages && error == 0;) {
        uint32_t count = pages - page < RIVAL_RUN ? (uint32_t)(pages - page) : RIVAL_RUN;
        error = read_pages(rival, page, count, at);
        for (uint32_t i = 0; i < count && error == 0; i++) {
            const uint8_t *data = at->data + (size_t)i * ORACLE_PAGE;
            oracle_settle(oracle, page + i, oracle_read(oracle, page + i, data, who));
        }
        page += error == 0 ? count : 0;
        error = error == -ETIMEDOUT ? 0 : error; // again: it has the segment
    }
    free(at);
    return error;
}

static void hold(struct rival *rival, const struct control_segment *info)
{
    struct held *held = &rival->held;
    memset(&held->segment, 0, sizeof held->segment);
    held->segment.id = info->id;
    held->segment.epoch = info->epoch;
    held->segment.pages = info->bytes / info->page_bytes;
    held->segment.page_bytes = info->page_bytes;
    atomic_store(&held->segment.next_version, info->highest + 1);
    atomic_store(&held->segment.acknowledged, info->highest);
    if (session_list(&rival->session, &held->segment, "held", true) != 0) {
        vt_fail("too many segments");
    }
    held->open = true;
}

int rival_take(struct rival *rival, const char *name, bool takeover, struct oracle *oracle)
{
    struct control_segment info;
    struct failure failure = {""};
    rival_let_go(rival);
    int error = control_open(&rival->session, name, true, takeover, &info, &failure);
    vt_note("writer %u opens %s%s: %d %s", rival->number, name, takeover ? " by force" : "", error,
            failure.text);
    if (strstr(failure.text, "already open in this process") != NULL) {
        vt_fail("writer %u opens %s once, and is told that it has it already", rival->number, name);
    }
    if (error != 0) {
        return error;
    }
    hold(rival, &info);
    error = settle_all(rival, oracle);
    if (error != 0) {
        rival_let_go(rival);
        return error;
    }
    rival->held.oracle = oracle;
    oracle_hand_over(oracle, rival->number);
    return 0;
}

void rival_let_go(struct rival *rival)
{
    struct held *held = &rival->held;
    if (held->open) {
        session_unlist(&rival->session, &held->segment);
        int error = control_close(&rival->session, held->segment.id, NULL);
        vt_note("writer %u closes: %d", rival->number, error);
        held->open = false;
    }
}

// One change of pages, whatever it is; what became of the version that it makes.
static int change(struct rival *rival, uint16_t op, uint64_t page, uint32_t count,
                  const uint8_t *contents)
{
    int64_t deadline;
    struct backing_lane *lane = take_lane(rival, &deadline);
    if (lane == NULL) {
        return -ETIMEDOUT;
    }
    struct backing_run run = {
        .segment = &rival->held.segment,
        .page = page,
        .count = count,
        .version = atomic_fetch_add(&rival->held.segment.next_version, 1),
        .contents = contents,
    };
    int error;
    if (op == WIRE_WRITE) {
        backing_write_send(lane, &run, deadline);
        error = backing_write_receive(lane, &run, deadline);
    } else {
        error = backing_reserve(lane, &run, op, deadline);
    }
    backing_give(lane);
    rival->operations++;
    vt_note("writer %u op %u pages %llu+%u version %llu: %d", rival->number, op,
            (unsigned long long)page, count, (unsigned long long)run.version, error);
    if (rival->strict && error != 0) {
        vt_fail("writer %u: operation %u failed: %d", rival->number, op, error);
    }
    return error;
}

static int new_version(struct rival *rival, uint64_t page, uint32_t count, uint16_t op)
{
    struct oracle *oracle = rival->held.oracle;
    uint8_t *contents = malloc((size_t)count * ORACLE_PAGE);
    uint32_t stamps[RIVAL_RUN];
    if (contents == NULL) {
        vt_fail("no memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        stamps[i] = oracle_begin(oracle, page + i, rival->number, op != WIRE_WRITE);
        oracle_contents(oracle, page + i, stamps[i], contents + (size_t)i * ORACLE_PAGE);
    }
    int error = change(rival, op, page, count, op == WIRE_WRITE ? contents : NULL);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        oracle_acknowledge(oracle, page + i, rival->number, stamps[i]);
    }
    free(contents);
    return error;
}

int rival_write(struct rival *rival, uint64_t page, uint32_t count)
{
    return new_version(rival, page, count, WIRE_WRITE);
}

int rival_discard(struct rival *rival, uint64_t page, uint32_t count)
{
    return new_version(rival, page, count, WIRE_DISCARD);
}

// Without backing in between: until it has it again, nobody reads these pages.
int rival_renew(struct rival *rival, uint64_t page, uint32_t count)
{
    int error = new_version(rival, page, count, WIRE_GIVE_UP);
    for (int i = 0; i < TRIES && error != -DSM_EFENCED && error != -DSM_ELOST; i++) {
        error = new_version(rival, page, count, WIRE_ALLOCATE);
        if (error == 0) {
            break;
        }
    }
    return error;
}

// ---- names ----

void rival_name(const struct rival *rival, unsigned name, char to[LIMIT_SEGMENT_NAME_BYTES])
{
    (void)snprintf(to, LIMIT_SEGMENT_NAME_BYTES, "writer%u/%u", rival->number, name);
}

// The server had no memory for it. Nothing was done then; but a copy of the request, that the network made, may have been.
static bool refused(const struct rival *rival, int error)
{
    return error == -EIO && !rival->strict;
}

static void must(const struct rival *rival, const char *what, unsigned name, int error,
                 int expected)
{
    vt_note("writer %u %s %u: %d", rival->number, what, name, error);
    bool unsure = error == -ETIMEDOUT || error == -ECANCELED || refused(rival, error);
    if (error != expected && (rival->strict || !unsure)) {
        vt_fail("writer %u: %s of name %u ends with %d, not %d", rival->number, what, name, error,
                expected);
    }
}

void rival_create(struct rival *rival, unsigned name)
{
    char text[LIMIT_SEGMENT_NAME_BYTES];
    struct named *named = &rival->names[name];
    struct control_segment info;
    rival_name(rival, name, text);
    if (named->state == NAME_UNSURE) {
        return;
    }
    int error = control_create(&rival->session, text, (uint64_t)MADE_PAGES * ORACLE_PAGE,
                               ORACLE_PAGE, 0, &info, NULL);
    rival->operations++;
    if (named->state == NAME_MADE) {
        must(rival, "creation", name, error, -EEXIST);
        return;
    }
    must(rival, "creation", name, error, 0);
    named->state = error == 0 ? NAME_MADE : NAME_UNSURE;
    if (error == 0) {
        error = control_close(&rival->session, info.id, NULL);
        must(rival, "closing", name, error, 0);
        named->state = error == 0 ? NAME_MADE : NAME_UNSURE;
    }
}

void rival_delete(struct rival *rival, unsigned name)
{
    char text[LIMIT_SEGMENT_NAME_BYTES];
    struct named *named = &rival->names[name];
    rival_name(rival, name, text);
    if (named->state == NAME_UNSURE) {
        return;
    }
    int error = control_delete(&rival->session, text, NULL);
    rival->operations++;
    if (named->state == NAME_FREE && error == 0) { // a repeated one is told that it was done
        return;
    }
    must(rival, "deletion", name, error, named->state == NAME_MADE ? 0 : -ENOENT);
    named->state = error == 0 || error == -ENOENT ? NAME_FREE : NAME_UNSURE;
}
