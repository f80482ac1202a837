// SPDX-License-Identifier: Apache-2.0
//
// The ranks of the vertices of a Kronecker graph (that of bfs), by the routine that ranks packages: the part of pagerank that
// can be made as large as one likes, and that needs nothing beside its arrays. Offsets and edges are built in the arrays
// themselves; the list of edges is made twice, to count and to fill.
//
// It is verified without a copy: the ranks add up to 1, and ranked again they are the same to the last bit. A page that came
// back as another would change a sum of millions of roundings.
#include "tests/programs/pagerank_kronecker.h"

#include <math.h>
#include <string.h>

#include "tests/programs/kronecker.h"
#include "tests/programs/package_graph.h"

static const char *const names[GRAPH_PARTS] = {"",        "",       "offsets", "edges",
                                               "degrees", "rank-a", "rank-b"};

static void progress(const char *label, uint64_t done, uint64_t total)
{
    report_progress(label, done, total);
}

static void overwritten(void *context, void *part, uint64_t from, uint64_t end)
{
    workload_overwritten(context, part, from, end);
}

static void passed(void *context, void *part, uint64_t from, uint64_t end)
{
    workload_passed(context, part, from, end);
}

static int make_arrays(struct workload *workload, const struct kronecker *k, struct graph *graph)
{
    graph->packages = UINT64_C(1) << k->scale;
    graph->edges = kronecker_edges(k);
    graph->sizes.packages = graph->packages;
    graph->sizes.edges = graph->edges;
    for (int part = GRAPH_OFFSETS; part < GRAPH_PARTS; part++) {
        uint64_t bytes = graph_part_bytes(&graph->sizes, (enum graph_part)part);
        graph->parts[part] = workload_array(workload, names[part], bytes);
        if (graph->parts[part] == NULL) {
            return -1;
        }
    }
    return 0;
}

// Offsets run to the end of a vertex' edges while these are filled in, and are set back afterwards. Edges in the order of their numbers
// go everywhere at once, so the list is made again for each part of the vertices whose edges fit into a quarter of the cache.
static void build(const struct kronecker *k, const struct graph *graph, uint64_t cache_bytes)
{
    uint64_t *offsets = graph->parts[GRAPH_OFFSETS];
    uint32_t *edges = graph->parts[GRAPH_EDGES];
    uint32_t *degrees = graph->parts[GRAPH_DEGREES];
    uint64_t parts = 4 * graph->edges * sizeof(*edges) / cache_bytes + 1;
    for (uint64_t i = 0; i < graph->edges; i++) {
        degrees[kronecker_edge(k, i).from]++;
    }
    for (uint64_t v = 0; v < graph->packages; v++) {
        offsets[v + 1] = offsets[v] + degrees[v];
    }
    for (uint64_t part = 0; part < parts; part++) {
        uint64_t first = graph->packages * part / parts;
        uint64_t end = graph->packages * (part + 1) / parts;
        for (uint64_t i = 0; i < graph->edges; i++) {
            struct kronecker_edge edge = kronecker_edge(k, i);
            if (edge.from >= first && edge.from < end) {
                edges[offsets[edge.from]++] = edge.to;
            }
        }
    }
    memmove(offsets + 1, offsets, graph->packages * sizeof(*offsets));
    offsets[0] = 0;
}

struct digest {
    double sum;
    uint64_t bits;
};

static struct digest digest_of(const double *ranks, uint64_t count)
{
    struct digest digest = {.sum = 0};
    for (uint64_t i = 0; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &ranks[i], sizeof(bits));
        digest.sum += ranks[i];
        digest.bits = (digest.bits ^ bits) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return digest;
}

static int work(struct workload *workload, const struct kronecker *k, unsigned iterations,
                double damping)
{
    struct graph graph = {.progress = progress, .context = workload};
    if (make_arrays(workload, k, &graph) != 0) {
        return EXIT_FAILURE_SETUP;
    }
    build(k, &graph, workload->report.cache_bytes);
    if (workload->hints) {
        graph.overwritten = overwritten;
        graph.passed = passed;
    }
    workload_begin(workload);
    const double *ranks = graph_rank(&graph, iterations, damping);
    (void)workload_end(workload);
    struct digest first = digest_of(ranks, graph.packages);
    struct digest second = digest_of(graph_rank(&graph, iterations, damping), graph.packages);
    report_progress("", 1, 0);
    if (fabs(first.sum - 1) > 1e-9 || first.bits != second.bits) {
        fprintf(stderr, "pagerank: ranks of sum %.17g, then of %.17g\n", first.sum, second.sum);
        return EXIT_MISMATCH;
    }
    fprintf(report_text(&workload->report), "%llu vertices, %llu edges, %u iterations in %.3f s\n",
            (unsigned long long)graph.packages, (unsigned long long)graph.edges, iterations,
            workload->report.work_seconds);
    return EXIT_VERIFIED;
}

int pagerank_kronecker(struct workload *workload, unsigned scale, unsigned iterations,
                       double damping)
{
    struct kronecker k = {.scale = scale, .seed = 20};
    int code = workload_open(workload, 1);
    if (code == EXIT_VERIFIED) {
        code = work(workload, &k, iterations, damping);
    }
    return workload_close(workload, code, false);
}
