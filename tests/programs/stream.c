// SPDX-License-Identifier: Apache-2.0
//
// stream: McCalpin's four kernels on arrays in segments, each several times larger than the cache: the friendliest pattern
// for paging, so its rates are those of the wire, the cipher and the laundry. A rate counts what the kernel reads and
// writes, as STREAM does; the first round is not timed. The results have a closed form, element by element the same, and
// every element is compared with it.
#include <argp.h>
#include <float.h>

#include "tests/programs/workload.h"

enum { KERNELS = 4, STEP = 1 << 16, MISMATCHES_SHOWN = 10 };
static const char *const kernels[KERNELS] = {"copy", "scale", "add", "triad"};
static const unsigned touched[KERNELS] = {2, 2, 3, 3}; // arrays
static const double scalar = 3.0;

struct stream {
    struct workload workload;
    uint64_t array_bytes, elements;
    unsigned rounds;
    double *a, *b, *c;
    double best[KERNELS], worst[KERNELS], sum[KERNELS]; // seconds
};

static void kernel(const struct stream *s, unsigned which, uint64_t from, uint64_t to)
{
    double *a = s->a;
    double *b = s->b;
    double *c = s->c;
    for (uint64_t i = from; i < to; i++) {
        switch (which) {
        case 0:
            c[i] = a[i];
            break;
        case 1:
            b[i] = scalar * c[i];
            break;
        case 2:
            c[i] = a[i] + b[i];
            break;
        default:
            a[i] = b[i] + scalar * c[i];
        }
    }
}

static double *target(const struct stream *s, unsigned which)
{
    return which == 1 ? s->b : which == 3 ? s->a : s->c;
}

static void run_kernel(struct stream *s, unsigned which)
{
    for (uint64_t i = 0; i < s->elements; i += STEP) {
        uint64_t to = i + STEP < s->elements ? i + STEP : s->elements;
        report_progress(kernels[which], i, s->elements);
        workload_overwritten(&s->workload, target(s, which), i * sizeof(double),
                             to * sizeof(double));
        kernel(s, which, i, to);
    }
}

static void run_rounds(struct stream *s)
{
    for (unsigned which = 0; which < KERNELS; which++) {
        s->best[which] = DBL_MAX;
        run_kernel(s, which); // the first round
    }
    for (unsigned round = 1; round < s->rounds; round++) {
        for (unsigned which = 0; which < KERNELS; which++) {
            workload_begin(&s->workload);
            run_kernel(s, which);
            double seconds = workload_end(&s->workload);
            s->sum[which] += seconds;
            s->best[which] = seconds < s->best[which] ? seconds : s->best[which];
            s->worst[which] = seconds > s->worst[which] ? seconds : s->worst[which];
        }
    }
}

static uint64_t wrong(const char *name, const double *array, uint64_t elements, double expected)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < elements; i++) {
        if (array[i] != expected && count++ < MISMATCHES_SHOWN) {
            fprintf(stderr, "stream: %s[%llu] is %.17g, not %.17g\n", name, (unsigned long long)i,
                    array[i], expected);
        }
    }
    return count;
}

static uint64_t verify(const struct stream *s)
{
    double a = 1;
    double b = 2;
    double c = 0;
    for (unsigned round = 0; round < s->rounds; round++) {
        c = a;
        b = scalar * c;
        c = a + b;
        a = b + scalar * c;
    }
    return wrong("a", s->a, s->elements, a) + wrong("b", s->b, s->elements, b) +
           wrong("c", s->c, s->elements, c);
}

static void print_rates(const struct stream *s)
{
    FILE *out = report_text(&s->workload.report);
    fprintf(out, "%-8s %12s %10s %10s %10s\n", "kernel", "best MB/s", "avg s", "min s", "max s");
    for (unsigned which = 0; which < KERNELS; which++) {
        fprintf(out, "%-8s %12.1f %10.4f %10.4f %10.4f\n", kernels[which],
                (double)(touched[which] * s->array_bytes) / s->best[which] / 1e6,
                s->sum[which] / (s->rounds - 1), s->best[which], s->worst[which]);
    }
}

static int work(struct stream *s)
{
    s->a = workload_array(&s->workload, "a", s->array_bytes);
    s->b = s->a != NULL ? workload_array(&s->workload, "b", s->array_bytes) : NULL;
    s->c = s->b != NULL ? workload_array(&s->workload, "c", s->array_bytes) : NULL;
    if (s->c == NULL) {
        return EXIT_FAILURE_SETUP;
    }
    s->elements = s->array_bytes / sizeof(double);
    for (uint64_t i = 0; i < s->elements; i++) {
        s->a[i] = 1;
        s->b[i] = 2;
        s->c[i] = 0;
    }
    run_rounds(s);
    print_rates(s);
    return verify(s) == 0 ? EXIT_VERIFIED : EXIT_MISMATCH;
}

enum { OPTION_JSON = 256, OPTION_PLAIN, OPTION_HINTS };
static const struct argp_option options[] = {
    {"array", 'a', "SIZE", 0, "Each of the three arrays (default 64M)", 0},
    {"cache", 'c', "SIZE", 0, "Local memory for pages (default 16M)", 0},
    {"rounds", 'n', "N", 0, "Rounds, the first is not timed (default 3, at least 2)", 0},
    {"plain", OPTION_PLAIN, NULL, 0, "In plain memory, to compare", 0},
    {"hints", OPTION_HINTS, NULL, 0, "Say which array is overwritten next", 0},
    {"json", OPTION_JSON, NULL, 0, "The closing table as JSON", 0},
    {0}};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct stream *s = state->input;
    uint64_t value = 0;
    if (key == ARGP_KEY_ARG ||
        (argument != NULL && (report_parse_size(argument, &value) != 0 || value == 0))) {
        argp_error(state, "'%s' is not a size such as 256M", argument);
    }
    switch (key) {
    case 'a':
        s->array_bytes = value / sizeof(double) * sizeof(double);
        break;
    case 'c':
        s->workload.report.cache_bytes = value;
        break;
    case 'n':
        if (value < 2 || value > 1000) {
            argp_error(state, "--rounds must be 2 to 1000");
        }
        s->rounds = (unsigned)value;
        break;
    case OPTION_PLAIN:
        s->workload.report.plain = true;
        break;
    case OPTION_HINTS:
        s->workload.hints = true;
        break;
    case OPTION_JSON:
        s->workload.report.json = true;
        break;
    case ARGP_KEY_END:
        if (s->array_bytes == 0) {
            argp_error(state, "--array must hold at least one double");
        }
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
                                       .doc = "STREAM's kernels on remote memory, verified."};
    struct stream s = {
        .workload.report = {.program = "stream", .cache_bytes = UINT64_C(16) << 20},
        .array_bytes = UINT64_C(64) << 20,
        .rounds = 3,
    };
    argp_parse(&parser, argc, argv, 0, NULL, &s);
    int code = workload_open(&s.workload, 1);
    if (code == EXIT_VERIFIED) {
        code = work(&s);
    }
    return workload_close(&s.workload, code, false);
}
