// SPDX-License-Identifier: Apache-2.0
//
// gRPC's start and stop. Its hidden threads inherit the signal mask of whoever makes them start, so
// both run with every signal blocked but those that a thread raises by its own fault: a program's
// ^C must not land in one of them. gRPC counts its own users; this file only sees to the mask, so
// it is free of state and any thread may call it, but not a signal handler.
#include <grpc/grpc.h>
#include <pthread.h>
#include <signal.h>

#include "rpc/lane.h"

static void block_signals(sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t mask;
    sigfillset(&mask);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        sigdelset(&mask, own[i]);
    }
    (void)pthread_sigmask(SIG_SETMASK, &mask, before);
}

void lane_grpc_library_get(void)
{
    sigset_t before;
    block_signals(&before);
    grpc_init();
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void lane_grpc_library_put(void)
{
    sigset_t before;
    block_signals(&before);
    grpc_shutdown();
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}
