// SPDX-License-Identifier: Apache-2.0
//
// stencil: a 2-D Jacobi iteration whose two grids lie in segments, its rows dealt out to OpenMP threads. What is tried is a
// program that knows nothing of the library but where its arrays come from: OpenMP's own threads touch pages, faults of many threads
// meet at the seams between their rows. The result is compared with a run in local memory to the last bit.
#include <argp.h>
#include <omp.h>
#include <stdlib.h>

#include "tests/programs/jacobi.h"
#include "tests/programs/workload.h"

struct stencil {
    struct workload workload;
    uint64_t rows, columns;
    unsigned steps, threads;
};

static void start(const struct stencil *s, double *old, double *new)
{
#pragma omp parallel for schedule(static) num_threads((int)s->threads)
    for (uint64_t row = 0; row < s->rows; row++) {
        for (uint64_t column = 0; column < s->columns; column++) {
            uint64_t at = row * s->columns + column;
            old[at] = new[at] = jacobi_start(row, column, s->rows, s->columns);
        }
    }
}

static void step(const struct stencil *s, const double *old, double *new)
{
#pragma omp parallel for schedule(static) num_threads((int)s->threads)
    for (uint64_t row = 1; row < s->rows - 1; row++) {
        const double *at = old + row * s->columns;
        jacobi_row(new + row * s->columns, at - s->columns, at, at + s->columns, s->columns);
    }
}

static int work(struct stencil *s)
{
    uint64_t bytes = s->rows * s->columns * sizeof(double);
    double *old = workload_array(&s->workload, "old", bytes);
    double *new = old != NULL ? workload_array(&s->workload, "new", bytes) : NULL;
    if (new == NULL) {
        return EXIT_FAILURE_SETUP;
    }
    start(s, old, new);
    for (unsigned i = 0; i < s->steps; i++) {
        report_progress("stencil", i, s->steps);
        step(s, old, new);
        double *other = old;
        old = new;
        new = other;
    }
    double *expected = jacobi_local(s->rows, s->columns, s->steps);
    if (expected == NULL) {
        fprintf(stderr, "stencil: no local memory to compare with.\n");
        return EXIT_FAILURE_SETUP;
    }
    uint64_t wrong = jacobi_differences("stencil", old, expected, s->rows * s->columns);
    free(expected);
    fprintf(report_text(&s->workload.report),
            "%llu x %llu values, %u steps, %u threads: %llu differ\n", (unsigned long long)s->rows,
            (unsigned long long)s->columns, s->steps, s->threads, (unsigned long long)wrong);
    return wrong == 0 ? EXIT_VERIFIED : EXIT_MISMATCH;
}

enum { OPTION_JSON = 256 };
static const struct argp_option options[] = {
    {"rows", 'r', "N", 0, "Rows (default 2048)", 0},
    {"columns", 'k', "N", 0, "Columns (default 2048)", 0},
    {"steps", 's', "N", 0, "Steps (default 5)", 0},
    {"threads", 'T', "N", 0, "Threads (default 4)", 0},
    {"cache", 'c', "SIZE", 0, "Local memory for pages (default 8M)", 0},
    {"json", OPTION_JSON, NULL, 0, "The closing table as JSON", 0},
    {0}};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct stencil *s = state->input;
    uint64_t value = 0;
    if (key == ARGP_KEY_ARG ||
        (argument != NULL && (report_parse_size(argument, &value) != 0 || value == 0))) {
        argp_error(state, "'%s' is not a number above 0", argument);
    }
    switch (key) {
    case 'r':
        s->rows = value;
        break;
    case 'k':
        s->columns = value;
        break;
    case 's':
        s->steps = (unsigned)value;
        break;
    case 'T':
        s->threads = (unsigned)value;
        break;
    case 'c':
        s->workload.report.cache_bytes = value;
        break;
    case OPTION_JSON:
        s->workload.report.json = true;
        break;
    case ARGP_KEY_END:
        if (s->rows < 3 || s->columns < 3 || s->rows > 1 << 20 || s->columns > 1 << 20 ||
            s->threads > 256) {
            argp_error(state, "3 to 1048576 rows and columns, at most 256 threads");
        }
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp parser = {
        .options = options,
        .parser = parse_option,
        .doc = "A Jacobi stencil by OpenMP threads on remote memory, compared with a local run."};
    struct stencil s = {
        .workload.report = {.program = "stencil", .cache_bytes = UINT64_C(8) << 20},
        .rows = 2048,
        .columns = 2048,
        .steps = 5,
        .threads = 4,
    };
    argp_parse(&parser, argc, argv, 0, NULL, &s);
    int code = workload_open(&s.workload, s.threads);
    if (code == EXIT_VERIFIED) {
        code = work(&s);
    }
    return workload_close(&s.workload, code, false);
}
