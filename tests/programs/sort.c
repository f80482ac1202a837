// SPDX-License-Identifier: Apache-2.0
//
// sort: a parallel merge sort of 64-bit keys on remote memory. Each thread sorts its part of the array by itself; then, until one
// run is left, pairs of runs are merged from one array into the other. All threads take part in each merge: the output is
// cut into as many pieces as there are threads, and where a piece begins in its two inputs is found by a search along
// the merge's diagonal. So every pass but the first reads two rows and writes one, side by side, from several threads at once.
//
// Source: merge path, Odeh, Green, Mwassi, Shmueli, Birk (2012). Verified: the keys ascend, and their sum and the
// sum of their products with an odd constant, rotated, are those of the keys that were made.
#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/programs/kronecker.h"
#include "tests/programs/workload.h"

enum { THREADS_MAX = 64 };

struct sort {
    struct workload workload;
    uint64_t array_bytes, keys;
    unsigned threads;
    uint64_t *from, *to; // change places with each pass
    uint64_t run;        // keys of a sorted run; a pass merges pairs of them
};
struct worker {
    struct sort *sort;
    unsigned number;
    pthread_t thread;
};
struct digest {
    uint64_t sum, mixed;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void add_key(struct digest *digest, uint64_t key)
{
    uint64_t product = key * UINT64_C(0x9e3779b97f4a7c15);
    digest->sum += key;
    digest->mixed += product << 31 | product >> 33;
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

// Quicksort in place, by the middle of three, down to parts that insertion sorts; the larger part is left for the loop.
static void sort_part(uint64_t *keys, uint64_t count)
{
    while (count > 32) {
        uint64_t three[3] = {keys[0], keys[count / 2], keys[count - 1]};
        qsort(three, 3, sizeof(three[0]), compare);
        uint64_t low = 0;
        uint64_t high = count - 1;
        for (;;) {
            while (keys[low] < three[1]) {
                low++;
            }
            while (keys[high] > three[1]) {
                high--;
            }
            if (low >= high) {
                break;
            }
            uint64_t key = keys[low];
            keys[low++] = keys[high];
            keys[high--] = key;
        }
        uint64_t left = high + 1;
        if (left < count - left) {
            sort_part(keys, left);
            keys += left;
            count -= left;
        } else {
            sort_part(keys + left, count - left);
            count = left;
        }
    }
    for (uint64_t i = 1; i < count; i++) {
        uint64_t key = keys[i];
        uint64_t at = i;
        for (; at > 0 && keys[at - 1] > key; at--) {
            keys[at] = keys[at - 1];
        }
        keys[at] = key;
    }
}

// How many of the first `diagonal` keys of the merged two are of the left one.
static uint64_t left_share(const uint64_t *left, uint64_t lefts, const uint64_t *right,
                           uint64_t rights, uint64_t diagonal)
{
    uint64_t least = diagonal > rights ? diagonal - rights : 0;
    uint64_t most = smaller(diagonal, lefts);
    while (least < most) {
        uint64_t middle = (least + most) / 2;
        if (left[middle] <= right[diagonal - middle - 1]) {
            least = middle + 1;
        } else {
            most = middle;
        }
    }
    return least;
}

// Keys [first, end) of the merge of two neighbouring runs that begin at `base`.
static void merge_piece(const struct sort *s, uint64_t base, uint64_t first, uint64_t end)
{
    const uint64_t *left = s->from + base;
    uint64_t lefts = smaller(s->run, s->keys - base);
    const uint64_t *right = left + lefts;
    uint64_t rights = smaller(s->run, s->keys - base - lefts);
    uint64_t i = left_share(left, lefts, right, rights, first);
    uint64_t k = first - i;
    uint64_t *out = s->to + base;
    for (uint64_t at = first; at < end; at++) {
        out[at] = k == rights || (i < lefts && left[i] <= right[k]) ? left[i++] : right[k++];
    }
}

// A thread's piece of the whole output of a pass, which may lie in several merges.
static void *merge_share(void *argument)
{
    const struct worker *worker = argument;
    const struct sort *s = worker->sort;
    uint64_t at = s->keys / s->threads * worker->number;
    uint64_t end =
        worker->number + 1 == s->threads ? s->keys : s->keys / s->threads * (worker->number + 1);
    while (at < end) {
        uint64_t base = at - at % (2 * s->run);
        uint64_t stop = smaller(smaller(end, s->keys), base + 2 * s->run);
        merge_piece(s, base, at - base, stop - base);
        at = stop;
    }
    return NULL;
}

static void *sort_share(void *argument)
{
    const struct worker *worker = argument;
    const struct sort *s = worker->sort;
    uint64_t first = smaller(s->run * worker->number, s->keys);
    sort_part(s->from + first, smaller(s->run, s->keys - first));
    return NULL;
}

static int in_parallel(struct sort *s, void *(*work)(void *))
{
    struct worker workers[THREADS_MAX];
    unsigned started = 0;
    int error = 0;
    for (; started < s->threads && error == 0; started += error == 0) {
        workers[started] = (struct worker){.sort = s, .number = started};
        error = pthread_create(&workers[started].thread, NULL, work, &workers[started]);
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    if (error != 0) {
        fprintf(stderr, "sort: a thread could not be made: %s\n", strerror(error));
    }
    return -error;
}

static int sort_all(struct sort *s)
{
    s->run = (s->keys + s->threads - 1) / s->threads;
    int error = in_parallel(s, sort_share);
    while (s->run < s->keys && error == 0) {
        report_progress("sort: merging", s->run, s->keys);
        error = in_parallel(s, merge_share);
        uint64_t *swapped = s->from;
        s->from = s->to;
        s->to = swapped;
        s->run *= 2;
    }
    return error;
}

static struct digest make_keys(const struct sort *s)
{
    struct digest digest = {0, 0};
    uint64_t state = 1;
    for (uint64_t i = 0; i < s->keys; i++) {
        s->from[i] = kronecker_random(&state);
        add_key(&digest, s->from[i]);
    }
    return digest;
}

static int verify(const struct sort *s, struct digest made)
{
    struct digest found = {0, 0};
    for (uint64_t i = 0; i < s->keys; i++) {
        if (i > 0 && s->from[i - 1] > s->from[i]) {
            fprintf(stderr, "sort: key %llu is larger than the next\n", (unsigned long long)i - 1);
            return EXIT_MISMATCH;
        }
        add_key(&found, s->from[i]);
    }
    if (found.sum != made.sum || found.mixed != made.mixed) {
        fprintf(stderr, "sort: these are not the keys that were made\n");
        return EXIT_MISMATCH;
    }
    return EXIT_VERIFIED;
}

static int work(struct sort *s)
{
    struct report *report = &s->workload.report;
    s->from = workload_array(&s->workload, "keys", s->array_bytes);
    s->to = s->from != NULL ? workload_array(&s->workload, "merged", s->array_bytes) : NULL;
    if (s->to == NULL) {
        return EXIT_FAILURE_SETUP;
    }
    s->keys = s->array_bytes / sizeof(uint64_t);
    struct digest made = make_keys(s);
    workload_begin(&s->workload);
    int error = sort_all(s);
    (void)workload_end(&s->workload);
    report_progress("", 1, 0);
    if (error != 0) {
        return EXIT_FAILURE_SETUP;
    }
    fprintf(report_text(report), "%llu keys by %u threads in %.3f s\n", (unsigned long long)s->keys,
            s->threads, report->work_seconds);
    return verify(s, made);
}

enum { OPTION_JSON = 256, OPTION_PLAIN };
static const struct argp_option options[] = {
    {"array", 'a', "SIZE", 0, "Of the keys; as much again is merged into (default 64M)", 0},
    {"cache", 'c', "SIZE", 0, "Local memory for pages (default 16M)", 0},
    {"threads", 'T', "N", 0, "Threads (default 2)", 0},
    {"plain", OPTION_PLAIN, NULL, 0, "In plain memory, to compare", 0},
    {"json", OPTION_JSON, NULL, 0, "The closing table as JSON", 0},
    {0}};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct sort *s = state->input;
    uint64_t value = 0;
    if (key == ARGP_KEY_ARG ||
        (argument != NULL && (report_parse_size(argument, &value) != 0 || value == 0))) {
        argp_error(state, "'%s' is not a size such as 256M", argument);
    }
    switch (key) {
    case 'a':
        s->array_bytes = value / sizeof(uint64_t) * sizeof(uint64_t);
        break;
    case 'c':
        s->workload.report.cache_bytes = value;
        break;
    case 'T':
        if (value > THREADS_MAX) {
            argp_error(state, "--threads must be at most %d", THREADS_MAX);
        }
        s->threads = (unsigned)value;
        break;
    case OPTION_PLAIN:
        s->workload.report.plain = true;
        break;
    case OPTION_JSON:
        s->workload.report.json = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp parser = {.options = options,
                                       .parser = parse_option,
                                       .doc = "A parallel merge sort on remote memory, verified."};
    struct sort s = {
        .workload.report = {.program = "sort", .cache_bytes = UINT64_C(16) << 20},
        .array_bytes = UINT64_C(64) << 20,
        .threads = 2,
    };
    argp_parse(&parser, argc, argv, 0, NULL, &s);
    int code = workload_open(&s.workload, s.threads);
    if (code == EXIT_VERIFIED) {
        code = work(&s);
    }
    return workload_close(&s.workload, code, false);
}
