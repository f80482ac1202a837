// SPDX-License-Identifier: Apache-2.0
//
// See stack_switch.h. The address sanitizer knows the stack of each thread by its bounds, and keeps a shadow of its frames.
// The fibers of the simulator are one thread to it: without these words it takes a fiber's frames for stray memory.
//
// Its options: the product's handlers run on the stack of the fiber that they interrupt and switch to others from there, so
// none of its own and no alternate stack; and a server that was killed leaves its memory, which is no leak.
#include "tests/simulator/stack_switch.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the sanitizer's name
__attribute__((visibility("default"))) const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "use_sigaltstack=0:handle_segv=0:handle_sigbus=0:detect_leaks=0";
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

void stack_leave(void **shadow, const void *to, size_t bytes)
{
    __sanitizer_start_switch_fiber(shadow, to, bytes);
}

void stack_enter(void *shadow, const void **from, size_t *bytes)
{
    __sanitizer_finish_switch_fiber(shadow, from, bytes);
}

void stack_clear(const void *stack, size_t bytes)
{
    __asan_unpoison_memory_region(stack, bytes);
}

#else

void stack_leave(void **shadow, const void *to, size_t bytes)
{
    (void)shadow;
    (void)to;
    (void)bytes;
}

void stack_enter(void *shadow, const void **from, size_t *bytes)
{
    (void)shadow;
    (void)from;
    (void)bytes;
}

void stack_clear(const void *stack, size_t bytes)
{
    (void)stack;
    (void)bytes;
}

#endif
