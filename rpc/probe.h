// SPDX-License-Identifier: Apache-2.0
//
// USDT probes: places in the program that a tracer can name. Each is a nop and a note in the ELF file, which says where its
// arguments are; while nobody is attached, a semaphore that the tracer would raise is zero, and the arguments are not
// even made ready.
//
// A room declares its probes in a list, DSM_PROBE(provider, name, when, (parameters), (arguments)), and gets from it the
// semaphores and one function for each: probe_NAME(). The parameters' types are the arguments' widths: u32, u64 or a
// pointer, at most 12 of them.
//
// Async-signal-safe, any thread.
#ifndef RPC_PROBE_H
#define RPC_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#define SDT_USE_VARIADIC
#define _SDT_HAS_SEMAPHORES 1
#define STAP_SDT_ARG_CONSTRAINT                                                                    \
    nr // libbpf does not understand addresses relative to the instruction
#include <sys/sdt.h>

typedef uint32_t u32;
typedef uint64_t u64;

#define PROBE_SEMAPHORE(provider, name) provider##_##name##_semaphore
#define PROBE_ATTRIBUTES __attribute__((section(".probes"), visibility("hidden"), used))
// In one file of the room.
#define PROBE_DEFINE(provider, name, ...)                                                          \
    volatile unsigned short PROBE_ATTRIBUTES PROBE_SEMAPHORE(provider, name);
// In the room's header: the semaphore, whether somebody is attached, and the probe.
#define PROBE_PLAIN(...) __VA_ARGS__
#define PROBE_DECLARE(provider, name, when, parameters, arguments)                                 \
    extern volatile unsigned short __attribute__((visibility("hidden")))                           \
    PROBE_SEMAPHORE(provider, name);                                                               \
    static inline bool probe_##name##_on(void)                                                     \
    {                                                                                              \
        return __builtin_expect(PROBE_SEMAPHORE(provider, name) != 0, 0);                          \
    }                                                                                              \
    static inline void probe_##name parameters                                                     \
    {                                                                                              \
        if (probe_##name##_on()) {                                                                 \
            STAP_PROBEV(provider, name, PROBE_PLAIN arguments);                                    \
        }                                                                                          \
    }

#endif
