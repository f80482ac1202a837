// SPDX-License-Identifier: Apache-2.0
//
// Session and segment of a measurement. The server is the environment's, or one of our own when DSM_SERVER is
// unset or --dsmd was given; then its address and keys are given to dsm_open() by its options, and the environment
// is left alone.
#include "tools/dsmperf_target.h"
#include "tools/dsmperf_net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CACHE_PART = 8 };

int perf_target_failed(struct failure *failure, const char *what, int result)
{
    return failure_set(failure, result, "%s: %s: %s", what, dsm_strerror(result),
                       dsm_error()->text);
}

int perf_target_beside(const char *name, char *path, size_t bytes)
{
    ssize_t length = readlink("/proc/self/exe", path, bytes - strlen(name) - 1);
    if (length < 0) {
        return -errno;
    }
    path[length] = '\0';
    memcpy(strrchr(path, '/') + 1, name, strlen(name) + 1);
    return 0;
}

int perf_target_server(const struct perf_settings *settings, uint64_t capacity,
                       struct perf_target *target, struct failure *failure)
{
    *target = (struct perf_target){.server.pid = -1};
    const char *given = getenv("DSM_SERVER");
    if (settings->dsmd == NULL && given != NULL && *given != '\0') {
        return 0;
    }
    char path[512];
    if (settings->dsmd != NULL) {
        snprintf(path, sizeof(path), "%s", settings->dsmd);
    } else {
        int error = perf_target_beside("dsmd", path, sizeof(path));
        if (error != 0) {
            return failure_set(failure, error, "/proc/self/exe cannot be read: give --dsmd PATH.");
        }
    }
    int result = perf_server_start(path, capacity + (UINT64_C(256) << 20), settings->spin,
                                   &target->server, failure);
    target->own_server = result == 0;
    return result;
}

static int open_session(const struct perf_settings *settings, struct perf_target *target,
                        uint64_t bytes, struct failure *failure)
{
    dsm_options options = {.size = sizeof(options), .cache_bytes = bytes / CACHE_PART};
    if (target->own_server) {
        options.server = target->server.address;
        options.server_key = target->server.server_key;
        options.key_file = target->server.client_key_file;
    }
    int result = dsm_open(&options, &target->session);
    if (result != 0) {
        return perf_target_failed(failure, "No session", result);
    }
    // The limit must be that of the trap in use.
    const char *trap = dsm_trap(target->session);
    if (strncmp(settings->trap_now, trap, strlen(trap)) != 0) {
        return failure_set(failure, -ENOTSUP, "The library took %s, and not %s: give --trap %s.",
                           trap, settings->trap_now, trap);
    }
    return 0;
}

// Cleaned as often as the cache is full: a victim that is dirty would be written by itself.
static int fill_segment(struct perf_target *target, struct failure *failure)
{
    int result = 0;
    for (uint64_t page = 0; page < target->pages && result == 0;) {
        uint64_t first = page;
        for (; page < target->pages && page - first < target->cached_pages; page++) {
            memset((void *)(target->base + page * target->page_bytes), (int)(page % 255) + 1,
                   target->page_bytes);
        }
        result = dsm_clean(target->segment, (dsm_interval){first, page - first}, NULL);
    }
    return result == 0 ? 0 : perf_target_failed(failure, "Cleaning", result);
}

static void learn_segment(struct perf_target *target)
{
    target->base = dsm_segment_base(target->segment);
    target->page_bytes = dsm_segment_page_size(target->segment);
    target->pages = dsm_segment_size(target->segment) / target->page_bytes;
    target->cached_pages = target->pages / CACHE_PART;
}

int perf_target_start(const struct perf_settings *settings, struct perf_target *target,
                      uint64_t bytes, struct failure *failure)
{
    int result = open_session(settings, target, bytes, failure);
    if (result == 0) {
        snprintf(target->name, sizeof(target->name), "dsmperf/%d-%lld", (int)getpid(),
                 (long long)time(NULL));
        result = dsm_segment_create(target->session, target->name, bytes, PERF_PAGE_BYTES,
                                    DSM_EXCLUSIVE, &target->segment);
        if (result != 0) {
            perf_target_failed(failure, "No segment", result);
        }
    }
    if (result == 0) {
        learn_segment(target);
        result = fill_segment(target, failure);
    }
    if (result == 0 && perf_spins(settings) && target->own_server) { // as the raw limits are
        perf_net_place(1, target->server.pid);
        perf_net_place(0, 0);
    }
    return result;
}

int perf_target_open(const struct perf_settings *settings, struct perf_target *target,
                     struct failure *failure)
{
    int result = perf_target_server(settings, 2 * settings->bytes, target, failure);
    if (result == 0) {
        result = perf_target_start(settings, target, settings->bytes, failure);
    }
    if (result != 0) {
        perf_target_close(target);
    }
    return result;
}

static int absent_page(const struct perf_target *target, uint64_t *random, uint64_t *page)
{
    dsm_page_info info;
    int result;
    do {
        *page = (perf_random(random) >> 16) % target->pages;
        result = dsm_page_state(target->segment, *page, &info);
    } while (result == 0 && info.resident);
    return result;
}

int perf_target_touch(struct perf_target *target, uint64_t *random, uint64_t count, bool write,
                      struct perf_samples *samples)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t page;
        int result = absent_page(target, random, &page);
        if (result != 0) {
            return result;
        }
        volatile uint8_t *byte = target->base + page * target->page_bytes;
        double start = perf_now_us();
        if (write) {
            *byte = 7;
        } else {
            (void)*byte;
        }
        double taken = perf_now_us() - start;
        if (samples != NULL && (result = perf_samples_add(samples, taken)) != 0) {
            return result;
        }
    }
    return 0;
}

int perf_target_cool(struct perf_target *target, struct failure *failure)
{
    int result = dsm_segment_close(target->segment);
    if (result != 0) {
        return perf_target_failed(failure, "Closing the segment", result);
    }
    target->segment = NULL;
    result = dsm_segment_open(target->session, target->name, 0, &target->segment);
    if (result != 0) {
        return perf_target_failed(failure, "Opening the segment again", result);
    }
    learn_segment(target);
    return 0;
}

void perf_target_close(struct perf_target *target)
{
    if (target->segment != NULL) {
        dsm_segment_close(target->segment);
        target->segment = NULL;
    }
    if (target->session != NULL) {
        dsm_segment_delete(target->session, target->name); // what remains is the server's to report
        dsm_close(target->session);
        target->session = NULL;
    }
    if (target->own_server) {
        perf_server_stop(&target->server);
        target->own_server = false;
    }
}
