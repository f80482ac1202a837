// SPDX-License-Identifier: Apache-2.0
//
// The rig's server, its lanes, and the keeper that connects them again. It allocates nothing while it answers, so that what a test
// counts is the library's. Contents are a function of a stamp and the place within the page; from the start a page's
// stamp is its number + 1.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/pager_rig.h"

enum { BULK_LANES = 2, CALL_LANES = 2 };

void rig_fill(uint8_t *to, uint64_t stamp, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t word = stamp == 0 ? 0 : stamp * 0x9e3779b97f4a7c15u + i;
        memcpy(to + i, &word, sizeof word);
    }
}

static bool is_zero(const uint8_t *at, uint32_t bytes)
{
    return at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0;
}

static void note(const struct wire_header *request, uint32_t store)
{
    if (rig.io_count < RIG_IO_MOST) {
        rig.io[rig.io_count].op = request->op == WIRE_READ ? 'R' : 'W';
        rig.io[rig.io_count].page = request->page;
        rig.io[rig.io_count].count = request->count;
        rig.io[rig.io_count].hint = request->op == WIRE_READ ? request->hint : WIRE_NO_HINT;
        rig.io[rig.io_count].segment = (uint32_t)request->segment - 1;
        rig.io[rig.io_count].store = store;
        rig.io_count++;
    }
}

static bool fails_at(uint64_t *where, const struct wire_header *request, struct wire_header *answer)
{
    if (*where < request->page || *where >= request->page + request->count) {
        return false;
    }
    answer->done = (uint32_t)(*where - request->page);
    answer->status = WIRE_STORE_ERROR;
    *where = RIG_NOWHERE;
    return true;
}

static void read_pages(const struct rig_store *store, const struct wire_header *request,
                       struct wire_header *answer, uint8_t *to)
{
    if (fails_at(&rig.fail_read, request, answer)) {
        return;
    }
    for (uint32_t i = 0; i < request->count; i++) {
        const uint8_t *page = store->data + (request->page + i) * store->page_bytes;
        if (!is_zero(page, store->page_bytes)) {
            wire_map_set(answer->map, i);
            memcpy(to + answer->length, page, store->page_bytes);
            answer->length += store->page_bytes;
        }
    }
    answer->done = request->count;
}

static void write_pages(const struct rig_store *store, const struct wire_header *request,
                        struct wire_header *answer, const uint8_t *from)
{
    uint32_t count = request->count;
    if (rig.refuse_writes != WIRE_OK) {
        answer->status = (uint16_t)rig.refuse_writes;
        return;
    }
    if (fails_at(&rig.fail_write, request, answer)) {
        count = answer->done;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *page = store->data + (request->page + i) * store->page_bytes;
        bool data = wire_map_get(request->map, i);
        if (store->versions[request->page + i] < request->version) {
            store->versions[request->page + i] = request->version;
            if (data) {
                memcpy(page, from, store->page_bytes);
            } else {
                memset(page, 0, store->page_bytes);
            }
        }
        from += data ? store->page_bytes : 0;
    }
    answer->done = count;
}

static void take_time(const struct wire_header *request)
{
    unsigned us = request->op == WIRE_READ ? rig.read_us : rig.write_us;
    if (us > 0) {
        (void)usleep(us);
    }
    while (atomic_load(&rig.hold) != 0) {
        (void)atomic_fetch_add(&rig.held, 1);
        (void)sync_wait(&rig.hold, 1, SYNC_FOR_EVER);
        (void)atomic_fetch_sub(&rig.held, 1);
    }
}

// All of them, as the placement says. (The contents of all stores lie in one array here.)
static bool holds(uint32_t store, const struct wire_header *request)
{
    const struct placement *placement = &rig.segments[request->segment - 1].placement;
    for (uint32_t i = 0; i < request->count; i++) {
        if (placement_store(placement, request->page + i) != store) {
            return false;
        }
    }
    return true;
}

static int answer(void *context, const struct wire_header *request, const void *payload,
                  struct wire_header *to, void *to_payload)
{
    uint32_t number = (uint32_t)((struct backing *)context == &rig.backing
                                     ? 0
                                     : (struct backing *)context - rig.others);
    *to = (struct wire_header){.op = request->op | WIRE_ANSWER,
                               .request = request->request,
                               .segment = request->segment,
                               .page = request->page,
                               .count = request->count};
    if ((atomic_load(&rig.dead_stores) >> number & 1) != 0) {
        return -ECONNRESET;
    }
    int error = 0;
    (void)pthread_mutex_lock(&rig.mutex);
    note(request, number);
    const struct rig_store *store = &rig.stores[request->segment - 1];
    if (rig.cut) {
        rig.cut = false;
        error = -ECONNRESET;
    } else if (request->page + request->count > store->pages || !holds(number, request)) {
        to->status = WIRE_BOUNDS;
    } else if (request->op == WIRE_READ) {
        read_pages(store, request, to, to_payload);
    } else {
        write_pages(store, request, to, payload);
    }
    (void)pthread_mutex_unlock(&rig.mutex);
    take_time(request);
    return error;
}

// ---- lanes ----

static const struct lane_ops *loop;
static struct lane_ops counted;

static int send_counted(struct lane *lane, const struct wire_header *header,
                        const struct iovec *pieces, int count, int64_t deadline)
{
    int error = loop->send(lane, header, pieces, count, deadline);
    (void)atomic_fetch_add(&rig.sent, error == 0);
    return error;
}

// As a lane_sock with nothing to read: a held answer ends the owner's patience.
static int receive_patiently(struct lane *lane, struct wire_header *header, int64_t deadline)
{
    while (lane->patience != LANE_NO_DEADLINE && atomic_load(&rig.hold) != 0) {
        if (sync_now() >= lane->patience) {
            return -EINPROGRESS;
        }
        (void)sync_wait(&rig.hold, 1, lane->patience);
    }
    return loop->receive(lane, header, deadline);
}

static void connect_lane(struct backing_lane *lane)
{
    lane_destroy(&lane->lane);
    lane->lane = lane_loop_create(answer, lane->backing);
    assert_non_null(lane->lane);
    lane->lane->ops = &counted;
    atomic_store(&lane->up, (uint32_t)++rig.resume);
    sync_wake(&lane->up, INT32_MAX);
}

static struct backing *store_of(uint32_t number)
{
    return number == 0 ? &rig.backing : &rig.others[number];
}

// Connects again what broke, as a session's keeper does.
static void *keep(void *argument)
{
    enum { SLICE_MS = 2 }; // the other stores' lanes
    (void)argument;
    while (atomic_load(&rig.stopping) == 0) {
        uint32_t seen = atomic_load(&rig.backing.broken);
        for (uint32_t n = 0; n < rig.options.stores; n++) {
            struct backing *b = store_of(n);
            for (uint32_t i = 0; i < b->lane_count; i++) {
                if (atomic_load(&b->lanes[i].up) == 0) {
                    connect_lane(&b->lanes[i]);
                }
            }
        }
        (void)sync_wait(&rig.backing.broken, seen,
                        rig.options.stores > 1 ? sync_after_ms(SLICE_MS) : SYNC_FOR_EVER);
    }
    return NULL;
}

static void add_lanes(struct backing *b)
{
    static const enum backing_class classes[] = {BACKING_BULK, BACKING_CALL, BACKING_FAULT};
    const uint32_t counts[] = {BULK_LANES, CALL_LANES, rig.options.fault_workers};
    b->stat = &rig.stat;
    for (int c = 0; c < 3; c++) {
        for (uint32_t i = 0; i < counts[c]; i++) {
            struct backing_lane *lane = &b->lanes[b->lane_count];
            lane->backing = b;
            lane->class = classes[c];
            lane->number = b->lane_count++;
            connect_lane(lane);
        }
    }
}

void rig_server_start(void)
{
    struct lane *any = lane_loop_create(answer, NULL);
    assert_non_null(any);
    loop = any->ops;
    counted = *loop;
    counted.send = send_counted;
    counted.receive = receive_patiently;
    lane_destroy(&any);
    for (uint32_t n = 0; n < rig.options.stores; n++) {
        add_lanes(store_of(n));
        rig.backing.others[n] = store_of(n);
    }
    rig.backing.store_count = rig.options.stores;
    assert_int_equal(pthread_create(&rig.keeper, NULL, keep, NULL), 0);
}

bool rig_server_lanes_free(void)
{
    bool all = true;
    for (uint32_t n = 0; n < rig.options.stores; n++) {
        for (uint32_t i = 0; i < store_of(n)->lane_count; i++) {
            all = all && atomic_load(&store_of(n)->lanes[i].owned) == 0;
        }
    }
    return all;
}

void rig_server_cancel(void)
{
    for (uint32_t n = 0; n < rig.options.stores; n++) {
        atomic_store(&store_of(n)->stopping, 1);
    }
}

void rig_server_place(unsigned i)
{
    struct segment *segment = &rig.segments[i];
    const struct rig_options *o = &rig.options;
    if (o->rows == 0) {
        return;
    }
    assert_int_equal(placement_check(o->row, o->rows, o->pages, o->stores), 0);
    placement_set(&segment->placement, o->row, o->rows);
    for (uint32_t n = 1; n < o->stores; n++) {
        struct backing_segment *part = &rig.parts[i][n];
        *part =
            (struct backing_segment){.id = i + 1, .pages = o->pages, .page_bytes = o->page_bytes};
        atomic_store(&part->next_version, 2);
        segment->placement.parts[n] = part;
    }
}

void rig_server_make_store(unsigned i)
{
    struct rig_store *store = &rig.stores[i];
    store->pages = rig.options.pages;
    store->page_bytes = rig.options.page_bytes;
    store->data = calloc(store->pages, store->page_bytes);
    store->versions = calloc(store->pages, sizeof *store->versions);
    if (store->data == NULL || store->versions == NULL) {
        fail();
        return;
    }
    for (uint64_t p = 0; p < store->pages && !rig.options.fresh; p++) {
        rig_fill(store->data + p * store->page_bytes, p + 1, store->page_bytes);
        store->versions[p] = 1;
    }
}

void rig_server_stop(void)
{
    atomic_store(&rig.stopping, 1);
    (void)atomic_fetch_add(&rig.backing.broken, 1);
    sync_wake(&rig.backing.broken, INT32_MAX);
    (void)pthread_join(rig.keeper, NULL);
    for (uint32_t n = 0; n < rig.options.stores; n++) {
        for (uint32_t i = 0; i < store_of(n)->lane_count; i++) {
            lane_destroy(&store_of(n)->lanes[i].lane);
        }
    }
    for (unsigned i = 0; i < RIG_SEGMENTS; i++) {
        free(rig.stores[i].data);
        free(rig.stores[i].versions);
        rig.stores[i] = (struct rig_store){0};
    }
    rig.backing.lane_count = 0;
}

// ---- what it was asked ----

void rig_io_text(char *text, size_t bytes)
{
    text[0] = 0;
    (void)pthread_mutex_lock(&rig.mutex); // workers may still be at it
    size_t used = 0;
    for (unsigned i = 0; i < rig.io_count && used < bytes - 64; i++) {
        used += (size_t)snprintf(text + used, bytes - used, "%s%c%" PRIu64 "+%u", i > 0 ? " " : "",
                                 rig.io[i].op, rig.io[i].page, rig.io[i].count);
        if (rig.options.stores > 1) {
            used += (size_t)snprintf(text + used, bytes - used, "@%c", 'A' + (int)rig.io[i].store);
        }
        if (rig.io[i].hint != WIRE_NO_HINT) {
            used += (size_t)snprintf(text + used, bytes - used, ">%" PRIu64, rig.io[i].hint);
        }
    }
    (void)pthread_mutex_unlock(&rig.mutex);
}

void rig_expect_io(const char *expected)
{
    char text[2048];
    rig_io_text(text, sizeof text);
    assert_string_equal(text, expected);
}

// ---- contents ----

static void expect_contents(const uint8_t *at, uint64_t page, uint64_t stamp)
{
    for (uint32_t i = 0; i < rig.options.page_bytes; i += 8) {
        uint64_t word;
        uint64_t expected = stamp == 0 ? 0 : stamp * 0x9e3779b97f4a7c15u + i;
        memcpy(&word, at + i, sizeof word);
        if (word != expected) {
            fail_msg("page %" PRIu64 " at byte %u: %#" PRIx64 ", not %#" PRIx64, page, i, word,
                     expected);
        }
    }
}

void rig_expect_page(uint64_t page, uint64_t stamp)
{
    expect_contents(rig_at(page), page, stamp);
}

void rig_expect_stored(uint64_t page, uint64_t stamp)
{
    (void)pthread_mutex_lock(&rig.mutex);
    expect_contents(rig.stores[0].data + page * rig.options.page_bytes, page, stamp);
    (void)pthread_mutex_unlock(&rig.mutex);
}

uint64_t rig_first_stamp(uint64_t page)
{
    return rig.options.fresh ? 0 : page + 1;
}
