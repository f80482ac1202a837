// SPDX-License-Identifier: Apache-2.0
//
// See virtual_time.h. Fibers are ucontexts, since swapcontext() carries the signal mask along: a fiber may wait inside
// the handler of SIGSEGV, on its own stack, while others run and fault in their turn.
//
// Wrapped (simulator.cmake has the list for the linker): sync_wait, sync_wake and sync_now of libdsm, clock_gettime, the
// thread calls, mutexes (a fiber that finds one held lets others run), and sync_call for what asks after threads: a fiber
// has a number of its own where the kernel would say the same for all. noise_random draws from the seed, so ids repeat.
//
// A fiber is interrupted only where it waits or wakes: code in between is atomic, as it is with a lock in hand.
// Rejected: real threads under a scheduler that stops them. A run would not repeat, and a thousand seeds would take an hour.
#include "tests/simulator/virtual_time.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "libdsm/sync/futex.h"
#include "tests/simulator/stack_switch.h"

enum {
    FIBERS = VT_FIBERS,
    STACK_BYTES = 1 << 20,
    FIRST_NUMBER = 1 << 29, // above any real thread's
    NOTES = 60,
    NOTE_BYTES = 160,
    PREEMPTED = 2000, // of ten thousand wakes
    STEPS = 50000000, // after so many turns the run goes in circles
};

enum fiber_state { FIBER_FREE, FIBER_READY, FIBER_ASLEEP, FIBER_ENDED };

struct fiber {
    enum fiber_state state;
    ucontext_t context;
    void *stack;
    void (*body)(void *);
    void *(*run)(void *); // of pthread_create; else NULL
    void *argument;
    _Atomic uint32_t *word;
    int64_t until;
    bool woken;
    _Atomic uint32_t ended; // word for pthread_join
    void *shadow;           // the address sanitizer's, while another fiber runs
};

struct event {
    int64_t time;
    uint64_t order;
    void (*act)(void *);
    void *context;
};

static struct {
    struct fiber fibers[FIBERS];
    size_t most; // of them that were ever in use
    struct fiber *running;
    ucontext_t scheduler;
    const void *scheduler_stack; // the process's own
    size_t scheduler_stack_bytes;
    void *scheduler_shadow;
    struct event *events; // a heap
    size_t event_count, event_room;
    uint64_t orders, seed, random, steps;
    int64_t now;
    char notes[NOTES][NOTE_BYTES];
    uint64_t note_count;
} vt;

// ---- chance ----

uint64_t vt_random(void)
{
    vt.random += 0x9e3779b97f4a7c15U; // splitmix64
    uint64_t z = vt.random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

uint64_t vt_below(uint64_t limit)
{
    return vt_random() % limit;
}

bool vt_chance(unsigned per_myriad)
{
    return vt_below(10000) < per_myriad;
}

// ---- what is told ----

void vt_note(const char *format, ...)
{
    char *to = vt.notes[vt.note_count++ % NOTES];
    int n = snprintf(to, NOTE_BYTES, "%12.6f s  ", (double)vt.now / 1e9);
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() was just called
    (void)vsnprintf(to + n, (size_t)(NOTE_BYTES - n), format, arguments);
    va_end(arguments);
}

void vt_fail(const char *format, ...)
{
    va_list arguments;
    (void)fprintf(stderr, "seed %llu, at %.6f s: ", (unsigned long long)vt.seed,
                  (double)vt.now / 1e9);
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): as above
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "\n");
    for (uint64_t i = vt.note_count > NOTES ? vt.note_count - NOTES : 0; i < vt.note_count; i++) {
        (void)fprintf(stderr, "  %s\n", vt.notes[i % NOTES]);
    }
    _exit(1);
}

// ---- events ----

static bool before(const struct event *a, const struct event *b)
{
    return a->time != b->time ? a->time < b->time : a->order < b->order;
}

void vt_at(int64_t time, void (*act)(void *), void *context)
{
    if (vt.event_count == vt.event_room) {
        vt.event_room = vt.event_room == 0 ? 1024 : vt.event_room * 2;
        vt.events = realloc(vt.events, vt.event_room * sizeof *vt.events);
        if (vt.events == NULL) {
            vt_fail("no memory");
        }
    }
    size_t at = vt.event_count++;
    struct event event = {time, vt.orders++, act, context};
    while (at > 0 && before(&event, &vt.events[(at - 1) / 2])) {
        vt.events[at] = vt.events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    vt.events[at] = event;
}

static struct event next_event(void)
{
    struct event first = vt.events[0];
    struct event last = vt.events[--vt.event_count];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= vt.event_count) {
            break;
        }
        if (child + 1 < vt.event_count && before(&vt.events[child + 1], &vt.events[child])) {
            child++;
        }
        if (!before(&vt.events[child], &last)) {
            break;
        }
        vt.events[at] = vt.events[child];
        at = child;
    }
    vt.events[at] = last;
    return first;
}

// ---- fibers ----

static void to_scheduler(struct fiber *self)
{
    stack_leave(&self->shadow, vt.scheduler_stack, vt.scheduler_stack_bytes);
    (void)swapcontext(&self->context, &vt.scheduler);
    stack_enter(self->shadow, &vt.scheduler_stack, &vt.scheduler_stack_bytes);
}

static void to_fiber(struct fiber *fiber)
{
    vt.running = fiber;
    stack_leave(&vt.scheduler_shadow, fiber->stack, STACK_BYTES);
    (void)swapcontext(&vt.scheduler, &fiber->context);
    stack_enter(vt.scheduler_shadow, NULL, NULL);
    vt.running = NULL;
}

static void enter(void)
{
    struct fiber *self = vt.running;
    stack_enter(NULL, &vt.scheduler_stack, &vt.scheduler_stack_bytes);
    if (self->run != NULL) {
        (void)self->run(self->argument);
    } else {
        self->body(self->argument);
    }
    self->state = self->run != NULL ? FIBER_ENDED : FIBER_FREE; // joined, or nobody asks
    atomic_store(&self->ended, 1);
    vt_wake(&self->ended, INT32_MAX);
    stack_leave(NULL, vt.scheduler_stack, vt.scheduler_stack_bytes); // for good
    (void)setcontext(&vt.scheduler);
}

static struct fiber *make(void (*body)(void *), void *(*run)(void *), void *argument)
{
    struct fiber *fiber = vt.fibers;
    while (fiber < vt.fibers + FIBERS && fiber->state != FIBER_FREE) {
        fiber++;
    }
    if (fiber == vt.fibers + FIBERS) {
        vt_fail("more than %d threads", FIBERS);
    }
    if (fiber->stack == NULL) {
        fiber->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fiber->stack == MAP_FAILED) {
            vt_fail("no memory for a stack");
        }
    }
    stack_clear(fiber->stack, STACK_BYTES);
    (void)getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber->context, enter, 0);
    fiber->body = body;
    fiber->run = run;
    fiber->argument = argument;
    atomic_store(&fiber->ended, 0);
    fiber->state = FIBER_READY;
    size_t used = (size_t)(fiber - vt.fibers) + 1;
    vt.most = used > vt.most ? used : vt.most;
    return fiber;
}

void vt_spawn(void (*body)(void *), void *context)
{
    (void)make(body, NULL, context);
}

// The running fiber stops here; true when it was woken and not merely late.
static bool leave(_Atomic uint32_t *word, int64_t until)
{
    struct fiber *self = vt.running;
    self->word = word;
    self->until = until;
    self->woken = false;
    self->state = FIBER_ASLEEP;
    to_scheduler(self);
    return self->woken;
}

static void give_way(void)
{
    struct fiber *self = vt.running;
    self->state = FIBER_READY;
    to_scheduler(self);
}

bool vt_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
    if (atomic_load(word) != value) {
        return true;
    }
    return deadline > vt.now && leave(word, deadline);
}

void vt_wake(_Atomic uint32_t *word, int count)
{
    size_t from = (size_t)vt_below(vt.most);
    for (size_t i = 0; i < vt.most && count > 0; i++) {
        struct fiber *fiber = &vt.fibers[(from + i) % vt.most];
        if (fiber->state == FIBER_ASLEEP && fiber->word == word) {
            fiber->woken = true;
            fiber->state = FIBER_READY;
            count--;
        }
    }
}

void vt_sleep(int64_t ns)
{
    (void)leave(NULL, vt.now + ns);
}

unsigned vt_self(void)
{
    return (unsigned)(vt.running - vt.fibers);
}

int64_t vt_now(void)
{
    return vt.now;
}

static struct fiber *choose_ready(void)
{
    struct fiber *chosen = NULL;
    uint64_t ready = 0;
    for (size_t i = 0; i < vt.most; i++) {
        if (vt.fibers[i].state == FIBER_READY && vt_below(++ready) == 0) {
            chosen = &vt.fibers[i];
        }
    }
    return chosen;
}

// Nobody can run: to the next time at which somebody can.
static void leap(void)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < vt.most; i++) {
        if (vt.fibers[i].state == FIBER_ASLEEP && vt.fibers[i].until < next) {
            next = vt.fibers[i].until;
        }
    }
    if (vt.event_count > 0 && vt.events[0].time <= next) {
        struct event event = next_event();
        vt.now = event.time > vt.now ? event.time : vt.now;
        event.act(event.context);
        return;
    }
    if (next == INT64_MAX) {
        vt_fail("deadlock: every thread waits and nothing is to come");
    }
    vt.now = next > vt.now ? next : vt.now;
    for (size_t i = 0; i < vt.most; i++) {
        if (vt.fibers[i].state == FIBER_ASLEEP && vt.fibers[i].until <= vt.now) {
            vt.fibers[i].state = FIBER_READY;
        }
    }
}

void vt_start(uint64_t seed)
{
    vt.seed = seed;
    vt.random = seed * 0x2545f4914f6cdd1dU + 1;
    vt.now = 1000LL * 1000 * VT_MS;
}

static void run_first(void *context)
{
    void (**body)(void) = context;
    (*body)();
}

void vt_run(void (*body)(void))
{
    struct fiber *first = make(run_first, NULL, &body);
    while (atomic_load(&first->ended) == 0) {
        struct fiber *next = choose_ready();
        if (next == NULL) {
            leap();
            continue;
        }
        if (++vt.steps > STEPS) {
            vt_fail("after %d turns it is not over", STEPS);
        }
        to_fiber(next);
    }
}

// ---- what the product calls ----
// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int64_t __wrap_sync_now(void);
int __wrap_sync_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline);
void __wrap_sync_wake(_Atomic uint32_t *word, int count);
long __real_sync_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_sync_call(long number, long a, long b, long c, long d, long e, long f);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
void __wrap_noise_random(void *to, size_t bytes);
void __wrap_lane_grpc_library_get(void);
void __wrap_lane_grpc_library_put(void);

// Every look at the clock takes a little, so that a loop on it ends.
int64_t __wrap_sync_now(void)
{
    return vt.now += 20;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    if (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME) {
        return __real_clock_gettime(clock, time);
    }
    vt.now += 20;
    time->tv_sec = vt.now / 1000000000 + (clock == CLOCK_REALTIME ? 1700000000 : 0);
    time->tv_nsec = vt.now % 1000000000;
    return 0;
}

int __wrap_sync_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
    return vt_wait(word, value, deadline) ? 0 : -ETIMEDOUT;
}

void __wrap_sync_wake(_Atomic uint32_t *word, int count)
{
    vt_wake(word, count);
    if (vt.running != NULL && vt_chance(PREEMPTED)) {
        give_way();
    }
}

long __wrap_sync_call(long number, long a, long b, long c, long d, long e, long f)
{
    if (number == SYS_gettid && vt.running != NULL) {
        return FIRST_NUMBER + (vt.running - vt.fibers);
    }
    if ((number == SYS_tgkill || number == SYS_rt_tgsigqueueinfo) && b >= FIRST_NUMBER) {
        enum fiber_state state = vt.fibers[b - FIRST_NUMBER].state;
        if (state == FIBER_FREE || state == FIBER_ENDED) {
            return -ESRCH;
        }
        b = __real_sync_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    }
    return __real_sync_call(number, a, b, c, d, e, f);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument)
{
    (void)attributes;
    *thread = (pthread_t)(uintptr_t)make(NULL, run, argument);
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
    struct fiber *fiber = (struct fiber *)(uintptr_t)thread; // NOLINT(performance-no-int-to-ptr)
    while (atomic_load(&fiber->ended) == 0) {
        (void)vt_wait(&fiber->ended, 0, INT64_MAX);
    }
    fiber->state = FIBER_FREE;
    if (result != NULL) {
        *result = NULL;
    }
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    while (pthread_mutex_trylock(mutex) == EBUSY) {
        if (vt.running == NULL) {
            vt_fail("a lock of the server is held although nothing of it runs");
        }
        vt_sleep(1000);
    }
    return 0;
}

void __wrap_noise_random(void *to, size_t bytes)
{
    uint8_t *at = to;
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)vt_random();
    }
}

void __wrap_lane_grpc_library_get(void)
{
}

void __wrap_lane_grpc_library_put(void)
{
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
