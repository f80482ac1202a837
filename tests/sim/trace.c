// SPDX-License-Identifier: Apache-2.0
//
// Synthetic traces. Their random numbers have a fixed seed: the same trace each time.
#include "tests/sim/trace.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOUCHES = 400000, ZIPF_PAGES = 1 << 15 };
static const double zipf_exponent = 0.9;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double next_fraction(uint64_t *state)
{
    return (double)(next_random(state) >> 11) / 9007199254740992.0;
}

static int make_room(struct trace *trace, uint32_t count, uint32_t pages)
{
    *trace = (struct trace){.count = count, .pages = pages};
    trace->page = calloc(count, sizeof *trace->page);
    return trace->page != NULL ? 0 : -ENOMEM;
}

// The page of each rank, spread over the segment: popular pages are not neighbours.
struct zipf {
    double *below; // sum of the weights up to and with the rank
    uint32_t *page;
    uint32_t pages;
};

static int zipf_make(struct zipf *z, uint32_t pages, uint64_t *seed)
{
    z->pages = pages;
    z->below = calloc(pages, sizeof *z->below);
    z->page = calloc(pages, sizeof *z->page);
    if (z->below == NULL || z->page == NULL) {
        return -ENOMEM;
    }
    double sum = 0;
    for (uint32_t i = 0; i < pages; i++) {
        sum += pow(i + 1.0, -zipf_exponent);
        z->below[i] = sum;
        uint32_t j = (uint32_t)(next_random(seed) % (i + 1)); // a shuffle
        z->page[i] = z->page[j];
        z->page[j] = i;
    }
    return 0;
}

static uint32_t zipf_next(const struct zipf *z, uint64_t *seed)
{
    double at = next_fraction(seed) * z->below[z->pages - 1];
    uint32_t low = 0;
    uint32_t high = z->pages - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (z->below[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return z->page[low];
}

static void zipf_free(struct zipf *z)
{
    free(z->below);
    free(z->page);
}

// Round and round.
static int make_loop(struct trace *trace, uint32_t pages)
{
    int error = make_room(trace, TOUCHES, pages);
    for (uint32_t i = 0; i < TOUCHES && error == 0; i++) {
        trace->page[i] = i % pages;
    }
    return error;
}

// hot: pages of a popular set that are touched one by one; a share of the touches, in stretches, walks over all others.
static int make_mixed(struct trace *trace, uint32_t hot, uint32_t others, double walking)
{
    enum { STRETCH = 512 };
    uint64_t seed = 88172645463325252u;
    struct zipf z = {.below = NULL};
    int error = make_room(trace, TOUCHES, hot + others);
    error = error != 0 ? error : zipf_make(&z, hot, &seed);
    uint32_t at = 0;
    for (uint32_t i = 0; i < TOUCHES && error == 0;) {
        bool walk = others > 0 && next_fraction(&seed) < walking;
        for (uint32_t n = 0; n < STRETCH && i < TOUCHES; n++) {
            trace->page[i++] = walk ? hot + at++ % others : zipf_next(&z, &seed);
        }
    }
    zipf_free(&z);
    return error;
}

// One set after the other, each for a while; each fits the cache, two do not.
static int make_phases(struct trace *trace, uint32_t set)
{
    enum { PHASES = 4 };
    int error = make_room(trace, TOUCHES, PHASES * set);
    for (uint32_t i = 0; i < TOUCHES && error == 0; i++) {
        trace->page[i] = i / (TOUCHES / PHASES) * set + i % set;
    }
    return error;
}

int trace_make(struct trace *trace, const char *rule, uint32_t cache)
{
    if (strcmp(rule, "sequential") == 0) {
        return make_loop(trace, cache * 8);
    }
    if (strcmp(rule, "loop") == 0) {
        return make_loop(trace, cache + cache / 8);
    }
    if (strcmp(rule, "phases") == 0) {
        return make_phases(trace, cache - cache / 4);
    }
    if (strcmp(rule, "zipf") == 0) {
        return make_mixed(trace, ZIPF_PAGES, 0, 0);
    }
    if (strcmp(rule, "scan") == 0) {
        return make_mixed(trace, cache - cache / 4, cache * 8, 0.5);
    }
    return -EINVAL;
}

static int read_trace(struct trace *trace, FILE *file)
{
    char magic[sizeof TRACE_MAGIC - 1];
    uint32_t head[2];
    if (fread(magic, sizeof magic, 1, file) != 1 || memcmp(magic, TRACE_MAGIC, sizeof magic) != 0 ||
        fread(head, sizeof head, 1, file) != 1 || head[0] == 0 || head[0] > UINT32_MAX / 8) {
        return -EBADMSG;
    }
    int error = make_room(trace, head[0], head[1]);
    if (error == 0 && fread(trace->page, sizeof *trace->page, trace->count, file) != trace->count) {
        error = -EBADMSG;
    }
    for (uint32_t i = 0; error == 0 && i < trace->count; i++) {
        error = trace->page[i] < trace->pages ? 0 : -EBADMSG;
    }
    return error;
}

int trace_load(struct trace *trace, const char *path)
{
    *trace = (struct trace){.count = 0};
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -errno;
    }
    int error = read_trace(trace, file);
    (void)fclose(file);
    return error;
}

void trace_free(struct trace *trace)
{
    free(trace->page);
    trace->page = NULL;
}
