// SPDX-License-Identifier: Apache-2.0
//
// Runs over a lane_loop to a server whose every answer the test decides: zero pages anywhere, pages of 4 KiB to 1 MiB, lanes that
// break at any call, refusals, answers that are authentic and wrong. The test plays the keeper.
#include "tests/unit/backing_rig.h"

#include <errno.h>
#include <string.h>

#include "dsm/dsm.h"
#include "libdsm/sync/futex.h"

static const struct {
    uint32_t page_bytes, count;
} shapes[] = {{4096, 1},   {4096, 9},   {4096, 64}, {4096, 256},  {8192, 128}, {16384, 7},
              {32768, 32}, {65536, 16}, {65536, 5}, {1 << 19, 2}, {1 << 20, 1}};

// Zero pages at the start, at the end, in between, everywhere; with and without an address to store to.
static const uint64_t zeros[] = {
    0,     1,           2, 0xaaaaaaaaaaaaaaaa, 0xff, 0xff00, 1ull << 63,
    ~0ull, 0x123456789, 4, 0x8000000080000001};

static void reads(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        struct backing_lane *lane = start(shapes[s].page_bytes);
        for (size_t z = 0; z < 2 * sizeof zeros / sizeof zeros[0]; z++) {
            rig.with_address = z % 2 == 0;
            data_pages(zeros[z / 2], shapes[s].count);
            struct backing_run run = run_of(shapes[s].count);
            assert_int_equal(read_run(lane, &run, soon()), 0);
            assert_int_equal(run.done, shapes[s].count);
            expect_delivered(shapes[s].count, shapes[s].count);
        }
        stop(lane);
    }
}

static void writes(void **state)
{
    (void)state;
    static uint8_t contents[LIMIT_RUN_BYTES];
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        struct backing_lane *lane = start(shapes[s].page_bytes);
        size_t bytes = (size_t)shapes[s].count * shapes[s].page_bytes;
        for (size_t z = 0; z < sizeof zeros / sizeof zeros[0]; z++) {
            data_pages(zeros[z], shapes[s].count);
            memcpy(contents, rig.data, bytes);
            memset(rig.data, 0x55, bytes);
            struct backing_run run = run_of(shapes[s].count);
            run.contents = contents;
            run.version = 50 + z;
            backing_write_send(lane, &run, soon());
            assert_int_equal(backing_write_receive(lane, &run, soon()), 0);
            assert_int_equal(run.done, shapes[s].count);
            assert_memory_equal(contents, rig.data, bytes);
            assert_int_equal(atomic_load(&rig.segment.acknowledged), 50 + z);
        }
        stop(lane);
    }
}

// Cut at the n-th answer, and in the middle of an answer after the n-th page: each page is delivered once.
static void cuts_are_mended(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    for (int pages = 0; pages < 64; pages += 3) {
        rig.with_address = pages % 2 == 0;
        data_pages(0x5a5a00ff, 64);
        rig.break_at = pages < 3 ? 3 - pages : 0;
        rig.shut_after = pages;
        struct backing_run run = run_of(64);
        assert_int_equal(read_run(lane, &run, soon()), 0);
        expect_delivered(64, 64);
    }
    assert_true(STAT_GET(&rig.stat, retries) > 10);
    static uint8_t contents[64 * 4096];
    memset(contents, 3, sizeof contents);
    for (int cut = 1; cut < 3; cut++) {
        rig.break_at = cut;
        struct backing_run run = run_of(64);
        run.contents = contents;
        run.version = 60;
        backing_write_send(lane, &run, soon());
        assert_int_equal(backing_write_receive(lane, &run, soon()), 0);
        assert_memory_equal(rig.data, contents, sizeof contents);
    }
    stop(lane);
}

// The lane is down when the run is sent, or is shut between sending and receiving.
static void a_lane_that_is_down_is_waited_for(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    data_pages(0, 4);
    struct backing_run run = run_of(4);
    backing_lane_down(lane);
    assert_int_equal(read_run(lane, &run, soon()), 0);
    expect_delivered(4, 4);
    run = run_of(4);
    backing_read_send(lane, &run, soon());
    lane->lane->ops->shut(lane->lane);
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), 0);
    expect_delivered(4, 4);
    run = run_of(4);
    lane->lane->ops->shut(lane->lane); // sending fails
    assert_int_equal(read_run(lane, &run, soon()), 0);
    expect_delivered(4, 4);
    stop(lane);
}

static int refused_read(struct backing_lane *lane, enum wire_status status, uint32_t done,
                        uint32_t delivered)
{
    rig.statuses_left = 1;
    rig.status = status;
    rig.done = done;
    struct backing_run run = run_of(8);
    int error = read_run(lane, &run, soon());
    rig.statuses_left = 0;
    assert_int_equal(run.done, delivered);
    expect_delivered(delivered, 8);
    return error;
}

static void statuses_of_reads(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    data_pages(4, 8);
    assert_int_equal(refused_read(lane, WIRE_STORE_ERROR, 0, 0), -EIO);
    assert_int_equal(refused_read(lane, WIRE_STORE_ERROR, 5, 5), -EIO);
    assert_int_equal(refused_read(lane, WIRE_STORE_ERROR, 8, 0), -EIO); // nonsense, but no loop
    assert_int_equal(refused_read(lane, WIRE_BOUNDS, 0, 0), -EREMOTEIO);
    assert_int_equal(refused_read(lane, WIRE_NOT_ALLOWED, 0, 0), -EREMOTEIO);
    assert_int_equal(refused_read(lane, WIRE_NOT_OPEN, 0, 8), 0); // and once more
    assert_int_equal(refused_read(lane, WIRE_DRAINING, 0, 8), 0);
    assert_int_equal(refused_read(lane, WIRE_FENCED, 0, 0), -DSM_EFENCED);
    unsigned before = rig.requests;
    assert_int_equal(refused_read(lane, WIRE_OK, 0, 0), -DSM_EFENCED); // remembered
    assert_int_equal(rig.requests, before);
    atomic_store(&rig.segment.fate, BACKING_WELL);
    assert_int_equal(refused_read(lane, WIRE_NO_SEGMENT, 0, 0), -DSM_ELOST);
    stop(lane);
}

static int refused_write(struct backing_lane *lane, enum wire_status status, uint32_t done,
                         uint64_t version)
{
    static uint8_t contents[8 * 4096] = {1};
    rig.statuses_left = 1;
    rig.status = status;
    rig.done = done;
    struct backing_run run = run_of(8);
    run.contents = contents;
    run.version = version;
    backing_write_send(lane, &run, soon());
    int error = backing_write_receive(lane, &run, soon());
    assert_int_equal(run.done, error == 0 ? 8 : done);
    return error;
}

// Acknowledged is the highest version of which the server has said that a page is in its store.
static void statuses_of_writes(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    assert_int_equal(refused_write(lane, WIRE_STORE_ERROR, 0, 51), -EIO);
    assert_int_equal(refused_write(lane, WIRE_NO_SPACE, 0, 52), -ENOSPC);
    assert_int_equal(refused_write(lane, WIRE_OVER_QUOTA, 0, 53), -EDQUOT);
    assert_int_equal(refused_write(lane, WIRE_NOT_ALLOWED, 0, 54), -EREMOTEIO);
    assert_int_equal(atomic_load(&rig.segment.acknowledged), 0);
    assert_int_equal(refused_write(lane, WIRE_STORE_ERROR, 3, 55), -EIO);
    assert_int_equal(atomic_load(&rig.segment.acknowledged), 55);
    assert_int_equal(refused_write(lane, WIRE_NOT_OPEN, 0, 56), 0);
    assert_int_equal(atomic_load(&rig.segment.acknowledged), 56);
    assert_int_equal(refused_write(lane, WIRE_DRAINING, 0, 40), 0);
    assert_int_equal(atomic_load(&rig.segment.acknowledged), 56); // never goes down
    assert_int_equal(refused_write(lane, WIRE_FENCED, 0, 57), -DSM_EFENCED);
    assert_int_equal(atomic_load(&rig.segment.acknowledged), 56);
    stop(lane);
}

// The answer to a write of before the segment was opened again: who gave it may be gone with what it wrote.
static void a_late_acknowledgement_is_asked_for_again(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    static uint8_t contents[8 * 4096];
    memset(contents, 7, sizeof contents);
    data_pages(0xff, 8);
    struct backing_run run = run_of(8);
    run.contents = contents;
    run.version = 70;
    backing_write_send(lane, &run, soon());
    (void)atomic_fetch_add(&rig.segment.resumes, 1);
    uint64_t retries = STAT_GET(&rig.stat, retries);
    uint64_t sent = STAT_GET(&rig.stat, write_requests);
    assert_int_equal(backing_write_receive(lane, &run, soon()), 0);
    assert_int_equal(run.done, 8);
    assert_int_equal(STAT_GET(&rig.stat, retries) - retries, 1);
    assert_int_equal(STAT_GET(&rig.stat, write_requests) - sent, 1);
    assert_int_equal(atomic_load(&rig.segment.acknowledged), 70);
    stop(lane);
}

static struct backing_run sent_and_fenced(struct backing_lane *lane)
{
    struct backing_run run = run_of(8);
    rig.epoch++; // its image was parked
    backing_read_send(lane, &run, soon());
    return run;
}

// An image is parked and taken back, and in between a read of before is refused: the segment is this session's all the same.
static void what_a_past_epoch_met_is_past(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    data_pages(0, 8);
    struct backing_run run = sent_and_fenced(lane);
    atomic_store(&rig.segment.epoch, rig.epoch);
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), 0);
    expect_delivered(8, 8);
    assert_int_equal(atomic_load(&rig.segment.fate), BACKING_WELL);
    run = sent_and_fenced(lane); // and nobody takes it back
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), -DSM_EFENCED);
    assert_int_equal(atomic_load(&rig.segment.fate), BACKING_FENCED);
    stop(lane);
}

// A server that says "not now" is asked again after a pause, not as fast as the wire can carry it.
static void not_now_is_not_asked_in_a_loop(void **state)
{
    (void)state;
    static const enum wire_status not_now[] = {WIRE_NOT_OPEN, WIRE_DRAINING};
    for (int i = 0; i < 2; i++) {
        struct backing_lane *lane = start(4096);
        rig.statuses_left = UINT32_MAX;
        rig.status = not_now[i];
        struct backing_run run = run_of(1);
        assert_int_equal(read_run(lane, &run, sync_after_ms(250)), -ETIMEDOUT);
        assert_in_range(rig.requests, 1, 4);
        stop(lane);
    }
}

// The answer is authentic, and wrong: about other pages, more of them, of another size. Nothing outside the run is
// touched.
static void answers_are_not_believed(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    data_pages(2, 8);
    for (int i = 0; i < 2; i++) {
        rig.with_address = i == 0;
        rig.wrong_place = true;
        struct backing_run run = run_of(8);
        assert_int_equal(read_run(lane, &run, sync_after_ms(50)), -ETIMEDOUT);
        expect_delivered(0, 8);
        rig.wrong_place = false;
        rig.page_bytes = 65536; // of a segment of 4 KiB pages
        data_pages(2, 8);
        run = run_of(8);
        assert_int_equal(read_run(lane, &run, sync_after_ms(50)), -ETIMEDOUT);
        expect_delivered(0, 8);
        rig.page_bytes = 4096;
        data_pages(2, 8);
    }
    stop(lane);
}

// Two runs under way; the first must be asked for again, and stands behind the second then.
static void answers_are_not_mixed_up(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    data_pages(0, 8);
    rig.statuses_left = 1;
    rig.status = WIRE_DRAINING;
    struct backing_run first = run_of(4);
    struct backing_run second = first;
    second.page += 4;
    backing_read_send(lane, &first, soon());
    backing_read_send(lane, &second, soon());
    assert_int_equal(backing_read_receive(lane, &first, &sink, &first, soon()), 0);
    expect_delivered(4, 4);
    memset(rig.delivered, 0, sizeof rig.delivered);
    assert_int_equal(backing_read_receive(lane, &second, &sink, &second, soon()), 0);
    expect_delivered(4, 4);
    static uint8_t contents[2][4096] = {{7}, {8}}; // the same with writes
    struct backing_run writes[2];
    rig.statuses_left = 1;
    for (unsigned i = 0; i < 2; i++) {
        writes[i] = run_of(1);
        writes[i].page += i;
        writes[i].contents = contents[i];
        writes[i].version = 70;
        backing_write_send(lane, &writes[i], soon());
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(backing_write_receive(lane, &writes[i], soon()), 0);
        assert_memory_equal(rig.data + 4096 * i, contents[i], 4096);
    }
    stop(lane);
}

// Shortage of memory is this machine's: the lane is given up, the next run works.
static void the_sink_fails(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    data_pages(1, 16);
    static const int errors[] = {-ENOMEM, -ENOSPC, -EIO, -EFAULT};
    for (int i = 0; i < 8; i++) {
        rig.with_address = i < 4;
        rig.place_error = i < 4 ? errors[i] : 0;
        rig.fill_error = i < 4 ? 0 : errors[i - 4];
        struct backing_run run = run_of(16);
        assert_int_equal(read_run(lane, &run, soon()), -ENOMEM);
        rig.place_error = rig.fill_error = 0;
        run = run_of(16);
        assert_int_equal(read_run(lane, &run, soon()), 0);
        expect_delivered(16, 16);
    }
    stop(lane);
}

static void deadlines_and_the_end(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    struct backing_run run = run_of(1);
    atomic_store(&rig.stopping, 1); // no keeper any more
    (void)atomic_fetch_add(&rig.backing.broken, 1);
    sync_wake(&rig.backing.broken, INT32_MAX);
    (void)pthread_join(rig.keeper, NULL);
    backing_lane_down(lane);
    assert_int_equal(read_run(lane, &run, sync_after_ms(20)), -ETIMEDOUT);
    assert_null(backing_try(&rig.backing, BACKING_FAULT)); // it is ours
    assert_null(backing_take(&rig.backing, BACKING_FAULT, sync_after_ms(5)));
    assert_null(backing_take(&rig.backing, BACKING_BULK, sync_after_ms(5)));
    atomic_store(&rig.backing.stopping, 1);
    assert_int_equal(read_run(lane, &run, SYNC_FOR_EVER), -ECANCELED);
    assert_null(backing_take(&rig.backing, BACKING_FAULT, SYNC_FOR_EVER));
    backing_give(lane);
    assert_non_null(backing_try(&rig.backing, BACKING_FAULT));
    lane_destroy(&rig.backing.lanes[0].lane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(writes),
        cmocka_unit_test(cuts_are_mended),
        cmocka_unit_test(a_lane_that_is_down_is_waited_for),
        cmocka_unit_test(statuses_of_reads),
        cmocka_unit_test(statuses_of_writes),
        cmocka_unit_test(a_late_acknowledgement_is_asked_for_again),
        cmocka_unit_test(what_a_past_epoch_met_is_past),
        cmocka_unit_test(not_now_is_not_asked_in_a_loop),
        cmocka_unit_test(answers_are_not_believed),
        cmocka_unit_test(answers_are_not_mixed_up),
        cmocka_unit_test(the_sink_fails),
        cmocka_unit_test(deadlines_and_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
