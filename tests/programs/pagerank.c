// SPDX-License-Identifier: Apache-2.0
//
// pagerank: a real program on remote memory. The Debian package index (some 50 MB of text), the names in it and the
// dependency graph lie in segments, with a local cache of one eighth of them; PageRank over the graph says
// which packages the others stand on. Then everything is built and computed once more in local memory, and each
// rank must be equal to the last bit.
//
// The index is read as a stream twice: once to learn the sizes (a segment's size is fixed when it is made, and so is a
// session's cache), once to load it. Bytes go through a local buffer: read(2) into a page that is out
// would be EFAULT, since the kernel does not wait for libdsm. For the same reason names are copied out before they are
// printed.
//
// Decisions about the graph (alternatives, virtual packages) stand in package_graph.c.
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/programs/package_graph.h"
#include "tests/programs/package_source.h"
#include "tests/programs/pagerank_kronecker.h"
#include "tests/programs/report.h"

enum { CACHE_PART = 8, TOP = 20, NAME_BYTES = 128, THREADS = 2, ITERATIONS_MAX = 100000 };
static const double damping = 0.85;

struct pagerank {
    unsigned scale; // of a Kronecker graph; 0: packages
    struct workload kronecker;
    struct report report;
    const char *file; // NULL: what apt-cache prints
    unsigned iterations;
    struct graph_sizes sizes;
    struct graph remote, local;
    dsm *session;
    dsm_segment *segments[GRAPH_PARTS];
    char names[GRAPH_PARTS][128];
};

// ---- the index ----------------------------------------------------------------------------------------

static int measure_index(struct pagerank *run)
{
    struct index_parser counter = graph_counter(&run->sizes);
    struct package_source source;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    int result = package_source_open(&source, run->file);
    if (result != 0) {
        return result;
    }
    while ((length = getline(&line, &capacity, source.stream)) > 0) {
        run->sizes.text_bytes += (uint64_t)length;
        index_line(&counter, line, (size_t)length - (line[length - 1] == '\n'));
    }
    free(line);
    result = package_source_close(&source);
    if (result == 0 && run->sizes.packages == 0) {
        fprintf(stderr, "pagerank: %s has no packages.%s\n",
                run->file != NULL ? run->file : "the package index",
                run->file != NULL ? "" : " Run 'apt-get update' as root, then this again.");
        result = -ENODATA;
    }
    return result;
}

// Bytes read, at most text_bytes + 1: one more than expected is enough to know.
static uint64_t copy_index(struct pagerank *run, FILE *stream)
{
    static char buffer[64 << 10];
    uint64_t total = run->sizes.text_bytes;
    uint64_t loaded = 0;
    size_t got;
    while ((got = fread(buffer, 1, sizeof(buffer), stream)) > 0) {
        if (got > total - loaded) {
            return total + 1;
        }
        memcpy((char *)run->remote.parts[GRAPH_TEXT] + loaded, buffer, got);
        memcpy((char *)run->local.parts[GRAPH_TEXT] + loaded, buffer, got);
        loaded += got;
        report_progress("pagerank: loading", loaded, total);
    }
    return loaded;
}

static int load_index(struct pagerank *run)
{
    struct package_source source;
    int result = package_source_open(&source, run->file);
    if (result != 0) {
        return result;
    }
    uint64_t loaded = copy_index(run, source.stream);
    result = package_source_close(&source);
    if (loaded != run->sizes.text_bytes) {
        fprintf(stderr, "pagerank: the package index changed while it was read; try again\n");
        return -EAGAIN;
    }
    return result;
}

// ---- memory -------------------------------------------------------------------------------------------

static int make_local(struct pagerank *run)
{
    run->local.sizes = run->sizes;
    for (int part = 0; part < GRAPH_PARTS; part++) {
        run->local.parts[part] = calloc(1, graph_part_bytes(&run->sizes, (enum graph_part)part));
        if (run->local.parts[part] == NULL) {
            fprintf(stderr, "pagerank: there is not enough local memory to compare with\n");
            return -ENOMEM;
        }
    }
    return 0;
}

static int make_segments(struct pagerank *run)
{
    run->remote.sizes = run->sizes;
    run->remote.progress = report_progress;
    for (int part = 0; part < GRAPH_PARTS; part++) {
        report_segment_name("pagerank", graph_part_names[part], run->names[part],
                            sizeof(run->names[part]));
        int result = dsm_segment_create(run->session, run->names[part],
                                        graph_part_bytes(&run->sizes, (enum graph_part)part), 0,
                                        DSM_EXCLUSIVE, &run->segments[part]);
        if (result != 0) {
            return report_failure("pagerank", "No segment", result);
        }
        run->remote.parts[part] = dsm_segment_base(run->segments[part]);
        run->report.segment_bytes += dsm_segment_size(run->segments[part]);
        report_watch(graph_part_names[part], run->segments[part]);
    }
    return 0;
}

static int remove_segments(struct pagerank *run)
{
    int result = 0;
    for (int part = 0; part < GRAPH_PARTS; part++) {
        if (run->segments[part] != NULL) {
            int removed =
                report_remove("pagerank", run->session, run->segments[part], run->names[part]);
            result = result != 0 ? result : removed;
        }
    }
    return result;
}

static int open_session(struct pagerank *run)
{
    uint64_t total = 0;
    for (int part = 0; part < GRAPH_PARTS; part++) {
        total += graph_part_bytes(&run->sizes, (enum graph_part)part);
    }
    uint64_t least = report_least_cache(0, THREADS);
    run->report.cache_bytes = total / CACHE_PART < least ? least : total / CACHE_PART;
    return report_open("pagerank", run->report.cache_bytes, &run->session);
}

// ---- results ------------------------------------------------------------------------------------------

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static uint64_t compare_ranks(const struct pagerank *run, const double *remote, const double *local)
{
    uint64_t wrong = 0;
    if (run->remote.packages != run->local.packages || run->remote.edges != run->local.edges) {
        fprintf(stderr,
                "pagerank: the graphs differ: %llu packages and %llu edges, not %llu and %llu\n",
                (unsigned long long)run->remote.packages, (unsigned long long)run->remote.edges,
                (unsigned long long)run->local.packages, (unsigned long long)run->local.edges);
        return 1;
    }
    for (uint64_t package = 0; package < run->local.packages; package++) {
        double found = remote[package];
        if (bits_of(found) != bits_of(local[package]) && wrong++ < TOP) {
            char name[NAME_BYTES];
            graph_name(&run->local, package, name, sizeof(name));
            fprintf(stderr, "pagerank: %s has rank %a, locally %a\n", name, found, local[package]);
        }
    }
    return wrong;
}

static void print_top(const struct pagerank *run, const double *ranks)
{
    FILE *out = report_text(&run->report);
    uint64_t top[TOP];
    unsigned count = 0;
    for (uint64_t package = 0; package < run->remote.packages; package++) {
        unsigned at = count;
        while (at > 0 && ranks[package] > ranks[top[at - 1]]) {
            at--;
        }
        if (at == TOP) {
            continue;
        }
        count += count < TOP;
        memmove(&top[at + 1], &top[at], (count - at - 1) * sizeof(top[0]));
        top[at] = package;
    }
    fprintf(out, "%llu packages, %llu dependencies, %u iterations\n\n",
            (unsigned long long)run->remote.packages, (unsigned long long)run->remote.edges,
            run->iterations);
    for (unsigned i = 0; i < count; i++) {
        char name[NAME_BYTES];
        graph_name(&run->remote, top[i], name, sizeof(name));
        fprintf(out, "%4u  %.9f  %s\n", i + 1, ranks[top[i]], name);
    }
}

static int compute(struct pagerank *run, uint64_t *wrong)
{
    double start = report_now();
    int result = load_index(run);
    if (result != 0) {
        return result;
    }
    if (graph_build(&run->remote) != 0) {
        fprintf(stderr, "pagerank: the text in the segment is not the text that was counted\n");
        *wrong = 1;
        return 0;
    }
    double *remote = graph_rank(&run->remote, run->iterations, damping);
    report_progress("", 1, 0);
    run->report.seconds = report_now() - start;
    result = report_statistics(&run->report, run->session);
    if (result != 0) {
        return result;
    }
    graph_build(&run->local);
    double *local = graph_rank(&run->local, run->iterations, damping);
    *wrong = compare_ranks(run, remote, local);
    if (*wrong == 0) {
        print_top(run, remote);
    }
    return 0;
}

static int run_all(struct pagerank *run)
{
    uint64_t wrong = 0;
    int result = measure_index(run);
    if (result == 0) {
        result = make_local(run);
    }
    if (result == 0) {
        report_catch_sigbus();
        result = open_session(run);
    }
    if (result != 0) {
        return EXIT_FAILURE_SETUP;
    }
    result = make_segments(run);
    if (result == 0) {
        result = compute(run, &wrong);
    }
    int removed = remove_segments(run);
    int closed = dsm_close(run->session);
    if (closed != 0) {
        report_failure("pagerank", "Closing the session", closed);
    }
    if (wrong != 0) {
        return EXIT_MISMATCH;
    }
    if (result != 0 || removed != 0 || closed != 0) {
        return EXIT_FAILURE_SETUP;
    }
    report_print(&run->report);
    return EXIT_VERIFIED;
}

enum { OPTION_JSON = 256, OPTION_PLAIN, OPTION_HINTS };
static const struct argp_option options[] = {
    {"file", 'f', "FILE", 0, "A package index (default: what 'apt-cache dumpavail' prints)", 0},
    {"iterations", 'i', "N", 0, "Iterations (default 50)", 0},
    {"scale", 's', "N", 0, "No packages: a Kronecker graph of 2^N vertices", 0},
    {"cache", 'c', "SIZE", 0, "Local memory for its pages (default 16M)", 0},
    {"plain", OPTION_PLAIN, NULL, 0, "With --scale: in plain memory, to compare", 0},
    {"hints", OPTION_HINTS, NULL, 0,
     "With --scale: say which edges are passed, and what is overwritten", 0},
    {"json", OPTION_JSON, NULL, 0, "The closing table as JSON", 0},
    {0}};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct pagerank *run = state->input;
    uint64_t value = 0;
    switch (key) {
    case 'f':
    case ARGP_KEY_ARG:
        if (run->file != NULL) {
            argp_error(state, "one FILE only");
        }
        run->file = argument;
        break;
    case 'i':
        if (report_parse_size(argument, &value) != 0 || value == 0 || value > ITERATIONS_MAX) {
            argp_error(state, "--iterations must be from 1 to %d", ITERATIONS_MAX);
        }
        run->iterations = (unsigned)value;
        break;
    case 's':
        if (report_parse_size(argument, &value) != 0 || value < 4 || value > 28) {
            argp_error(state, "--scale must be from 4 to 28");
        }
        run->scale = (unsigned)value;
        break;
    case 'c':
        if (report_parse_size(argument, &run->kronecker.report.cache_bytes) != 0) {
            argp_error(state, "'%s' is not a size such as 256M", argument);
        }
        break;
    case OPTION_PLAIN:
        run->kronecker.report.plain = true;
        break;
    case OPTION_HINTS:
        run->kronecker.hints = true;
        break;
    case OPTION_JSON:
        run->report.json = true;
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
        .args_doc = "[FILE]",
        .doc = "PageRank of the Debian packages by what depends on them, on remote memory.\v"
               "Server and keys come from DSM_SERVER, DSM_SERVER_KEY, DSM_KEY_FILE, ..."};
    static struct pagerank run;
    run.report.program = "pagerank";
    run.iterations = 50;
    run.kronecker.report = (struct report){.program = "pagerank", .cache_bytes = 16 << 20};
    argp_parse(&parser, argc, argv, 0, NULL, &run);
    if (run.scale != 0) {
        run.kronecker.report.json = run.report.json;
        return pagerank_kronecker(&run.kronecker, run.scale, run.iterations, damping);
    }
    int status = run_all(&run);
    for (int part = 0; part < GRAPH_PARTS; part++) {
        free(run.local.parts[part]);
    }
    return status;
}
