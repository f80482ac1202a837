// SPDX-License-Identifier: Apache-2.0
//
// See backing_rig.h. The sink behaves like a view: nothing may be delivered that was not placed, and what is delivered must be
// what the server has.
#include "tests/unit/backing_rig.h"

#include <errno.h>
#include <string.h>

#include "libdsm/sync/futex.h"

struct backing_rig rig;

static bool zero_page(const uint8_t *at)
{
    return at[0] == 0 && memcmp(at, at + 1, rig.page_bytes - 1) == 0;
}

static void answer_read(const struct wire_header *request, struct wire_header *to, uint8_t *payload)
{
    for (uint32_t i = 0; i < request->count && to->length < LIMIT_RUN_BYTES; i++) {
        const uint8_t *page = rig.data + (request->page + i - FIRST_PAGE) * rig.page_bytes;
        if (!zero_page(page)) {
            wire_map_set(to->map, i);
            memcpy(payload + to->length, page, rig.page_bytes);
            to->length += rig.page_bytes;
        }
    }
}

static void take_write(const struct wire_header *request, const uint8_t *payload)
{
    for (uint32_t i = 0; i < request->count; i++) {
        uint8_t *page = rig.data + (request->page + i - FIRST_PAGE) * rig.page_bytes;
        if (wire_map_get(request->map, i)) {
            memcpy(page, payload, rig.page_bytes);
            payload += rig.page_bytes;
        } else {
            memset(page, 0, rig.page_bytes);
        }
    }
}

static int answer(void *context, const struct wire_header *request, const void *payload,
                  struct wire_header *to, void *to_payload)
{
    (void)context;
    *to = (struct wire_header){.op = request->op | WIRE_ANSWER,
                               .request = request->request,
                               .segment = request->segment,
                               .page = request->page,
                               .count = request->count};
    rig.requests++;
    if (rig.break_at > 0 && --rig.break_at == 0) {
        return -ECONNRESET;
    }
    assert_int_equal(request->segment, SEGMENT);
    assert_in_range(request->epoch, EPOCH, rig.epoch);
    if (request->epoch < rig.epoch) {
        to->status = WIRE_FENCED;
        return 0;
    }
    if (rig.statuses_left > 0) {
        rig.statuses_left--;
        to->status = (uint16_t)rig.status;
        to->done = rig.done;
        return 0;
    }
    if (request->op == WIRE_READ) {
        answer_read(request, to, to_payload);
    } else {
        take_write(request, payload);
        to->done = request->count;
    }
    if (rig.wrong_place) {
        to->page++;
        to->count = LIMIT_RUN_PAGES;
    }
    return 0;
}

static void *keep(void *argument)
{
    (void)argument;
    while (atomic_load(&rig.stopping) == 0) {
        uint32_t seen = atomic_load(&rig.backing.broken);
        struct backing_lane *lane = &rig.backing.lanes[0];
        if (atomic_load(&lane->up) == 0) {
            lane_destroy(&lane->lane);
            lane->lane = lane_loop_create(answer, NULL);
            atomic_store(&lane->up, ++rig.connections);
            sync_wake(&lane->up, INT32_MAX);
        }
        (void)sync_wait(&rig.backing.broken, seen, SYNC_FOR_EVER);
    }
    return NULL;
}

struct backing_lane *start(uint32_t page_bytes)
{
    memset(&rig, 0, sizeof rig);
    rig.page_bytes = page_bytes;
    rig.epoch = EPOCH;
    rig.segment = (struct backing_segment){
        .id = SEGMENT, .epoch = EPOCH, .pages = 1 << 20, .page_bytes = page_bytes};
    atomic_store(&rig.segment.next_version, 50);
    rig.backing.stat = &rig.stat;
    rig.backing.lane_count = 1;
    rig.backing.lanes[0] = (struct backing_lane){.backing = &rig.backing, .class = BACKING_FAULT};
    rig.backing.lanes[0].lane = lane_loop_create(answer, NULL);
    atomic_store(&rig.backing.lanes[0].up, ++rig.connections);
    assert_int_equal(pthread_create(&rig.keeper, NULL, keep, NULL), 0);
    struct backing_lane *lane = backing_take(&rig.backing, BACKING_FAULT, SYNC_FOR_EVER);
    assert_non_null(lane);
    return lane;
}

void stop(struct backing_lane *lane)
{
    backing_give(lane);
    atomic_store(&rig.stopping, 1);
    (void)atomic_fetch_add(&rig.backing.broken, 1);
    sync_wake(&rig.backing.broken, INT32_MAX);
    (void)pthread_join(rig.keeper, NULL);
    lane_destroy(&rig.backing.lanes[0].lane);
}

// ---- the sink: like a view, it remembers what was placed and counts deliveries ----

static int place(void *context, uint64_t page, uint32_t count, void **to)
{
    const struct backing_run *run = context;
    assert_true(page >= run->page && page + count <= run->page + run->count);
    for (uint32_t i = 0; i < count && (rig.with_address || to == NULL); i++) {
        rig.placed[page - run->page + i] = true;
    }
    if (to != NULL) {
        *to = rig.with_address ? rig.frames + (page - run->page) * rig.segment.page_bytes : NULL;
    }
    return rig.place_error;
}

static int fill(void *context, uint64_t page, uint32_t offset, const void *from, uint32_t bytes)
{
    const struct backing_run *run = context;
    assert_true(page >= run->page && page < run->page + run->count && !rig.with_address);
    uint64_t end = (page - run->page) * rig.segment.page_bytes + offset + bytes;
    assert_true(end <= (uint64_t)run->count * rig.segment.page_bytes);
    memcpy(rig.frames + (page - run->page) * rig.segment.page_bytes + offset, from, bytes);
    for (uint64_t at = page - run->page; at * rig.segment.page_bytes < end; at++) {
        rig.placed[at] = true;
    }
    return rig.fill_error;
}

static void deliver(void *context, uint64_t page, uint32_t count)
{
    const struct backing_run *run = context;
    rig.deliveries++;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = page - run->page + i;
        assert_true(at < run->count && rig.placed[at]);
        rig.delivered[at]++;
        assert_memory_equal(rig.frames + at * rig.segment.page_bytes,
                            rig.data + (page + i - FIRST_PAGE) * rig.segment.page_bytes,
                            rig.segment.page_bytes);
    }
    if (rig.shut_after > 0 && (rig.shut_after -= (int)count) <= 0) {
        rig.shut_after = 0;
        rig.backing.lanes[0].lane->ops->shut(rig.backing.lanes[0].lane);
    }
}

const struct backing_sink sink = {.place = place, .fill = fill, .deliver = deliver};

void data_pages(uint64_t zeros_seed, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bool zero = zeros_seed >> (i % 64) & 1;
        for (uint32_t b = 0; b < rig.page_bytes; b += 8) {
            uint64_t word = zero ? 0 : (zeros_seed + i + 1) * 0x9e3779b97f4a7c15u + b;
            memcpy(rig.data + (size_t)i * rig.page_bytes + b, &word, sizeof word);
        }
    }
}

struct backing_run run_of(uint32_t count)
{
    memset(rig.delivered, 0, sizeof rig.delivered);
    memset(rig.placed, 0, sizeof rig.placed);
    memset(rig.frames, 0, sizeof rig.frames); // as a view's: no page of it has a frame
    return (struct backing_run){
        .segment = &rig.segment, .page = FIRST_PAGE, .count = count, .hint = WIRE_NO_HINT};
}

int64_t soon(void)
{
    return sync_after_ms(20000);
}

int read_run(struct backing_lane *lane, struct backing_run *run, int64_t deadline)
{
    backing_read_send(lane, run, deadline);
    return backing_read_receive(lane, run, &sink, run, deadline);
}

void expect_delivered(uint32_t pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(rig.delivered[i], i < pages ? 1 : 0);
    }
}
