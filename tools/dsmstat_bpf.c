// SPDX-License-Identifier: Apache-2.0
//
// libbpf, in one file. Programs are loaded once, with what is wanted as constants; maps that are not wanted shrink to
// one entry. The probes of a file are attached by a path that the caller vouches for; links live in the process that attaches.
//
// Why nothing is pinned and no link is kept elsewhere: a descriptor is closed by the kernel however its process ends, so
// after kill -9 there is nothing left to clean up, neither here nor in the semaphores of watched programs.
//
// libbpf is quiet; the last thing that it complained of is the reason in a failure's sentence.
//
// Threads: one, in each of the two processes.
#include "tools/dsmstat_bpf.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dsm_bpf.skel.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tools/dsmstat.h"

enum { PROBES = 2 };
static const char *const probe_names[PROBES] = {"fault_end", "swap_in_end"};

struct seen_file {
    struct bpf_link *links[PROBES];
};

struct seen {
    struct dsm_bpf *programs;
    struct ring_buffer *ring;
    seen_visit_event *visit;
    void *visit_context;
    uint32_t wanted;
    struct seen_file files[SEEN_FILES];
};

static char last_word[200]; // of libbpf

static int keep_word(enum libbpf_print_level level, const char *format, va_list arguments)
{
    if (level == LIBBPF_WARN) {
        char word[sizeof last_word];
        (void)vsnprintf(word, sizeof word, format, arguments);
        word[strcspn(word, "\n")] = '\0';
        if (strncmp(word, "libbpf: prog", 12) == 0 || last_word[0] == '\0') {
            (void)snprintf(last_word, sizeof last_word, "%s", word);
        }
    }
    return 0;
}

// ---- what is missing ----

static bool has_capability(unsigned capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    return syscall(SYS_capget, &header, data) == 0 &&
           (data[capability / 32].effective & 1U << capability % 32) != 0;
}

int seen_possible(struct failure *failure)
{
    struct stat space;
    enum { FIRST_PROCESS_SPACE = (int)0xEFFFFFFC }; // inode of the system's own space of pids
    if (!has_capability(CAP_SYS_ADMIN)) {
        return failure_set(failure, -EPERM, "to look into running programs takes root");
    }
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
        return failure_set(failure, -EOPNOTSUPP,
                           "this kernel does not describe its types (BTF): it was built without "
                           "CONFIG_DEBUG_INFO_BTF");
    }
    if (access("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset", R_OK) != 0) {
        return failure_set(failure, -EOPNOTSUPP,
                           "this kernel cannot probe programs: it was built without "
                           "CONFIG_UPROBE_EVENTS, or /sys is not mounted");
    }
    if (stat("/proc/self/ns/pid", &space) == 0 && (int)space.st_ino != FIRST_PROCESS_SPACE) {
        return failure_set(failure, -EOPNOTSUPP,
                           "in a container with process numbers of its own, those of the kernel "
                           "mean nothing: run dsmstat outside");
    }
    return 0;
}

// ---- loading ----

static int shrink_maps(struct dsm_bpf *programs, uint32_t wanted)
{
    int error = 0;
    if ((wanted & SEEN_HIST) == 0) {
        error = bpf_map__set_max_entries(programs->maps.hists, 1);
    }
    if (error == 0 && (wanted & SEEN_WHY) == 0) {
        error = bpf_map__set_max_entries(programs->maps.whys, 1);
    }
    if (error == 0 && (wanted & SEEN_HEAT) == 0) {
        error = bpf_map__set_max_entries(programs->maps.heat, 1);
    }
    if (error == 0 && (wanted & SEEN_TRACE) == 0) {
        error = bpf_map__set_max_entries(programs->maps.events, (uint32_t)sysconf(_SC_PAGESIZE));
    }
    // Some kernels do not tell of page faults: the delivery of the signal stands in.
    bool kernel = (wanted & SEEN_WHY) != 0;
    bool tells = kernel && libbpf_find_vmlinux_btf_id("page_fault_user", BPF_TRACE_RAW_TP) > 0;
    (void)bpf_program__set_autoload(programs->progs.page_fault_user, tells);
    (void)bpf_program__set_autoload(programs->progs.signal_deliver, kernel);
    return error;
}

static int refused(int error, struct failure *failure)
{
    if (error == -EPERM || error == -EACCES) {
        return failure_set(failure, -EPERM,
                           "the kernel refuses BPF programs, even of root here (a container "
                           "without CAP_BPF and CAP_PERFMON, or kernel lockdown)");
    }
    return failure_set(failure, error, "the BPF programs cannot be loaded: %s (%s)",
                       strerror(-error), last_word);
}

static int on_event(void *context, void *data, size_t bytes)
{
    struct seen *seen = context;
    return bytes < sizeof(struct seen_event) || seen->visit == NULL
               ? 0
               : seen->visit(seen->visit_context, data);
}

static int load(struct seen *seen, const struct seen_wish *wish, struct failure *failure)
{
    struct dsm_bpf *programs = dsm_bpf__open();
    seen->programs = programs;
    if (programs == NULL) {
        return refused(-errno, failure);
    }
    seen->wanted = wish->wanted;
    programs->rodata->wanted = wish->wanted;
    programs->rodata->only_process = (uint32_t)wish->pid;
    int error = shrink_maps(programs, wish->wanted);
    if (error == 0) {
        error = dsm_bpf__load(programs);
    }
    if (error == 0 && (wish->wanted & SEEN_TRACE) != 0) {
        seen->ring = ring_buffer__new(bpf_map__fd(programs->maps.events), on_event, seen, NULL);
        error = seen->ring == NULL ? -errno : 0;
    }
    return error == 0 ? 0 : refused(error, failure);
}

int seen_load(const struct seen_wish *wish, struct seen **seen, struct failure *failure)
{
    int error = seen_possible(failure);
    if (error != 0) {
        return error;
    }
    (void)libbpf_set_print(keep_word);
    struct seen *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return failure_set(failure, -ENOMEM, "there is no memory");
    }
    error = load(made, wish, failure);
    if (error != 0) {
        seen_unload(&made);
        return error;
    }
    *seen = made;
    return 0;
}

void seen_unload(struct seen **seen)
{
    struct seen *gone = *seen;
    if (gone == NULL) {
        return;
    }
    for (unsigned i = 0; i < SEEN_FILES; i++) {
        seen_detach_file(gone, i);
    }
    ring_buffer__free(gone->ring);
    dsm_bpf__destroy(gone->programs);
    free(gone);
    *seen = NULL;
}

// ---- attaching ----

int seen_attach_kernel(struct seen *seen, struct failure *failure)
{
    struct dsm_bpf *programs = seen->programs;
    if ((seen->wanted & SEEN_WHY) == 0) {
        return 0;
    }
    programs->links.signal_deliver = bpf_program__attach(programs->progs.signal_deliver);
    if (programs->links.signal_deliver == NULL) {
        return failure_set(failure, -errno, "signals cannot be watched: %s", strerror(errno));
    }
    if (!bpf_program__autoload(programs->progs.page_fault_user)) {
        return 0;
    }
    programs->links.page_fault_user = bpf_program__attach(programs->progs.page_fault_user);
    if (programs->links.page_fault_user == NULL) {
        return failure_set(failure, -errno, "page faults cannot be watched: %s", strerror(errno));
    }
    return 0;
}

int seen_attach_file(struct seen *seen, const char *path, unsigned *number, struct failure *failure)
{
    struct bpf_program *programs[PROBES] = {seen->programs->progs.fault_end,
                                            seen->programs->progs.swap_in_end};
    unsigned at = 0;
    while (at < SEEN_FILES && seen->files[at].links[0] != NULL) {
        at++;
    }
    if (at == SEEN_FILES) {
        return failure_set(failure, -ENOSPC, "more than %d files with probes are in use",
                           SEEN_FILES);
    }
    int only = (int)seen->programs->rodata->only_process;
    struct seen_file *file = &seen->files[at];
    for (unsigned i = 0; i < PROBES; i++) {
        last_word[0] = '\0';
        file->links[i] = bpf_program__attach_usdt(programs[i], only != 0 ? only : -1, path, "dsm",
                                                  probe_names[i], NULL);
        if (file->links[i] == NULL) {
            int error = failure_set(failure, -errno, "dsm:%s cannot be attached: %s (%s)",
                                    probe_names[i], strerror(errno), last_word);
            seen_detach_file(seen, at);
            return error;
        }
    }
    *number = at;
    return 0;
}

void seen_detach_file(struct seen *seen, unsigned number)
{
    struct seen_file *file = &seen->files[number];
    for (unsigned i = 0; i < PROBES; i++) {
        (void)bpf_link__destroy(file->links[i]);
        file->links[i] = NULL;
    }
}

// ---- reading ----

uint64_t seen_lost(const struct seen *seen, unsigned what)
{
    return __atomic_load_n(&seen->programs->bss->lost[what], __ATOMIC_RELAXED);
}

static int each_entry(const struct bpf_map *map, size_t bytes, seen_visit *each, void *context)
{
    struct seen_key key, next;
    void *value = malloc(bytes);
    int error = value == NULL ? -ENOMEM : 0;
    int got = error == 0 ? bpf_map_get_next_key(bpf_map__fd(map), NULL, &next) : -ENOENT;
    while (error == 0 && got == 0) {
        key = next;
        if (bpf_map_lookup_elem(bpf_map__fd(map), &key, value) == 0) {
            error = each(context, &key, value);
        }
        got = bpf_map_get_next_key(bpf_map__fd(map), &key, &next);
    }
    free(value);
    return error != 0 ? error : (got == -ENOENT ? 0 : got);
}

int seen_each_counts(const struct seen *seen, seen_visit *each, void *context)
{
    return each_entry(seen->programs->maps.counts, sizeof(struct seen_counts), each, context);
}

int seen_each_hist(const struct seen *seen, seen_visit *each, void *context)
{
    return each_entry(seen->programs->maps.hists, sizeof(struct seen_hist), each, context);
}

int seen_each_why(const struct seen *seen, seen_visit *each, void *context)
{
    return each_entry(seen->programs->maps.whys, sizeof(struct seen_why), each, context);
}

int seen_take_heat(struct seen *seen, seen_visit_cell *each, void *context)
{
    const struct timespec moment = {
        .tv_nsec = 2000000}; // for faults that are being counted under the former slot
    int map = bpf_map__fd(seen->programs->maps.heat);
    uint32_t slot = __atomic_add_fetch(&seen->programs->bss->slot, 1, __ATOMIC_SEQ_CST);
    struct seen_cell cell, next;
    struct seen_heat heat;
    int error = 0;
    (void)nanosleep(&moment, NULL);
    int got = bpf_map_get_next_key(map, NULL, &next);
    while (error == 0 && got == 0) {
        cell = next;
        got = bpf_map_get_next_key(map, &cell, &next); // before it is removed: else from the start
        if (cell.slot < slot && bpf_map_lookup_elem(map, &cell, &heat) == 0) {
            error = each(context, &cell, &heat);
            (void)bpf_map_delete_elem(map, &cell);
        }
    }
    return error != 0 ? error : (got == -ENOENT ? 0 : got);
}

int seen_take_events(struct seen *seen, seen_visit_event *each, void *context)
{
    seen->visit = each;
    seen->visit_context = context;
    int result = ring_buffer__consume(seen->ring);
    return result < 0 ? result : 0;
}
