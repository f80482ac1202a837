// SPDX-License-Identifier: Apache-2.0
//
// Replacement and read-ahead: page numbers in, page numbers out. Replacement is held against a model that is too slow and
// too simple to be wrong; read-ahead against the bounds that the product promises.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "libdsm/policy/read_ahead.h"
#include "libdsm/policy/replacement.h"

static uint64_t seed;

static uint64_t below(uint64_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % bound;
}

// ---- replacement ----

static void free_list(void **state)
{
    (void)state;
    struct frame frames[3] = {0};
    struct replacement r;
    replacement_start(&r, frames, 3);
    assert_int_equal(replacement_sweep(&r), FRAME_NONE);
    uint32_t a = replacement_add(&r, 1, 10);
    uint32_t b = replacement_add(&r, 2, UINT64_MAX);
    uint32_t c = replacement_add(&r, 3, 0);
    assert_int_equal(replacement_add(&r, 4, 13), FRAME_NONE);
    assert_true(a != b && b != c && a != c);
    assert_true(frames[b].segment == 2 && frames[b].page == UINT64_MAX && frames[b].used);
    replacement_remove(&r, b);
    assert_false(frames[b].used);
    assert_int_equal(replacement_add(&r, 5, 14), b);
    assert_int_equal(replacement_add(&r, 5, 15), FRAME_NONE);
    replacement_start(&r, frames, 0);
    assert_int_equal(replacement_add(&r, 1, 1), FRAME_NONE);
    assert_int_equal(replacement_sweep(&r), FRAME_NONE);
}

static void assert_aged(const struct replacement *r, const uint32_t *expected, int count)
{
    uint32_t frame = FRAME_NONE;
    for (int i = 0; i < count; i++) {
        frame = replacement_next_aged(r, frame);
        assert_int_equal(frame, expected[i]);
    }
    assert_int_equal(replacement_next_aged(r, frame), FRAME_NONE);
}

static void aged_in_the_order_aged(void **state)
{
    (void)state;
    struct frame frames[5] = {0};
    struct replacement r;
    uint32_t f[5];
    replacement_start(&r, frames, 5);
    for (int i = 0; i < 5; i++) {
        f[i] = replacement_add(&r, 0, (uint64_t)i);
    }
    assert_aged(&r, NULL, 0);
    replacement_age(&r, f[3]);
    replacement_age(&r, f[0]);
    replacement_age(&r, f[4]);
    assert_aged(&r, (uint32_t[]){f[3], f[0], f[4]}, 3);
    replacement_age(&r, f[3]); // again: to the end
    assert_aged(&r, (uint32_t[]){f[0], f[4], f[3]}, 3);
    replacement_unage(&r, f[4]); // from the middle
    replacement_unage(&r, f[4]); // twice is once
    assert_aged(&r, (uint32_t[]){f[0], f[3]}, 2);
    replacement_remove(&r, f[0]); // the head
    replacement_age(&r, f[1]);
    assert_aged(&r, (uint32_t[]){f[3], f[1]}, 2);
    replacement_unage(&r, f[1]); // the tail
    replacement_age(&r, f[2]);
    assert_aged(&r, (uint32_t[]){f[3], f[2]}, 2);
    assert_int_equal(replacement_add(&r, 0, 9), f[0]); // a frame used again is not aged
    assert_aged(&r, (uint32_t[]){f[3], f[2]}, 2);
}

static void the_clock_goes_round(void **state)
{
    (void)state;
    struct frame frames[4] = {0};
    struct replacement r;
    replacement_start(&r, frames, 4);
    for (uint64_t i = 0; i < 4; i++) {
        (void)replacement_add(&r, 0, i);
    }
    for (uint32_t i = 0; i < 9; i++) {
        assert_int_equal(replacement_sweep(&r), i % 4);
    }
    replacement_remove(&r, 2); // the hand stands at 1
    assert_int_equal(replacement_sweep(&r), 1);
    assert_int_equal(replacement_sweep(&r), 3);
    assert_int_equal(replacement_sweep(&r), 0);
}

enum { MODEL_FRAMES = 37 };

struct model {
    bool used[MODEL_FRAMES];
    uint64_t page[MODEL_FRAMES];
    uint32_t aged[MODEL_FRAMES]; // in order
    int aged_count;
    uint32_t hand;
    uint32_t in_use;
};

static void model_unage(struct model *m, uint32_t frame)
{
    for (int i = 0; i < m->aged_count; i++) {
        if (m->aged[i] == frame) {
            memmove(&m->aged[i], &m->aged[i + 1],
                    (size_t)(m->aged_count - i - 1) * sizeof m->aged[0]);
            m->aged_count--;
            return;
        }
    }
}

static uint32_t model_sweep(struct model *m)
{
    for (int i = 0; i < MODEL_FRAMES; i++) {
        uint32_t at = m->hand;
        m->hand = (m->hand + 1) % MODEL_FRAMES;
        if (m->used[at]) {
            return at;
        }
    }
    return FRAME_NONE;
}

static void step(struct model *m, struct replacement *r, uint64_t page)
{
    uint32_t frame = (uint32_t)below(MODEL_FRAMES);
    switch (below(6)) {
    case 0:
    case 1:
        frame = replacement_add(r, 7, page);
        assert_int_equal(frame == FRAME_NONE, m->in_use == MODEL_FRAMES);
        if (frame != FRAME_NONE) {
            assert_false(m->used[frame]);
            m->used[frame] = true;
            m->page[frame] = page;
            m->in_use++;
        }
        break;
    case 2:
        if (m->used[frame]) {
            replacement_remove(r, frame);
            model_unage(m, frame);
            m->used[frame] = false;
            m->in_use--;
        }
        break;
    case 3:
        if (m->used[frame]) {
            replacement_age(r, frame);
            model_unage(m, frame);
            m->aged[m->aged_count++] = frame;
        }
        break;
    case 4:
        replacement_unage(r, frame);
        model_unage(m, frame);
        break;
    default:
        assert_int_equal(replacement_sweep(r), model_sweep(m));
    }
}

static void random_steps_against_a_model(void **state)
{
    (void)state;
    for (uint64_t s = 1; s <= 20; s++) {
        struct frame frames[MODEL_FRAMES] = {0};
        struct replacement r;
        struct model m = {0};
        seed = s * 0x9e3779b97f4a7c15u;
        replacement_start(&r, frames, MODEL_FRAMES);
        for (uint64_t i = 0; i < 2000; i++) {
            step(&m, &r, i);
            assert_aged(&r, m.aged, m.aged_count);
            assert_int_equal(r.in_use, m.in_use);
            for (int f = 0; f < MODEL_FRAMES; f++) {
                assert_int_equal(frames[f].used, m.used[f]);
                assert_true(!m.used[f] || (frames[f].page == m.page[f] && frames[f].segment == 7));
            }
        }
    }
}

// ---- read-ahead ----

enum { MOST = 256, PAGES = 65536 };

static void a_sequential_scan_takes_few_runs(void **state)
{
    (void)state;
    static const uint32_t most[] = {256, 64, 32};
    for (size_t m = 0; m < sizeof most / sizeof most[0]; m++) {
        struct read_ahead r;
        read_ahead_start(&r);
        unsigned runs = 0;
        for (uint64_t page = 0; page < PAGES; runs++) {
            uint32_t n = read_ahead_window(&r, page, most[m]);
            assert_in_range(n, 1, most[m]);
            page += n;
        }
        assert_in_range(runs, 1, PAGES / 32 + 8); // doubling up to there takes a few
        assert_true(most[m] == 32 || runs <= PAGES / 32);
    }
}

static void random_pages_cost_one(void **state)
{
    (void)state;
    struct read_ahead r;
    uint64_t fetched = 0;
    enum { FAULTS = 100000 };
    read_ahead_start(&r);
    seed = 42;
    for (int i = 0; i < FAULTS; i++) {
        fetched += read_ahead_window(&r, below(PAGES), MOST);
    }
    assert_in_range(fetched, FAULTS, FAULTS * 11 / 10);
}

// What a scan has built up is gone soon after it ends: random faults that follow do not pay for it.
static void it_shrinks(void **state)
{
    (void)state;
    struct read_ahead r;
    read_ahead_start(&r);
    uint64_t page = 0;
    while (page < 4096) {
        page += read_ahead_window(&r, page, MOST);
    }
    uint64_t fetched = 0;
    seed = 7;
    for (int i = 0; i < 1000; i++) {
        fetched += read_ahead_window(&r, below(PAGES), MOST);
    }
    assert_in_range(fetched, 1000, 1100 + 2 * MOST);
}

static void sixteen_streams_side_by_side(void **state)
{
    (void)state;
    struct read_ahead r;
    uint64_t at[READ_AHEAD_STREAMS];
    read_ahead_start(&r);
    for (uint64_t s = 0; s < READ_AHEAD_STREAMS; s++) {
        at[s] = s << 32;
    }
    seed = 3;
    for (int round = 0; round < 12; round++) {
        uint64_t first = below(READ_AHEAD_STREAMS); // not always in the same order
        for (uint64_t i = 0; i < READ_AHEAD_STREAMS; i++) {
            uint64_t s = (first + i) % READ_AHEAD_STREAMS;
            uint32_t n = read_ahead_window(&r, at[s], MOST);
            assert_int_equal(n, round < 8 ? 1 << round : MOST);
            at[s] += n;
        }
    }
}

// A run that ends early (the next page is in already) goes on right behind it.
static void a_trimmed_run_goes_on(void **state)
{
    (void)state;
    struct read_ahead r;
    read_ahead_start(&r);
    assert_int_equal(read_ahead_window(&r, 0, MOST), 1);
    assert_int_equal(read_ahead_window(&r, 1, MOST), 2);
    assert_int_equal(read_ahead_window(&r, 3, MOST), 4);
    read_ahead_trim(&r, 2);
    assert_int_equal(read_ahead_window(&r, 5, MOST), 8);
    assert_int_equal(read_ahead_window(&r, 13 + 3, MOST), 16); // some pages were in
    assert_int_equal(read_ahead_window(&r, 31, MOST), 1);      // backwards is no stream
    assert_int_equal(read_ahead_window(&r, UINT64_MAX - 1, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_list),
        cmocka_unit_test(aged_in_the_order_aged),
        cmocka_unit_test(the_clock_goes_round),
        cmocka_unit_test(random_steps_against_a_model),
        cmocka_unit_test(a_sequential_scan_takes_few_runs),
        cmocka_unit_test(random_pages_cost_one),
        cmocka_unit_test(it_shrinks),
        cmocka_unit_test(sixteen_streams_side_by_side),
        cmocka_unit_test(a_trimmed_run_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
