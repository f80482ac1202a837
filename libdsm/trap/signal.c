// SPDX-License-Identifier: Apache-2.0
//
// The handler of SIGSEGV, and of SIGBUS where that is how a touch is noticed (trap_uffd). It finds out what was touched
// and how, asks the pager, and then touches again, raises SIGBUS or SIGSEGV, or passes the fault on to whoever handled the
// signal before.
//
// All signals are blocked while it runs (sa_mask is full); the thread's own mask comes back while it waits and before
// a former handler runs, so ^C works and a former handler may leave by siglongjmp. errno is the thread's own again
// at the end. Nothing of glibc's is called but sigaction at installation.
//
// A SIGBUS that is not what the kernel raised is in our sa_mask and queued to the thread itself: it arrives when this handler
// returns, so that the program's handler sees the faulting instruction. A program that blocks or ignores SIGBUS gets what
// the kernel does with a forced signal in that case: the default action. A signal that is ours as the fault came is passed to
// the handler that was there before, as the kernel raised it.
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "libdsm/sync/futex.h"
#include "libdsm/trap/trap.h"

static struct {
    trap_resolve *_Atomic resolve;
    struct sigaction former_segv, former_bus;
    bool sigbus;
    int installed;
    pthread_mutex_t lock; // installation only
} trap = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_fault(int number, siginfo_t *info, void *context);

static bool was_write(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (context->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    // The exception syndrome stands among the tagged records that follow the registers.
    struct record {
        uint32_t magic, size;
    };
    enum { ESR_MAGIC = 0x45535201, ESR_WRITE = 1 << 6 };
    const uint8_t *at = context->uc_mcontext.__reserved;
    for (struct record r;; at += r.size) {
        memcpy(&r, at, sizeof r);
        if (r.magic == 0 || r.size == 0) {
            return false;
        }
        if (r.magic == ESR_MAGIC) {
            uint64_t esr;
            memcpy(&esr, at + sizeof r, sizeof esr);
            return (esr & ESR_WRITE) != 0;
        }
    }
#endif
}

static void set_default(int number)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    (void)sigaction(number, &action, NULL);
}

static uint64_t signal_bit(int number)
{
    return (uint64_t)1 << (number - 1);
}

static struct sigaction *former_of(int number)
{
    return number == SIGBUS ? &trap.former_bus : &trap.former_segv;
}

static bool default_action_due(int number, const uint64_t *mask)
{
    struct sigaction now;
    (void)sigaction(number, NULL, &now);
    return (*mask & signal_bit(number)) != 0 ||
           ((now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_IGN);
}

static void send_to_self(int number, siginfo_t *info)
{
    long tid = sync_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    long pid = sync_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    (void)sync_call(SYS_rt_tgsigqueueinfo, pid, tid, number, (long)info, 0, 0);
}

static void raise_sigbus(uintptr_t address, const uint64_t *mask)
{
    siginfo_t info = {.si_signo = SIGBUS, .si_code = BUS_ADRERR};
    info.si_addr = (void *)address; // NOLINT(performance-no-int-to-ptr): it is an address
    if (default_action_due(SIGBUS, mask)) {
        set_default(SIGBUS);
        sync_mask open = *mask & ~signal_bit(SIGBUS);
        sync_restore_signals(open);
    }
    send_to_self(SIGBUS, &info);
}

// Nobody handled it before: what the kernel would have done. A fault's instruction runs again and meets the default action,
// also where the signal was ignored; a signal that was sent does not come again by itself.
static void pass_to_nobody(int number, siginfo_t *info, bool ignored)
{
    bool sent = info->si_code <= 0;
    if (sent && ignored) {
        return;
    }
    set_default(number);
    if (sent) {
        send_to_self(number, info);
    }
}

// The former handler has the masks that the kernel would have given it, but its own signal open: it may touch a page, too.
static void pass_on(int number, siginfo_t *info, ucontext_t *context, uint64_t mask)
{
    struct sigaction former = *former_of(number);
    bool with_info = (former.sa_flags & SA_SIGINFO) != 0;
    if (!with_info && (former.sa_handler == SIG_DFL || former.sa_handler == SIG_IGN)) {
        pass_to_nobody(number, info, former.sa_handler == SIG_IGN);
        return;
    }
    uint64_t more;
    memcpy(&more, &former.sa_mask, sizeof more);
    sync_restore_signals((mask | more) & ~signal_bit(number));
    if (with_info) {
        former.sa_sigaction(number, info, context);
    } else {
        former.sa_handler(number);
    }
}

// What the program must not do is a SIGSEGV, however the kernel told us.
static void deny(int number, siginfo_t *info, ucontext_t *context, uint64_t mask)
{
    if (number == SIGSEGV) {
        pass_on(number, info, context, mask);
        return;
    }
    siginfo_t denied = {.si_signo = SIGSEGV, .si_code = SEGV_ACCERR};
    denied.si_addr = info->si_addr;
    struct sigaction former = trap.former_segv;
    if ((former.sa_flags & SA_SIGINFO) == 0 &&
        (former.sa_handler == SIG_DFL || former.sa_handler == SIG_IGN)) {
        set_default(SIGSEGV); // ours would be asked again
        sync_restore_signals(mask & ~signal_bit(SIGSEGV));
        send_to_self(SIGSEGV, &denied);
        return;
    }
    pass_on(SIGSEGV, &denied, context, mask);
}

static void fail(int number, siginfo_t *info, ucontext_t *context, const uint64_t *mask)
{
    if (number == SIGBUS) {
        pass_on(number, info, context, *mask);
    } else {
        raise_sigbus((uintptr_t)info->si_addr, mask);
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    ucontext_t *machine = context;
    uint64_t mask;
    memcpy(&mask, &machine->uc_sigmask, sizeof mask);
    struct trap_fault fault = {
        .address = (uintptr_t)info->si_addr,
        .write = was_write(machine),
        .mask = &mask,
    };
    trap_resolve *resolve = atomic_load_explicit(&trap.resolve, memory_order_acquire);
    enum trap_verdict verdict = TRAP_FOREIGN;
    if (resolve != NULL && info->si_code > 0 && info->si_code != SI_KERNEL) {
        verdict = resolve(&fault);
    }
    if (verdict == TRAP_FAILED) {
        fail(number, info, machine, &mask);
    } else if (verdict == TRAP_DENIED) {
        deny(number, info, machine, mask);
    } else if (verdict == TRAP_FOREIGN) {
        pass_on(number, info, machine, mask);
    }
    errno = saved;
}

static bool ours(int number)
{
    struct sigaction now;
    return sigaction(number, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
           now.sa_sigaction == on_fault;
}

static bool still_ours(bool sigbus)
{
    return ours(SIGSEGV) && (!sigbus || ours(SIGBUS));
}

static int put_handler(int number)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    (void)sigfillset(&action.sa_mask);
    return sigaction(number, &action, former_of(number)) == 0 ? 0 : -errno;
}

static void put_back(int number)
{
    if (ours(number)) {
        (void)sigaction(number, former_of(number), NULL);
    }
}

static int put_handlers(bool sigbus)
{
    trap.sigbus = sigbus;
    int error = put_handler(SIGSEGV);
    if (error == 0 && sigbus) {
        error = put_handler(SIGBUS);
    }
    return error;
}

int trap_install(trap_resolve *resolve, bool sigbus)
{
    int error = 0;
    (void)pthread_mutex_lock(&trap.lock);
    if (trap.installed > 0) {
        error = still_ours(sigbus) ? 0 : -EBUSY;
    } else {
        error = put_handlers(sigbus);
    }
    if (error == 0) {
        trap.installed++;
        atomic_store_explicit(&trap.resolve, resolve, memory_order_release);
    }
    (void)pthread_mutex_unlock(&trap.lock);
    return error;
}

void trap_uninstall(void)
{
    (void)pthread_mutex_lock(&trap.lock);
    if (--trap.installed == 0) {
        atomic_store_explicit(&trap.resolve, NULL, memory_order_release);
        put_back(SIGSEGV);
        if (trap.sigbus) {
            put_back(SIGBUS);
        }
    }
    (void)pthread_mutex_unlock(&trap.lock);
}
