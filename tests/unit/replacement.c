// SPDX-License-Identifier: Apache-2.0
//
// Replacement: page numbers in, page numbers out, held against a model that is too slow and too simple to be wrong.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "libdsm/policy/replacement.h"

static uint64_t seed;

static uint64_t below(uint64_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % bound;
}

static void free_list(void **state)
{
    (void)state;
    struct frame frames[3] = {0};
    struct replacement r;
    replacement_start(&r, frames, 3);
    assert_int_equal(replacement_sweep(&r), FRAME_NONE);
    uint32_t a = replacement_add(&r, 1, 10, 0);
    uint32_t b = replacement_add(&r, 2, UINT64_MAX, 0);
    uint32_t c = replacement_add(&r, 3, 0, 0);
    assert_int_equal(replacement_add(&r, 4, 13, 0), FRAME_NONE);
    assert_true(a != b && b != c && a != c);
    assert_true(frames[b].segment == 2 && frames[b].page == UINT64_MAX && frame_used(&frames[b]));
    replacement_remove(&r, b);
    assert_false(frame_used(&frames[b]));
    assert_int_equal(replacement_add(&r, 5, 14, 0), b);
    assert_int_equal(replacement_add(&r, 5, 15, 0), FRAME_NONE);
    replacement_start(&r, frames, 0);
    assert_int_equal(replacement_add(&r, 1, 1, 0), FRAME_NONE);
    assert_int_equal(replacement_sweep(&r), FRAME_NONE);
}

// A cache of 16 TiB costs what is used of it: the rest of the table, which is not even there, is never looked at.
static void frames_never_used_are_not_touched(void **state)
{
    (void)state;
    struct frame frames[2];
    struct replacement r;
    replacement_start(&r, frames, UINT32_MAX - 1);
    for (uint64_t turn = 0; turn < 100; turn++) {
        uint32_t a = replacement_add(&r, 1, turn, 0);
        uint32_t b = replacement_add(&r, 1, turn + 1, 0);
        assert_true(a + b == 1);
        assert_true(replacement_sweep(&r) != replacement_sweep(&r));
        replacement_remove(&r, a);
        replacement_remove(&r, b);
        assert_int_equal(replacement_sweep(&r), FRAME_NONE);
    }
    assert_int_equal(r.count, 2);
}

static void assert_aged(const struct replacement *r, const uint32_t *expected, int count)
{
    uint32_t frame = r->head[QUEUE_AGED];
    for (int i = 0; i < count; i++) {
        assert_int_equal(frame, expected[i]);
        frame = r->frames[frame].next;
    }
    assert_int_equal(frame, FRAME_NONE);
    assert_int_equal(r->length[QUEUE_AGED], count);
}

static void aged_in_the_order_aged(void **state)
{
    (void)state;
    struct frame frames[5] = {0};
    struct replacement r;
    uint32_t f[5];
    replacement_start(&r, frames, 5);
    for (int i = 0; i < 5; i++) {
        f[i] = replacement_add(&r, 0, (uint64_t)i, 0);
    }
    assert_aged(&r, NULL, 0);
    replacement_age(&r, f[3]);
    replacement_age(&r, f[0]);
    replacement_age(&r, f[4]);
    assert_aged(&r, (uint32_t[]){f[3], f[0], f[4]}, 3);
    replacement_age(&r, f[3]); // again: to the end
    assert_aged(&r, (uint32_t[]){f[0], f[4], f[3]}, 3);
    replacement_remove(&r, f[4]); // from the middle
    assert_aged(&r, (uint32_t[]){f[0], f[3]}, 2);
    replacement_remove(&r, f[0]); // the head
    replacement_age(&r, f[1]);
    assert_aged(&r, (uint32_t[]){f[3], f[1]}, 2);
    replacement_remove(&r, f[1]); // the tail
    replacement_age(&r, f[2]);
    assert_aged(&r, (uint32_t[]){f[3], f[2]}, 2);
    assert_int_equal(replacement_add(&r, 0, 9, 0), f[4]); // a frame used again is not aged
    assert_aged(&r, (uint32_t[]){f[3], f[2]}, 2);
}

static void the_clock_goes_round(void **state)
{
    (void)state;
    struct frame frames[4] = {0};
    struct replacement r;
    replacement_start(&r, frames, 4);
    for (uint64_t i = 0; i < 4; i++) {
        (void)replacement_add(&r, 0, i, 0);
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
    switch (below(5)) {
    case 0:
    case 1:
        frame = replacement_add(r, 7, page, 0);
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
                assert_int_equal(frame_used(&frames[f]), m.used[f]);
                assert_true(!m.used[f] || (frames[f].page == m.page[f] && frames[f].segment == 7));
            }
        }
    }
}

// Pages 0, 1, ... that are open or closed, or not to be had.
struct stage {
    struct replacement r;
    struct frame frames[MODEL_FRAMES];
    bool open[1 << 12], kept[1 << 12];
    unsigned looks;
    unsigned enough; // so many looks; 0: no end
};

static enum replacement_view look(void *context, uint32_t frame, bool aged)
{
    struct stage *s = context;
    uint64_t page = s->frames[frame].page;
    if (s->enough > 0 && s->looks == s->enough) {
        return REPLACEMENT_STOP;
    }
    s->looks++;
    assert_true(frame_used(&s->frames[frame]));
    if (s->kept[page]) {
        return REPLACEMENT_SKIP;
    }
    if (s->open[page] && !aged) {
        s->open[page] = false;
        return REPLACEMENT_PASS;
    }
    return REPLACEMENT_TAKE;
}

// The page whose frame was taken, or UINT64_MAX.
static uint64_t take(struct stage *s)
{
    uint32_t frame = replacement_choose(&s->r, look, s, UINT32_MAX);
    if (frame == FRAME_NONE) {
        return UINT64_MAX;
    }
    uint64_t page = s->frames[frame].page;
    replacement_remove(&s->r, frame);
    return page;
}

static void bring(struct stage *s, uint64_t page)
{
    if (s->r.in_use == MODEL_FRAMES) {
        assert_true(take(s) != UINT64_MAX);
    }
    assert_true(replacement_add(&s->r, 0, page, 0) != FRAME_NONE);
    s->open[page] = true;
}

static void fill(struct stage *s)
{
    *s = (struct stage){.looks = 0};
    replacement_start(&s->r, s->frames, MODEL_FRAMES);
    for (uint64_t page = 0; page < MODEL_FRAMES; page++) {
        bring(s, page);
    }
}

static uint32_t frame_of(const struct stage *s, uint64_t page)
{
    for (uint32_t i = 0; i < MODEL_FRAMES; i++) {
        if (frame_used(&s->frames[i]) && s->frames[i].page == page) {
            return i;
        }
    }
    return FRAME_NONE;
}

static void hit(struct stage *s, uint64_t page)
{
    if (!s->open[page]) {
        replacement_touched(&s->r, frame_of(s, page), false);
        s->open[page] = true;
    }
}

// Eight pages that are touched again and again stay in while a scan of a thousand passes by.
static void a_scan_passes_by(void **state)
{
    (void)state;
    enum { HOT = 8 };
    static struct stage s;
    s = (struct stage){.looks = 0};
    replacement_start(&s.r, s.frames, MODEL_FRAMES);
    unsigned lost = 0;
    for (uint64_t page = HOT; page < 1000; page++) {
        bring(&s, page);
        for (uint64_t hot = 0; hot < HOT; hot++) {
            if (frame_of(&s, hot) == FRAME_NONE) {
                assert_true(page < 4 * MODEL_FRAMES); // until they had their probation
                lost++;
                bring(&s, hot);
            }
            hit(&s, hot);
        }
    }
    assert_in_range(lost, HOT, 2 * HOT);
    for (uint64_t hot = 0; hot < HOT; hot++) {
        assert_int_equal(s.frames[frame_of(&s, hot)].queue, QUEUE_MAIN);
    }
}

// While memory is free nothing is looked at; a choice looks at few pages; aged ones go first, kept ones never.
static void what_a_choice_does(void **state)
{
    (void)state;
    static struct stage s;
    fill(&s);
    assert_int_equal(s.looks, 0);
    replacement_age(&s.r, frame_of(&s, 30));
    replacement_age(&s.r, frame_of(&s, 20));
    assert_int_equal(take(&s), 30);
    assert_int_equal(take(&s), 20);
    s.looks = 0;
    assert_int_equal(take(&s), 0); // the oldest, untouched on probation
    assert_in_range(s.looks, 1, 4);
    for (uint64_t page = 0; page < MODEL_FRAMES; page++) {
        s.kept[page] = page != 17;
    }
    assert_int_equal(take(&s), 17);
    s.looks = 0;
    assert_int_equal(take(&s), UINT64_MAX);
    assert_in_range(s.looks, MODEL_FRAMES / 2, 10 * MODEL_FRAMES);
    assert_int_equal(replacement_choose(&s.r, look, &s, 3), FRAME_NONE);
    s.kept[5] = false;
    assert_int_equal(take(&s), 5);
}

// A choice that is told that it is enough ends there: nothing more is closed, or moved.
static void enough_is_enough(void **state)
{
    (void)state;
    static struct stage s;
    for (unsigned enough = 1; enough < MODEL_FRAMES; enough++) {
        fill(&s);
        replacement_age(&s.r, frame_of(&s, 7));
        for (uint64_t page = 0; page < MODEL_FRAMES; page++) {
            s.kept[page] = true;
        }
        s.enough = enough;
        assert_int_equal(take(&s), UINT64_MAX);
        assert_int_equal(s.looks, enough);
        assert_int_equal(take(&s), UINT64_MAX);
        assert_int_equal(s.looks, enough);
        assert_int_equal(s.r.length[QUEUE_AGED], 1);
        assert_in_range(s.r.length[QUEUE_PROBATION], 0, 2); // what was trimmed before
    }
}

// First touches of what came ahead do not count as second ones.
static void a_late_first_touch_is_a_first(void **state)
{
    (void)state;
    static struct stage s;
    fill(&s);
    assert_int_equal(take(&s), 0);
    uint32_t one = frame_of(&s, 1);
    assert_int_equal(s.frames[one].queue, QUEUE_PROBATION);
    replacement_touched(&s.r, one, true);
    assert_int_equal(s.frames[one].queue, QUEUE_NEW);
    assert_int_equal(take(&s), 2);
    uint32_t three = frame_of(&s, 3);
    replacement_touched(&s.r, three, false);
    assert_int_equal(s.frames[three].queue, QUEUE_MAIN);
    replacement_touched(&s.r, three, true); // where it is not on probation, it stays
    assert_int_equal(s.frames[three].queue, QUEUE_MAIN);
}

// Whatever happens, each frame is in the queue that it says, once.
static void queues_hold_together(void **state)
{
    (void)state;
    static struct stage s;
    s = (struct stage){.looks = 0};
    seed = 99;
    replacement_start(&s.r, s.frames, MODEL_FRAMES);
    for (int i = 0; i < 20000; i++) {
        uint64_t page = below(80);
        uint32_t frame = frame_of(&s, page);
        if (frame == FRAME_NONE) {
            bring(&s, page);
        } else if (below(20) == 0) {
            replacement_age(&s.r, frame);
        } else {
            hit(&s, page);
        }
        uint32_t seen = 0;
        for (int q = 0; q < QUEUE_COUNT; q++) {
            uint32_t n = 0;
            uint32_t before = FRAME_NONE;
            for (uint32_t f = s.r.head[q]; f != FRAME_NONE; f = s.frames[f].next) {
                assert_int_equal(s.frames[f].queue, q);
                assert_int_equal(s.frames[f].previous, before);
                before = f;
                n++;
            }
            assert_int_equal(s.r.tail[q], before);
            assert_int_equal(s.r.length[q], n);
            seen += n;
        }
        assert_int_equal(seen, s.r.count);
    }
    assert_int_equal(s.r.count, MODEL_FRAMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_never_used_are_not_touched),
        cmocka_unit_test(free_list),
        cmocka_unit_test(aged_in_the_order_aged),
        cmocka_unit_test(the_clock_goes_round),
        cmocka_unit_test(random_steps_against_a_model),
        cmocka_unit_test(a_scan_passes_by),
        cmocka_unit_test(what_a_choice_does),
        cmocka_unit_test(enough_is_enough),
        cmocka_unit_test(a_late_first_touch_is_a_first),
        cmocka_unit_test(queues_hold_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
