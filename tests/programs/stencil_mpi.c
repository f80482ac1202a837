// SPDX-License-Identifier: Apache-2.0
//
// stencil_mpi: the stencil with its rows dealt out to MPI ranks, each with a session and segments of its own on one dsmd. A
// strip has a ghost row above and below, which its neighbours fill by messages. MPI hands the rows to the kernel, which does not
// bring pages in, so they are pinned around the exchange: the ghost rows for writing, the border rows for reading. The
// program asks dsm_check_pinned() before each exchange; with --unpinned it does not pin, and ends with that sentence.
//
// Every rank compares its strip with a run of the whole grid in local memory, to the last bit.
#include <argp.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "tests/programs/jacobi.h"
#include "tests/programs/workload.h"

struct stencil {
    struct workload workload;
    uint64_t rows, columns;
    unsigned steps;
    bool unpinned;
    int rank, ranks;
    uint64_t first, count; // rows of this rank, without its ghosts
};

static dsm_interval pages_of(const struct stencil *s, const double *array, uint64_t row)
{
    uint64_t page_bytes = dsm_segment_page_size(workload_segment(&s->workload, array));
    uint64_t from = row * s->columns * sizeof(double);
    uint64_t to = from + s->columns * sizeof(double);
    return (dsm_interval){from / page_bytes,
                          (to + page_bytes - 1) / page_bytes - from / page_bytes};
}

// Both border rows and both ghost rows, held in memory for the messages, or let go.
static int hold(const struct stencil *s, const double *array, bool pin)
{
    const uint64_t rows[] = {0, 1, s->count, s->count + 1};
    dsm_segment *segment = workload_segment(&s->workload, array);
    for (unsigned i = 0; i < 4; i++) {
        dsm_interval pages = pages_of(s, array, rows[i]);
        unsigned flags = DSM_PIN | (i == 0 || i == 3 ? (unsigned)DSM_WRITE : 0);
        int error =
            pin ? dsm_swap_in(segment, pages, flags, DSM_NO_PAGE) : dsm_unpin(segment, pages);
        if (error != 0) {
            return report_failure("stencil_mpi", pin ? "Pinning" : "Unpinning", error);
        }
    }
    return 0;
}

static int check(const struct stencil *s, const double *array)
{
    size_t bytes = s->columns * sizeof(double);
    int error = dsm_check_pinned(array, bytes, DSM_WRITE);
    error = error != 0 ? error : dsm_check_pinned(array + s->columns, bytes, 0);
    error = error != 0 ? error : dsm_check_pinned(array + s->count * s->columns, bytes, 0);
    error = error != 0 ? error
                       : dsm_check_pinned(array + (s->count + 1) * s->columns, bytes, DSM_WRITE);
    return error != 0 ? report_failure("stencil_mpi", "A buffer of the halo exchange", error) : 0;
}

static int exchange(const struct stencil *s, double *array)
{
    int error = s->unpinned ? 0 : hold(s, array, true);
    error = error != 0 ? error : check(s, array);
    if (error != 0) {
        return error;
    }
    int above = s->rank > 0 ? s->rank - 1 : MPI_PROC_NULL;
    int below = s->rank + 1 < s->ranks ? s->rank + 1 : MPI_PROC_NULL;
    int columns = (int)s->columns;
    double *last = array + s->count * s->columns;
    MPI_Sendrecv(array + s->columns, columns, MPI_DOUBLE, above, 1, last + s->columns, columns,
                 MPI_DOUBLE, below, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Sendrecv(last, columns, MPI_DOUBLE, below, 2, array, columns, MPI_DOUBLE, above, 2,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return hold(s, array, false);
}

static void start(const struct stencil *s, double *old, double *new)
{
    for (uint64_t row = 0; row < s->count; row++) {
        for (uint64_t column = 0; column < s->columns; column++) {
            uint64_t at = (row + 1) * s->columns + column;
            old[at] = new[at] = jacobi_start(s->first + row, column, s->rows, s->columns);
        }
    }
}

static void step(const struct stencil *s, const double *old, double *new)
{
    for (uint64_t row = 0; row < s->count; row++) {
        if (s->first + row > 0 && s->first + row + 1 < s->rows) {
            const double *at = old + (row + 1) * s->columns;
            jacobi_row(new + (row + 1) * s->columns, at - s->columns, at, at + s->columns,
                       s->columns);
        }
    }
}

static int compare(const struct stencil *s, const double *strip)
{
    double *expected = jacobi_local(s->rows, s->columns, s->steps);
    if (expected == NULL) {
        fprintf(stderr, "stencil_mpi: no local memory to compare with.\n");
        return EXIT_FAILURE_SETUP;
    }
    uint64_t wrong = jacobi_differences("stencil_mpi", strip + s->columns,
                                        expected + s->first * s->columns, s->count * s->columns);
    free(expected);
    return wrong == 0 ? EXIT_VERIFIED : EXIT_MISMATCH;
}

static int work(struct stencil *s)
{
    char part[32];
    uint64_t bytes = (s->count + 2) * s->columns * sizeof(double);
    snprintf(part, sizeof(part), "old-%d", s->rank);
    double *old = workload_array(&s->workload, part, bytes);
    snprintf(part, sizeof(part), "new-%d", s->rank);
    double *new = old != NULL ? workload_array(&s->workload, part, bytes) : NULL;
    if (new == NULL) {
        return EXIT_FAILURE_SETUP;
    }
    start(s, old, new);
    for (unsigned i = 0; i < s->steps; i++) {
        if (exchange(s, old) != 0) {
            return EXIT_FAILURE_SETUP;
        }
        step(s, old, new);
        double *other = old;
        old = new;
        new = other;
    }
    return compare(s, old);
}

static const struct argp_option options[] = {
    {"rows", 'r', "N", 0, "Rows (default 1024)", 0},
    {"columns", 'k', "N", 0, "Columns (default 4096)", 0},
    {"steps", 's', "N", 0, "Steps (default 4)", 0},
    {"cache", 'c', "SIZE", 0, "Local memory for pages, of a rank (default 2M)", 0},
    {"unpinned", 'u', NULL, 0, "Do not pin what MPI is given", 0},
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
    case 'c':
        s->workload.report.cache_bytes = value;
        break;
    case 'u':
        s->unpinned = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

// Every rank's code; an error of one ends all, since its neighbours would wait for it.
static int run(struct stencil *s)
{
    int code = workload_open(&s->workload, 1);
    if (code == EXIT_VERIFIED) {
        code = work(s);
    }
    code = workload_close(&s->workload, code, true);
    if (code != EXIT_VERIFIED) {
        MPI_Abort(MPI_COMM_WORLD, code);
    }
    uint64_t totals[2] = {s->workload.report.segment_bytes, 0};
    const dsm_statistics *statistics = &s->workload.report.statistics;
    totals[1] = statistics->swap_in_reads;
    uint64_t sums[2] = {0, 0};
    MPI_Reduce(totals, sums, 2, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    if (s->rank == 0) {
        printf("%llu x %llu values, %u steps, %d ranks, %.1f MiB in segments, %llu pages swapped "
               "in: none differs\nverified\n",
               (unsigned long long)s->rows, (unsigned long long)s->columns, s->steps, s->ranks,
               (double)sums[0] / 0x1p20, (unsigned long long)sums[1]);
    }
    return code;
}

int main(int argc, char **argv)
{
    static const struct argp parser = {
        .options = options,
        .parser = parse_option,
        .doc = "A Jacobi stencil by MPI ranks on remote memory, compared with a local run."};
    struct stencil s = {
        .workload.report = {.program = "stencil_mpi", .cache_bytes = UINT64_C(2) << 20},
        .rows = 1024,
        .columns = 4096,
        .steps = 4,
    };
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &s.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &s.ranks);
    argp_parse(&parser, argc, argv, 0, NULL, &s);
    if (s.columns < 3 || s.columns > 1 << 20 || s.rows < (uint64_t)s.ranks * 2 ||
        s.rows > 1 << 20) {
        fprintf(stderr, "stencil_mpi: at least two rows for a rank, at most 1048576 each way.\n");
        MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE_SETUP);
    }
    s.first = s.rows * (uint64_t)s.rank / (uint64_t)s.ranks;
    s.count = s.rows * ((uint64_t)s.rank + 1) / (uint64_t)s.ranks - s.first;
    int code = run(&s);
    MPI_Finalize();
    return code;
}
