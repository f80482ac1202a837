// SPDX-License-Identifier: Apache-2.0
//
// Raw system calls for the rooms that a fault's handler reaches. glibc's wrappers would set errno and are points
// of cancellation; a thread that faults must be neither disturbed nor cancelled here.
//
// SIGSEGV and SIGBUS are never blocked: a thread that blocks them and touches a page that is not in is killed by
// the kernel before anybody can help it.
#include "libdsm/sync/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

long sync_call(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
#error "x86-64 and aarch64 only"
#endif
}

int64_t sync_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int sync_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
    struct timespec until = {.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};
    long result =
        sync_call(SYS_futex, (long)word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, (long)value,
                  deadline == SYNC_FOR_EVER ? 0 : (long)&until, 0, FUTEX_BITSET_MATCH_ANY);
    return result == -ETIMEDOUT || result == -EINTR ? (int)result : 0;
}

void sync_wake(_Atomic uint32_t *word, int count)
{
    (void)sync_call(SYS_futex, (long)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, 0, 0, 0);
}

static sync_mask bit(int signal)
{
    return (sync_mask)1 << (signal - 1);
}

sync_mask sync_block_signals(void)
{
    sync_mask all = ~(bit(SIGILL) | bit(SIGFPE) | bit(SIGSEGV) | bit(SIGBUS));
    sync_mask before = 0;
    (void)sync_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&all, (long)&before, sizeof all, 0, 0);
    return before;
}

void sync_restore_signals(sync_mask mask)
{
    (void)sync_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof mask, 0, 0);
}
