// SPDX-License-Identifier: Apache-2.0
//
// A walk is known by where it would go on, whoever's it is: since all pages of a window are in, the next fault of the
// walk comes right behind it (or a little later, where pages were in already). That costs nothing for walks of stride 1,
// and lets any number of them run side by side in one thread. A thread's history is asked only when no stream
// goes on at the page; it finds strides, and walks backwards, once half of the last distances agree.
//
// A window that was confirmed by the fault behind it is trusted: of the next one, as many pages are delivered open.
// The rest stay closed, so that their first touch is seen; each touch opens twice as many as the one before it.
// What is counted as used is therefore at most twice what was seen to be used (and exact where pages are opened one
// by one). Leaving all closed was rejected: a trap for each page costs a third of what fetching it does.
#include "libdsm/policy/read_ahead.h"

enum { FIRST_WINDOW = 4 };

void read_ahead_start(struct read_ahead *r)
{
    *r = (struct read_ahead){0};
    for (int i = 0; i < READ_AHEAD_STREAMS; i++) {
        r->streams[i].next = READ_AHEAD_NO_PAGE;
    }
}

// Steps of `stride` from `from` to `page`; less than 0: it is not on the way.
static int64_t steps(uint64_t from, uint64_t page, int64_t stride)
{
    int64_t distance = (int64_t)(page - from);
    return distance % stride == 0 ? distance / stride : -1;
}

// ---- streams ----

// Does the stream go on here? Or is this a page of a window that nobody asked for and that did not come?
static bool goes_on(const struct read_ahead_stream *s, uint64_t page)
{
    if (s->next == READ_AHEAD_NO_PAGE) {
        return false;
    }
    int64_t beyond = steps(s->next, page, s->stride);
    if (beyond >= 0 && beyond <= s->window / 2) {
        return true;
    }
    int64_t within = steps(s->from, page, s->stride);
    return s->unasked && within >= 0 && within < s->window;
}

static int find(const struct read_ahead *r, uint64_t page)
{
    for (int i = 0; i < READ_AHEAD_STREAMS; i++) {
        if (goes_on(&r->streams[i], page)) {
            return i;
        }
    }
    return -1;
}

static int oldest(const struct read_ahead *r)
{
    int at = 0;
    for (int i = 1; i < READ_AHEAD_STREAMS; i++) {
        if (r->streams[i].used < r->streams[at].used) {
            at = i;
        }
    }
    return at;
}

// ---- histories ----

static struct read_ahead_thread *history_of(struct read_ahead *r, uint32_t thread)
{
    struct read_ahead_thread *oldest_one = &r->threads[0];
    for (int i = 0; i < READ_AHEAD_THREADS; i++) {
        struct read_ahead_thread *t = &r->threads[i];
        if (t->used != 0 && t->thread == thread) {
            return t;
        }
        if (t->used < oldest_one->used) {
            oldest_one = t;
        }
    }
    *oldest_one = (struct read_ahead_thread){.thread = thread};
    return oldest_one;
}

// The distance that more than half of the last `among` have, or 0.
static int64_t majority(const struct read_ahead_thread *t, uint32_t among)
{
    int64_t candidate = 0;
    uint32_t votes = 0;
    for (uint32_t i = 1; i <= among; i++) {
        int64_t d = t->distances[(t->count - i) % READ_AHEAD_HISTORY];
        if (votes == 0) {
            candidate = d;
            votes = 1;
        } else {
            votes += d == candidate ? 1 : UINT32_MAX;
        }
    }
    uint32_t have = 0;
    for (uint32_t i = 1; i <= among; i++) {
        have += t->distances[(t->count - i) % READ_AHEAD_HISTORY] == candidate;
    }
    return 2 * have > among ? candidate : 0;
}

// Which stride most of the thread's last faults have, this one too; 0: none. Where a stream goes on, distances
// are those between windows: they are not noted.
static int64_t trend(struct read_ahead *r, uint32_t thread, uint64_t page, bool known)
{
    struct read_ahead_thread *t = history_of(r, thread);
    int64_t distance = (int64_t)(page - t->last);
    bool first = t->used == 0;
    t->last = page;
    t->used = r->clock;
    if (known || first) {
        return 0;
    }
    t->distances[t->count++ % READ_AHEAD_HISTORY] = distance;
    for (uint32_t among = READ_AHEAD_HISTORY / 2; among <= READ_AHEAD_HISTORY; among *= 2) {
        int64_t stride = t->count >= among ? majority(t, among) : 0;
        if (stride != 0 && stride == distance && stride <= READ_AHEAD_STRIDE_MOST &&
            stride >= -READ_AHEAD_STRIDE_MOST) {
            return stride;
        }
    }
    return 0;
}

// ---- windows ----

static uint32_t bounded(const struct read_ahead *r, uint32_t window, uint32_t before,
                        int64_t stride, uint32_t most)
{
    if (r->wasted > r->used && window > before / 2) {
        window = before / 2;
    }
    if (stride != 1 && stride != -1 && window > READ_AHEAD_STRIDED_MOST) {
        window = READ_AHEAD_STRIDED_MOST;
    }
    window = window > most ? most : window;
    return window == 0 ? 1 : window;
}

// How many of `count` pages from `page` on lie within the segment.
static uint32_t within(uint64_t page, int64_t stride, uint32_t count, uint64_t pages)
{
    if (page >= pages) {
        return 0;
    }
    uint64_t room = stride > 0 ? (pages - 1 - page) / (uint64_t)stride : page / (uint64_t)-stride;
    return room + 1 < count ? (uint32_t)(room + 1) : count;
}

static uint64_t at(uint64_t page, int64_t stride, uint64_t n)
{
    return page + (uint64_t)stride * n;
}

// Rounded up, so that the last one is forgotten, too.
static void forget_a_little(struct read_ahead *r)
{
    r->used -= (r->used + 3) / 4;
    r->wasted -= (r->wasted + 3) / 4;
}

struct read_ahead_plan read_ahead_fault(struct read_ahead *r, uint32_t thread, uint64_t page,
                                        uint32_t most, uint64_t pages)
{
    r->clock++;
    int i = find(r, page);
    bool known = i >= 0;
    int64_t stride = trend(r, thread, page, known);
    i = known ? i : oldest(r);
    struct read_ahead_stream *s = &r->streams[i];
    uint32_t before = known ? s->window : 0;
    bool came = known && steps(s->next, page, s->stride) >= 0; // all of the last window, that is
    uint32_t window = came ? before * 2 : known ? before : stride != 0 ? FIRST_WINDOW : 1;
    if (!known) {
        s->stride = stride != 0 ? stride : 1;
    }
    window = bounded(r, window, known ? before : window, s->stride, most);
    window = within(page, s->stride, window, pages);
    s->before = s->from = page;
    s->next = at(page, s->stride, window);
    s->used = r->clock;
    s->window = window;
    s->step = 1;
    s->unasked = false;
    r->last = i;
    struct read_ahead_plan plan = {
        .page = at(page, s->stride, 1),
        .stride = s->stride,
        .count = window - 1,
        .open = r->wasted > r->used ? 0 : before,
        .marker = window > FIRST_WINDOW ? at(page, s->stride, window / 2) : READ_AHEAD_NO_PAGE,
    };
    s->marker = plan.marker;
    forget_a_little(r);
    return plan;
}

void read_ahead_trim(struct read_ahead *r, uint32_t count)
{
    struct read_ahead_stream *s = &r->streams[r->last];
    s->window = count + 1;
    s->next = at(s->from, s->stride, s->window);
    if (s->marker != READ_AHEAD_NO_PAGE && steps(s->from, s->marker, s->stride) > count) {
        s->marker = READ_AHEAD_NO_PAGE;
    }
}

// Steps into a window at which it is time for the next one: half way, while windows grow. One that grows no more is of a long
// walk: it is asked for early, for where processors are short the walking thread may get none for some milliseconds
// after a page of its was delivered, and a whole window is in by then: nothing would be under way.
static uint32_t marker_step(uint32_t window, uint32_t before)
{
    return window > before ? window / 2 : window / 8;
}

// It is time for the window after the last one.
static struct read_ahead_plan advance(struct read_ahead *r, struct read_ahead_stream *s,
                                      uint32_t most, uint64_t pages)
{
    uint32_t before = s->window;
    uint32_t window = bounded(r, before * 2, before, s->stride, most);
    window = within(s->next, s->stride, window, pages);
    struct read_ahead_plan plan = {
        .page = s->next,
        .stride = s->stride,
        .count = window,
        .open = r->wasted > r->used ? 0 : before,
        .marker = at(s->next, s->stride, marker_step(window, before)),
    };
    s->marker = READ_AHEAD_NO_PAGE;
    if (window > 0) {
        s->before = s->from;
        s->from = s->next;
        s->next = at(s->next, s->stride, window);
        s->window = window;
        s->unasked = true;
        s->marker = plan.marker;
        r->last = (int)(s - r->streams);
    }
    s->used = ++r->clock;
    forget_a_little(r);
    return plan;
}

uint32_t read_ahead_touched(struct read_ahead *r, uint64_t page, uint32_t most, uint64_t pages,
                            int64_t *stride, struct read_ahead_plan *plan)
{
    *plan = (struct read_ahead_plan){.count = 0, .marker = READ_AHEAD_NO_PAGE};
    *stride = 1;
    for (int i = 0; i < READ_AHEAD_STREAMS; i++) {
        struct read_ahead_stream *s = &r->streams[i];
        if (s->next == READ_AHEAD_NO_PAGE) {
            continue;
        }
        int64_t left = steps(page, s->next, s->stride);
        int64_t past = steps(s->before, page, s->stride);
        if (left <= 0 || past < 0) {
            continue;
        }
        *stride = s->stride;
        int64_t to_marker =
            s->marker == READ_AHEAD_NO_PAGE ? left : steps(page, s->marker, s->stride);
        bool time = s->marker != READ_AHEAD_NO_PAGE && to_marker <= 0 && most > 1;
        left = to_marker > 0 && to_marker < left ? to_marker : left;
        uint32_t open = s->step < left ? s->step : (uint32_t)left;
        s->step = s->step < most ? s->step * 2 : s->step;
        if (time) {
            *plan = advance(r, s, most, pages);
        }
        return open;
    }
    return 1;
}

void read_ahead_used(struct read_ahead *r, uint32_t pages)
{
    r->used += r->used < UINT32_MAX / 2 ? pages : 0;
}

void read_ahead_wasted(struct read_ahead *r, uint32_t pages)
{
    r->wasted += r->wasted < UINT32_MAX / 2 ? pages : 0;
}
