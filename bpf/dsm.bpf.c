// SPDX-License-Identifier: Apache-2.0
//
// What the kernel does at a fault of a watched program: it adds up, and tells nobody until it is asked. One probe is enough for
// that, dsm:fault_end, since it carries all that the library knows of the fault; dsm:swap_in_end brings what no fault did. So the
// program pays one trap into the kernel for each fault, whatever of hist, why, heat and trace is wanted.
//
// What only the kernel knows comes from two of its tracepoints, attached for `why` alone: when the page fault began
// (page_fault_user; where a kernel has none, the delivery of its signal stands in), and how long the thread was ready without
// being given a processor meanwhile. The latter is the difference of the scheduler's own sum (sched_info.run_delay), so that no
// switch of threads need be looked at. signal_deliver keeps the fault's beginning apart from page faults of the handler itself.
//
// Probes run preemptibly and on all processors at once: every sum is an atomic addition, so that none is lost. Maps
// are bounded and made at load; what finds no room is counted in `lost`, never silently missing.
//
// What is not wanted is a constant when the program is loaded, so the verifier removes it. No vmlinux.h: the few fields of the
// kernel that are read are found by name (CO-RE) in the running kernel's own type information.
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

#include "bpf/dsm_events.h"
#include "libdsm/stat/fault_parts.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { READ = 1, WRITE = 2, SOFT = 4, UPGRADE = 8, WAITED = 16, FAILED = 32 };
enum { SIGNAL_BUS = 7, SIGNAL_SEGV = 11, CELL_BITS = 8 };

struct sched_info {
    unsigned long long run_delay;
} __attribute__((preserve_access_index));
struct task_struct {
    struct sched_info sched_info;
} __attribute__((preserve_access_index));

const volatile __u32 wanted = 0;
const volatile __u32 only_process = 0; // 0: all

__u32 slot; // of time: dsmstat raises it, and takes what lies in earlier ones
__u64 lost[SEEN_LOSSES];

#define MAP(name_, type_, key_, value_, entries_)                                                  \
    struct {                                                                                       \
        __uint(type, type_);                                                                       \
        __type(key, key_);                                                                         \
        __type(value, value_);                                                                     \
        __uint(max_entries, entries_);                                                             \
    } name_ SEC(".maps")

struct start { // of a thread: its last page fault, and that whose signal it was given
    __u64 page_fault_ns, page_fault_ready_ns, begun_ns, begun_ready_ns;
};
struct extent {
    __u32 process, segment;
};

// dsmstat makes those that are not wanted as small as can be.
MAP(counts, BPF_MAP_TYPE_HASH, struct seen_key, struct seen_counts, 4096);
MAP(hists, BPF_MAP_TYPE_HASH, struct seen_key, struct seen_hist, 1024);
MAP(whys, BPF_MAP_TYPE_HASH, struct seen_key, struct seen_why, 256);
MAP(heat, BPF_MAP_TYPE_HASH, struct seen_cell, struct seen_heat, 65536);
MAP(extents, BPF_MAP_TYPE_LRU_HASH, struct extent, __u64,
    4096);                                                      // the highest page that was touched
MAP(watched, BPF_MAP_TYPE_LRU_HASH, __u32, __u32, 4096);        // processes with faults
MAP(starts, BPF_MAP_TYPE_LRU_HASH, __u32, struct start, 16384); // of their threads
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 20);
} events SEC(".maps");

static const struct seen_counts no_counts;
static const struct seen_hist no_hist;
static const struct seen_why no_why;

static __always_inline void add(__u64 *sum, __u64 n)
{
    if (n != 0) {
        __sync_fetch_and_add(sum, n);
    }
}

static __always_inline void lose(int what)
{
    if (what >= 0 && what < SEEN_LOSSES) {
        __sync_fetch_and_add(&lost[what], 1);
    }
}

static __always_inline void *find(void *map, const void *key, const void *empty)
{
    void *value = bpf_map_lookup_elem(map, key);
    if (value == NULL) {
        (void)bpf_map_update_elem(map, key, empty, BPF_NOEXIST); // or another thread did
        value = bpf_map_lookup_elem(map, key);
        if (value == NULL) {
            lose(SEEN_LOST_KEYS);
        }
    }
    return value;
}

// Of the highest bit; n is not 0.
static __always_inline __u32 power_of(__u64 n)
{
    __u32 power = 0;
    for (__u32 step = 32; step > 0; step >>= 1) {
        if (n >> step != 0) {
            n >>= step;
            power += step;
        }
    }
    return power;
}

// The compiler knows more of a number than the verifier; behind this it knows nothing, and keeps the comparison that follows.
#define BARRIER(number) __asm__ volatile("" : "+r"(number))

static __always_inline __u64 bucket_of(__u64 ns)
{
    if (ns < 1ULL << SEEN_FIRST_POWER) {
        return 0;
    }
    if (ns >= 1ULL << SEEN_LAST_POWER) {
        return SEEN_BUCKETS - 1;
    }
    __u32 power = power_of(ns);
    return 1 + (power - SEEN_FIRST_POWER) * SEEN_SPLIT +
           ((ns - (1ULL << power)) * SEEN_SPLIT >> power);
}

static __always_inline void add_time(struct seen_times *times, __u64 ns)
{
    __u64 bucket = bucket_of(ns);
    BARRIER(bucket);
    if (bucket < SEEN_BUCKETS) {
        add(&times->buckets[bucket], 1);
        add(&times->total_ns, ns);
    }
}

struct fault {
    struct seen_key key;
    __u64 page, bytes, total_ns;
    __u32 pages, outcome;
    bool waited; // for a page to come
    struct dsm_fault_parts parts;
};

static __always_inline void count_swap_in(struct seen_counts *sums, const __u32 *swap_in)
{
#pragma unroll
    for (int i = 0; i < SEEN_SWAP_IN; i++) {
        add(&sums->swap_in[i], swap_in[i]);
    }
}

static __always_inline void count(const struct fault *fault)
{
    struct seen_counts *sums = find(&counts, &fault->key, &no_counts);
    if (sums == NULL) {
        return;
    }
    add(&sums->traps, 1);
    add(&sums->run_pages, fault->pages);
    add(&sums->bytes, fault->bytes);
#pragma unroll
    for (int i = 0; i < SEEN_OUTCOMES; i++) {
        add(&sums->outcomes[i], fault->outcome >> i & 1);
    }
    count_swap_in(sums, fault->parts.swap_in);
}

static __always_inline void measure(const struct fault *fault)
{
    struct seen_hist *hist = find(&hists, &fault->key, &no_hist);
    if (hist == NULL) {
        return;
    }
    if (fault->waited) {
        add_time(&hist->fault, fault->total_ns);
        add_time(&hist->wait, fault->parts.handover_ns + fault->parts.wait_ns);
    }
    if (fault->pages != 0) {
        __u32 run = fault->pages == 1 ? 0 : power_of(fault->pages - 1) + 1;
        add_time(&hist->wire, fault->parts.wire_ns);
        if (run < SEEN_RUNS) {
            add(&hist->runs[run], 1);
        }
    }
}

static __always_inline void map_heat(const struct fault *fault)
{
    static const struct seen_heat none;
    struct extent extent = {.process = fault->key.process, .segment = fault->key.segment};
    __u64 *highest = bpf_map_lookup_elem(&extents, &extent);
    __u64 reach = highest != NULL ? *highest : 0;
    if (highest == NULL || fault->page > reach) {
        reach = fault->page;
        (void)bpf_map_update_elem(&extents, &extent, &reach, BPF_ANY);
    }
    __u32 bits = reach == 0 ? 0 : power_of(reach) + 1;
    struct seen_cell cell = {.process = fault->key.process,
                             .segment = fault->key.segment,
                             .store = fault->key.store,
                             .slot = slot,
                             .shift = bits > CELL_BITS ? bits - CELL_BITS : 0};
    cell.index = (__u32)(fault->page >> cell.shift);
    struct seen_heat *sums = bpf_map_lookup_elem(&heat, &cell);
    if (sums == NULL) {
        (void)bpf_map_update_elem(&heat, &cell, &none, BPF_NOEXIST);
        sums = bpf_map_lookup_elem(&heat, &cell);
    }
    if (sums == NULL) {
        lose(SEEN_LOST_CELLS);
    } else {
        add(fault->outcome & (SOFT | UPGRADE) ? &sums->soft : &sums->hard, 1);
    }
}

static __always_inline __u64 ready_ns(void)
{
    struct task_struct *task = bpf_get_current_task_btf();
    return bpf_core_field_exists(task->sched_info.run_delay) ? task->sched_info.run_delay : 0;
}

// The time in the kernel, before the handler and on the way from its end into this probe, and how long the thread was ready
// since the fault began; false: nobody knows.
static __always_inline bool find_start(const struct fault *fault, __u64 *trap_ns, __u64 *ready)
{
    const __u32 yes = 1;
    __u32 thread = (__u32)bpf_get_current_pid_tgid();
    struct start *start = bpf_map_lookup_elem(&starts, &thread);
    if (start == NULL) {
        (void)bpf_map_update_elem(&watched, &fault->key.process, &yes, BPF_ANY);
        return false;
    }
    __u64 begun = start->begun_ns;
    start->begun_ns = 0;
    if (begun == 0 || begun > fault->parts.begin_ns) {
        return false;
    }
    __u64 ended = fault->parts.begin_ns + fault->total_ns, now = bpf_ktime_get_ns();
    *trap_ns = fault->parts.begin_ns - begun + (now > ended ? now - ended : 0);
    *ready = ready_ns() - start->begun_ready_ns;
    return true;
}

static __always_inline void split(const struct fault *fault)
{
    const struct dsm_fault_parts *parts = &fault->parts;
    __u64 trap_ns, ready;
    if (!find_start(fault, &trap_ns, &ready)) {
        lose(SEEN_LOST_STARTS);
        return;
    }
    struct seen_why *why = find(&whys, &fault->key, &no_why);
    __u64 whole = trap_ns + fault->total_ns;
    __u64 bucket = bucket_of(whole);
    BARRIER(bucket);
    if (why == NULL || bucket >= SEEN_BUCKETS) {
        return;
    }
    struct seen_split *sums = &why->split[bucket];
    add(&sums->count, 1);
    add(&sums->whole_ns, whole);
    add(&sums->ready_ns, ready);
    add(&sums->parts_ns[SEEN_TRAP], trap_ns);
    add(&sums->parts_ns[SEEN_PAGER], parts->pager_ns);
    add(&sums->parts_ns[SEEN_HANDOVER], parts->handover_ns);
    add(&sums->parts_ns[SEEN_WAIT], parts->wait_ns);
    add(&sums->parts_ns[SEEN_WIRE], parts->wire_ns);
    add(&sums->parts_ns[SEEN_SERVER], parts->server_ns);
    add(&sums->parts_ns[SEEN_CIPHER], parts->cipher_ns);
    add(&sums->parts_ns[SEEN_WAKE], parts->wake_ns);
}

static __always_inline void tell(const struct fault *fault, __u32 kind, int error)
{
    struct seen_event *event = bpf_ringbuf_reserve(&events, sizeof *event, 0);
    if (event == NULL) {
        lose(SEEN_LOST_EVENTS);
        return;
    }
    event->ns = bpf_ktime_get_ns();
    event->page = fault->page;
    event->bytes = fault->bytes;
    event->total_ns = fault->total_ns;
    event->parts_ns[SEEN_TRAP] = 0;
    event->parts_ns[SEEN_PAGER] = fault->parts.pager_ns;
    event->parts_ns[SEEN_HANDOVER] = fault->parts.handover_ns;
    event->parts_ns[SEEN_WAIT] = fault->parts.wait_ns;
    event->parts_ns[SEEN_WIRE] = fault->parts.wire_ns;
    event->parts_ns[SEEN_SERVER] = fault->parts.server_ns;
    event->parts_ns[SEEN_CIPHER] = fault->parts.cipher_ns;
    event->parts_ns[SEEN_WAKE] = fault->parts.wake_ns;
    event->process = fault->key.process;
    event->thread = (__u32)bpf_get_current_pid_tgid();
    event->segment = fault->key.segment;
    event->store = fault->key.store;
    event->pages = fault->pages;
    event->outcome = fault->outcome;
    event->kind = kind;
    event->error = error;
    bpf_ringbuf_submit(
        event,
        BPF_RB_NO_WAKEUP); // dsmstat looks by itself: no thread of the program pays for waking it
}

static __always_inline bool begin(struct fault *fault)
{
    fault->key.process = bpf_get_current_pid_tgid() >> 32;
    return only_process == 0 || fault->key.process == only_process;
}

SEC("usdt")
int BPF_USDT(fault_end, __u32 segment, __u64 page, __u32 pages, __u32 outcome, __u64 total_ns,
             const void *parts, __u64 bytes, __u32 store)
{
    struct fault fault = {.key = {.segment = segment, .store = store},
                          .page = page,
                          .bytes = bytes,
                          .total_ns = total_ns,
                          .pages = pages,
                          .outcome = outcome,
                          .waited = pages != 0 || (outcome & WAITED) != 0};
    if (!begin(&fault)) {
        return 0;
    }
    if (bpf_probe_read_user(&fault.parts, sizeof fault.parts, parts) != 0) {
        lose(SEEN_LOST_PARTS);
        return 0;
    }
    count(&fault);
    if (wanted & SEEN_HIST) {
        measure(&fault);
    }
    if (wanted & SEEN_WHY && fault.waited) {
        split(&fault);
    }
    if (wanted & SEEN_HEAT) {
        map_heat(&fault);
    }
    if (wanted & SEEN_TRACE) {
        tell(&fault, 0, 0);
    }
    return 0;
}

SEC("usdt")
int BPF_USDT(swap_in_end, __u32 segment, __u64 page, __u32 pages, __u32 kind, int error,
             const void *swap_in)
{
    struct fault fault = {.key = {.segment = segment}, .page = page, .pages = pages};
    if (!begin(&fault)) {
        return 0;
    }
    if (bpf_probe_read_user(fault.parts.swap_in, sizeof fault.parts.swap_in, swap_in) != 0) {
        lose(SEEN_LOST_PARTS);
        return 0;
    }
    struct seen_counts *sums = find(&counts, &fault.key, &no_counts);
    if (sums != NULL) {
        count_swap_in(sums, fault.parts.swap_in);
    }
    if (wanted & SEEN_TRACE) {
        tell(&fault, kind == 0 ? 1 : kind, error);
    }
    return 0;
}

static __always_inline struct start *start_of_thread(void)
{
    static const struct start none;
    __u64 id = bpf_get_current_pid_tgid();
    __u32 process = id >> 32, thread = (__u32)id;
    if (bpf_map_lookup_elem(&watched, &process) == NULL) {
        return NULL;
    }
    struct start *start = bpf_map_lookup_elem(&starts, &thread);
    if (start == NULL) {
        (void)bpf_map_update_elem(&starts, &thread, &none, BPF_ANY);
        start = bpf_map_lookup_elem(&starts, &thread);
    }
    return start;
}

SEC("tp_btf/page_fault_user")
int page_fault_user(void *context)
{
    (void)context;
    struct start *start = start_of_thread();
    if (start != NULL) {
        start->page_fault_ns = bpf_ktime_get_ns();
        start->page_fault_ready_ns = ready_ns();
    }
    return 0;
}

SEC("tp_btf/signal_deliver")
int BPF_PROG(signal_deliver, int number)
{
    bool of_a_touch = number == SIGNAL_SEGV || number == SIGNAL_BUS; // which one, the trap decides
    struct start *start = of_a_touch ? start_of_thread() : NULL;
    if (start != NULL) {
        if (start->page_fault_ns == 0) { // this kernel does not tell
            start->page_fault_ns = bpf_ktime_get_ns();
            start->page_fault_ready_ns = ready_ns();
        }
        start->begun_ns = start->page_fault_ns;
        start->begun_ready_ns = start->page_fault_ready_ns;
        start->page_fault_ns = 0;
    }
    return 0;
}
