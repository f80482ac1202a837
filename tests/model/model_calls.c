// SPDX-License-Identifier: Apache-2.0
//
// The reference's other half: the calls on intervals. A call notes of each of its pages what it may write before the
// library is asked, and what it wrote when the answer is there.
//
// A call that fails names a page, and the model must know a reason for it there: a pin, read-only, no backing. What it did
// to the pages before that one depends on the call. dsm_swap_in() and dsm_clean() are done with them. The others look at all
// pages first, and change nothing when they find a reason; but one that comes up after that ends them where it is: so the
// pages before it may have been changed, and those from it on have not.
#include <errno.h>

#include "tests/model/model.h"

enum { DATA_CHANGED = 1 << DSM_DATA_CHANGED, DATA_UNDEFINED = 1 << DSM_DATA_UNDEFINED };

_Atomic uint64_t model_failed_calls;
_Atomic uint64_t model_given_up;
static __thread struct model_call calls[MODEL_PAGES_MOST];

static void at_least(_Atomic uint64_t *what, uint64_t value)
{
    uint64_t before = atomic_load(what);
    while (before < value && !atomic_compare_exchange_weak(what, &before, value)) {
    }
}

bool model_may_be_pinned(const struct model_page *p)
{
    uint64_t gone = atomic_load(&p->unpins_done);
    return atomic_load(&p->pins_begun) != gone;
}

void model_call_begin(const struct model_page *p, struct model_call *c)
{
    c->held = atomic_load(&p->pins_done);
    c->pins = atomic_load(&p->pins_begun);
    c->pinned = model_may_be_pinned(p);
    c->data_floor = model_register_floor(&p->data);
    c->read_only_floor = model_register_floor(&p->read_only);
}

bool model_had_none(const struct model_page *p, const struct model_call *c)
{
    return model_register_may_be(&p->data, DSM_DATA_NONE, c->data_floor);
}

static bool had_pin(const struct model_page *p, const struct model_call *c)
{
    return c->pinned || atomic_load(&p->pins_begun) != c->pins;
}

void model_kill_begin(struct model_page *p, struct model_call *c)
{
    for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
        c->done[i] = atomic_load(&p->words[i].done);
    }
    (void)atomic_fetch_add(&p->killing, 1);
}

// sure: the stores from before it are gone; else they may be.
void model_kill_end(struct model_page *p, const struct model_call *c, bool sure)
{
    at_least(&p->kill_ended, model_now());
    for (uint32_t i = 0; i < MODEL_SLOTS && sure; i++) {
        at_least(&p->words[i].dead, c->done[i]);
    }
    (void)atomic_fetch_sub(&p->killing, 1);
}

static struct model_page *page_of(dsm_interval interval, uint64_t i)
{
    return &model_pages[interval.page + i];
}

// How many of the interval's pages come before the one that the error names.
static uint64_t before_failed(dsm_interval interval, int error, const char *what)
{
    if (error == 0) {
        return interval.count;
    }
    uint64_t named = dsm_error()->page;
    MODEL_CHECK(named >= interval.page && named - interval.page < interval.count,
                "%s of [%lu, +%lu): %d, which names page %lu", what, interval.page, interval.count,
                error, named);
    return named - interval.page;
}

static void check_reason(dsm_interval interval, uint64_t i, int error, bool known, const char *what)
{
    MODEL_CHECK(known, "%s of [%lu, +%lu): %d at page %lu, without a reason", what, interval.page,
                interval.count, error, interval.page + i);
}

// ---- swap-ins ----

static void begin_swap_in(struct model_page *p, unsigned flags, struct model_call *c)
{
    bool kill = (flags & DSM_KILL) != 0;
    bool write = (flags & DSM_WRITE) != 0;
    model_call_begin(p, c);
    c->data = (kill ? DATA_UNDEFINED : 0U) | (kill || write ? DATA_CHANGED : 0U);
    c->dirty = (kill ? 1 : 0) | (kill || write ? 1 << 1 : 0);
    if (kill) {
        model_kill_begin(p, c);
    }
    c->data_begun = model_register_begin(&p->data, c->data);
    c->dirty_begun = model_register_begin(&p->dirty, c->dirty);
    if ((flags & DSM_PIN) != 0) {
        (void)atomic_fetch_add(&p->pins_begun, 1);
    }
}

static void unpinned_again(struct model_page *p)
{
    (void)atomic_fetch_add(&p->unpins_begun, 1);
    (void)atomic_fetch_add(&p->pins_done, 1);
    (void)atomic_fetch_add(&p->unpins_done, 1);
}

// The page was not reached.
static void no_swap_in(struct model_page *p, unsigned flags, const struct model_call *c)
{
    model_register_end(&p->dirty, c->dirty, 0, c->dirty_begun);
    model_register_end(&p->data, c->data, 0, c->data_begun);
    if ((flags & DSM_KILL) != 0) {
        (void)atomic_fetch_sub(&p->killing, 1);
    }
    if ((flags & DSM_PIN) != 0) {
        unpinned_again(p);
    }
}

// A killed page that somebody has pinned for stores stays changed.
static void end_swap_in(struct model_page *p, unsigned flags, bool keeps_pin,
                        const struct model_call *c)
{
    uint64_t own_pins = (flags & DSM_PIN) != 0;
    bool pinned = c->pinned || atomic_load(&p->pins_begun) != c->pins + own_pins;
    bool write = (flags & DSM_WRITE) != 0;
    bool kill = (flags & DSM_KILL) != 0;
    unsigned killed = DATA_UNDEFINED | (pinned ? DATA_CHANGED : 0U);
    unsigned data = write ? DATA_CHANGED : kill ? killed : 0U;
    unsigned dirty = write ? 1 << 1 : kill ? (pinned ? 3 : 1) : 0;
    MODEL_CHECK((!kill && !write) || model_register_may_be(&p->read_only, 0, c->read_only_floor),
                "page %lu is read-only, and dsm_swap_in() with flags %u is done with it",
                (uint64_t)(p - model_pages), flags);
    if (own_pins != 0 && !keeps_pin) {
        unpinned_again(p);
    } else {
        (void)atomic_fetch_add(&p->pins_done, own_pins);
    }
    if (write) {
        atomic_store(&p->unsent, false);
    }
    model_register_end(&p->dirty, c->dirty, dirty, c->dirty_begun);
    model_register_end(&p->data, c->data, data, c->data_begun);
    if (kill) {
        model_kill_end(p, c, true);
    }
}

bool model_checked_swap_in(dsm_interval interval, unsigned flags, uint64_t next_page)
{
    bool stores = (flags & (DSM_KILL | DSM_WRITE)) != 0;
    for (uint64_t i = 0; i < interval.count; i++) {
        begin_swap_in(page_of(interval, i), flags, &calls[i]);
    }
    int error = dsm_swap_in(model_segment, interval, flags, next_page);
    uint64_t done = before_failed(interval, error, "swap-in");
    if (error != 0) {
        const struct model_page *p = page_of(interval, done);
        bool known = error == -EFAULT
                         ? model_had_none(p, &calls[done])
                         : error == -EROFS && stores &&
                               model_register_may_be(&p->read_only, 1, calls[done].read_only_floor);
        check_reason(interval, done, error, known, "swap-in");
        (void)atomic_fetch_add(&model_failed_calls, 1);
    }
    for (uint64_t i = 0; i < interval.count; i++) {
        if (i < done) {
            end_swap_in(page_of(interval, i), flags, error == 0, &calls[i]);
        } else {
            no_swap_in(page_of(interval, i), flags, &calls[i]);
        }
    }
    return error == 0;
}

void model_checked_unpin(dsm_interval interval)
{
    for (uint64_t i = 0; i < interval.count; i++) {
        (void)atomic_fetch_add(&page_of(interval, i)->unpins_begun, 1);
    }
    MODEL_OK(dsm_unpin(model_segment, interval));
    for (uint64_t i = 0; i < interval.count; i++) {
        (void)atomic_fetch_add(&page_of(interval, i)->unpins_done, 1);
    }
}

// ---- clean, age ----

// Pages that nobody had pinned are clean when it is over, but for stores meanwhile.
void model_checked_clean(dsm_interval interval)
{
    uint64_t passed_over = UINT64_MAX;
    uint64_t pinned = 0;
    for (uint64_t i = 0; i < interval.count; i++) {
        model_call_begin(page_of(interval, i), &calls[i]);
        calls[i].dirty_begun = model_register_begin(&page_of(interval, i)->dirty, 1);
    }
    int error = dsm_clean(model_segment, interval, &passed_over);
    uint64_t done = before_failed(interval, error, "clean");
    if (error != 0) {
        check_reason(interval, done, error,
                     error == -EFAULT && model_had_none(page_of(interval, done), &calls[done]),
                     "clean");
    }
    for (uint64_t i = 0; i < interval.count; i++) {
        bool certain = i < done && !had_pin(page_of(interval, i), &calls[i]);
        model_register_end(&page_of(interval, i)->dirty, 1, certain ? 1 : 0, calls[i].dirty_begun);
        pinned += i < done && !certain;
    }
    MODEL_CHECK(passed_over <= pinned, "clean of [%lu, +%lu): %lu passed over, %lu pinned at most",
                interval.page, interval.count, passed_over, pinned);
}

void model_checked_age(dsm_interval interval)
{
    for (uint64_t i = 0; i < interval.count; i++) {
        model_call_begin(page_of(interval, i), &calls[i]);
    }
    int error = dsm_age(model_segment, interval);
    uint64_t done = before_failed(interval, error, "age");
    if (error != 0) {
        check_reason(interval, done, error,
                     error == -EFAULT && model_had_none(page_of(interval, done), &calls[done]),
                     "age");
    }
}

// ---- data states, read-only ----

static void begin_set_data(struct model_page *p, enum dsm_data data, struct model_call *c)
{
    bool gives_up = data == DSM_DATA_NONE || data == DSM_DATA_UNDEFINED;
    model_call_begin(p, c);
    c->data = 1U << data;
    c->dirty = gives_up ? 1 : 0;
    c->read_only = data == DSM_DATA_NONE ? 1 : 0; // it ends with the page
    if (gives_up) {
        model_kill_begin(p, c);
    }
    c->data_begun = model_register_begin(&p->data, c->data);
    c->dirty_begun = model_register_begin(&p->dirty, c->dirty);
    c->read_only_begun = model_register_begin(&p->read_only, c->read_only);
}

enum certainty { NOT_DONE, PERHAPS, DONE };

static void end_register(struct model_register *r, unsigned values, uint64_t begun,
                         enum certainty certainty)
{
    model_register_end(r, values, certainty == NOT_DONE ? 0 : values,
                       certainty == DONE ? begun : 0);
}

static void end_call(struct model_page *p, const struct model_call *c, enum certainty certainty)
{
    end_register(&p->read_only, c->read_only, c->read_only_begun, certainty);
    end_register(&p->dirty, c->dirty, c->dirty_begun, certainty);
    end_register(&p->data, c->data, c->data_begun, certainty);
}

static void end_set_data(struct model_page *p, enum dsm_data data, const struct model_call *c,
                         enum certainty certainty)
{
    bool gives_up = data == DSM_DATA_NONE || data == DSM_DATA_UNDEFINED;
    if (!gives_up && certainty != NOT_DONE &&
        model_register_may_be(&p->data, DSM_DATA_UNDEFINED, c->data_floor)) {
        atomic_store(&p->unsent, true);
    }
    end_call(p, c, certainty);
    if (gives_up && certainty != NOT_DONE) {
        model_kill_end(p, c, certainty == DONE);
    } else if (gives_up) {
        (void)atomic_fetch_sub(&p->killing, 1);
    }
    if (data == DSM_DATA_NONE) {
        (void)atomic_fetch_add(&model_given_up, 1);
    }
}

// How far it came, after a check that this is as it must be. Nobody may change a page that others have pinned all the while.
static uint64_t judge(dsm_interval interval, int error, bool none_allowed, const char *what)
{
    uint64_t done = before_failed(interval, error, what);
    if (error != 0) {
        const struct model_page *p = page_of(interval, done);
        bool known = error == -EBUSY
                         ? had_pin(p, &calls[done])
                         : error == -EFAULT && !none_allowed && model_had_none(p, &calls[done]);
        check_reason(interval, done, error, known, what);
    }
    for (uint64_t i = 0; i < interval.count && error == 0; i++) {
        MODEL_CHECK(calls[i].held <= atomic_load(&page_of(interval, i)->unpins_begun),
                    "%s of page %lu, which is pinned", what, interval.page + i);
    }
    return done;
}

static enum certainty how_certain(uint64_t i, uint64_t done, int error)
{
    return error == 0 ? DONE : i < done ? PERHAPS : NOT_DONE;
}

void model_checked_set_data(dsm_interval interval, enum dsm_data data)
{
    bool none_allowed = data == DSM_DATA_NONE || data == DSM_DATA_UNDEFINED;
    for (uint64_t i = 0; i < interval.count; i++) {
        begin_set_data(page_of(interval, i), data, &calls[i]);
    }
    int error = dsm_set_data_state(model_segment, interval, data);
    uint64_t done = judge(interval, error, none_allowed, "setting the data state");
    for (uint64_t i = 0; i < interval.count; i++) {
        end_set_data(page_of(interval, i), data, &calls[i], how_certain(i, done, error));
    }
}

void model_checked_protect(dsm_interval interval, bool read_only)
{
    for (uint64_t i = 0; i < interval.count; i++) {
        struct model_page *p = page_of(interval, i);
        model_call_begin(p, &calls[i]);
        calls[i].data = 0;
        calls[i].dirty = 0;
        calls[i].read_only = 1U << read_only;
        calls[i].data_begun = model_now();
        calls[i].dirty_begun = calls[i].data_begun;
        calls[i].read_only_begun = model_register_begin(&p->read_only, calls[i].read_only);
    }
    int error = read_only ? dsm_make_read_only(model_segment, interval)
                          : dsm_make_read_write(model_segment, interval);
    uint64_t done = judge(interval, error, false, "protecting");
    for (uint64_t i = 0; i < interval.count; i++) {
        end_call(page_of(interval, i), &calls[i], how_certain(i, done, error));
    }
}
