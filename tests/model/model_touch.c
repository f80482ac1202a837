// SPDX-License-Identifier: Apache-2.0
//
// The model's touches of the segment. One that the page does not allow (a store into a read-only page, anything where there
// is no backing) is a fault that the library must hand to the program's own handler of SIGSEGV, with the address: the handler
// here leaves the touch by siglongjmp(), as a program's would. SIGBUS, and SIGSEGV at any other time or place, end the test.
//
// A sanitizer's own code must not make the touches.
#include <setjmp.h>
#include <signal.h>

#include "tests/model/model.h"

enum { WORDS = MODEL_SLOTS + MODEL_COUNTERS };
enum touch { TOUCH_LOAD, TOUCH_STORE, TOUCH_ADD };

_Atomic uint64_t model_refused;
static __thread sigjmp_buf back;
static __thread void *volatile touched; // NULL: no touch is under way

#define BARE __attribute__((no_sanitize("thread", "address", "undefined"), noinline))

// They lie all over the page.
_Atomic uint64_t *model_at(uint64_t page, uint32_t slot)
{
    char *base = dsm_segment_base(model_segment);
    size_t stride = model_options.page_bytes / WORDS / sizeof(uint64_t) * sizeof(uint64_t);
    return (_Atomic uint64_t *)(void *)(base + page * model_options.page_bytes + slot * stride);
}

BARE static uint64_t touch(_Atomic uint64_t *at, enum touch how, uint64_t value)
{
    switch (how) {
    case TOUCH_LOAD:
        return atomic_load(at);
    case TOUCH_STORE:
        atomic_store(at, value);
        return value;
    default:
        return atomic_fetch_add(at, value);
    }
}

static bool try_touch(_Atomic uint64_t *at, enum touch how, uint64_t value, uint64_t *found)
{
    if (sigsetjmp(back, 1) != 0) {
        (void)atomic_fetch_add(&model_refused, 1);
        return false;
    }
    touched = at;
    *found = touch(at, how, value);
    touched = NULL;
    return true;
}

bool model_try_load(uint64_t page, uint32_t slot, uint64_t *found)
{
    return try_touch(model_at(page, slot), TOUCH_LOAD, 0, found);
}

bool model_try_store(uint64_t page, uint32_t slot, uint64_t value)
{
    uint64_t stored;
    return try_touch(model_at(page, slot), TOUCH_STORE, value, &stored);
}

bool model_try_add(uint64_t page, uint32_t slot, uint64_t *found)
{
    return try_touch(model_at(page, slot), TOUCH_ADD, 1, found);
}

uint64_t model_load(uint64_t page, uint32_t slot)
{
    uint64_t found;
    MODEL_CHECK(model_try_load(page, slot, &found), "page %lu word %u: the load was refused", page,
                slot);
    return found;
}

static void come_back(int number, siginfo_t *info, void *context)
{
    (void)context;
    void *at = touched;
    touched = NULL;
    if (at == NULL || number != SIGSEGV || info->si_addr != at) {
        model_fail(__FILE__, __LINE__, "signal %d at %p, during a touch of %p", number,
                   info->si_addr, at);
    }
    siglongjmp(back, 1);
}

void model_catch(void)
{
    struct sigaction action = {.sa_sigaction = come_back, .sa_flags = SA_SIGINFO};
    MODEL_CHECK(sigaction(SIGBUS, &action, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0,
                "no handler");
}
