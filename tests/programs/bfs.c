// SPDX-License-Identifier: Apache-2.0
//
// bfs: the search of the Graph500 benchmark on remote memory. A Kronecker graph is built as rows of neighbours in segments and
// searched from random roots; what it does to memory is the worst that graph programs do: neighbours' parents lie
// anywhere. Each tree is validated by the specification's rules (bfs_check.c), whose own tables lie in local memory.
//
// The rate is in traversed edges a second, its mean over roots the harmonic one. Not after the specification: fewer roots by
// default (it asks for 64), and one thread.
#include <argp.h>
#include <stdlib.h>
#include <string.h>

#include "tests/programs/bfs_check.h"
#include "tests/programs/workload.h"

struct bfs {
    struct workload workload;
    struct kronecker graph;
    uint64_t vertices;
    unsigned roots;
    bool spoil;       // falsify a parent: the validation must notice
    uint64_t *starts; // of each vertex' neighbours, and one more
    uint32_t *neighbours;
    int32_t *parents;
    uint32_t *queue;
};

// ---- the graph ----

// Edges in the order of their numbers go everywhere at once. The list is made again for each part of the vertices, as
// many parts as it takes for a part's rows to fit into a quarter of the cache: what a program does that knows its memory.
struct part {
    uint64_t first, end; // vertices
};

static uint64_t part_count(const struct bfs *b)
{
    uint64_t bytes = 2 * kronecker_edges(&b->graph) * sizeof(*b->neighbours);
    return bytes * 4 / b->workload.report.cache_bytes + 1;
}

static void for_ends(const struct bfs *b, const char *label,
                     void (*each)(const struct bfs *b, uint32_t vertex, uint32_t neighbour))
{
    uint64_t parts = part_count(b);
    uint64_t count = kronecker_edges(&b->graph);
    for (uint64_t n = 0; n < parts; n++) {
        struct part part = {b->vertices * n / parts, b->vertices * (n + 1) / parts};
        report_progress(label, n, parts);
        for (uint64_t i = 0; i < count; i++) {
            struct kronecker_edge edge = kronecker_edge(&b->graph, i);
            if (edge.from != edge.to && edge.from >= part.first && edge.from < part.end) {
                each(b, edge.from, edge.to);
            }
            if (edge.from != edge.to && edge.to >= part.first && edge.to < part.end) {
                each(b, edge.to, edge.from);
            }
        }
    }
}

static void count_end(const struct bfs *b, uint32_t vertex, uint32_t neighbour)
{
    (void)neighbour;
    b->starts[vertex + 1]++;
}

// starts[v] runs to the end of v's row while it is filled, and is set back afterwards.
static void fill_end(const struct bfs *b, uint32_t vertex, uint32_t neighbour)
{
    b->neighbours[b->starts[vertex]++] = neighbour;
}

static void build(const struct bfs *b)
{
    for_ends(b, "bfs: counting", count_end);
    for (uint64_t v = 0; v < b->vertices; v++) {
        b->starts[v + 1] += b->starts[v];
    }
    for_ends(b, "bfs: building", fill_end);
    memmove(b->starts + 1, b->starts, b->vertices * sizeof(*b->starts));
    b->starts[0] = 0;
}

// ---- a search ----

static void search(const struct bfs *b, uint32_t root)
{
    memset(b->parents, 0xff, b->vertices * sizeof(*b->parents)); // BFS_NONE
    uint64_t head = 0;
    uint64_t tail = 0;
    b->parents[root] = (int32_t)root;
    b->queue[tail++] = root;
    while (head < tail) {
        uint32_t vertex = b->queue[head++];
        for (uint64_t i = b->starts[vertex]; i < b->starts[vertex + 1]; i++) {
            uint32_t next = b->neighbours[i];
            if (b->parents[next] == BFS_NONE) {
                b->parents[next] = (int32_t)vertex;
                b->queue[tail++] = next;
            }
        }
        if (head % 4096 == 0) {
            report_progress("bfs: searching", head, b->vertices);
        }
    }
}

// One that hangs two levels too high from now on.
static void spoil(const struct bfs *b, uint32_t root)
{
    for (uint64_t v = 0; v < b->vertices; v++) {
        int32_t parent = b->parents[v];
        if (parent >= 0 && parent != (int32_t)root && v != root &&
            b->parents[parent] != (int32_t)root) {
            b->parents[v] = (int32_t)root;
            return;
        }
    }
}

static uint32_t pick_root(const struct bfs *b, uint64_t *state)
{
    for (;;) {
        uint32_t root = (uint32_t)(kronecker_random(state) % b->vertices);
        if (b->starts[root + 1] > b->starts[root]) {
            return root;
        }
    }
}

static int search_all(struct bfs *b, struct bfs_check *check)
{
    uint64_t state = b->graph.seed + 1;
    double inverse = 0; // of the rates, summed
    for (unsigned i = 0; i < b->roots; i++) {
        uint32_t vertex = 0;
        uint64_t edges = 0;
        check->root = pick_root(b, &state);
        workload_begin(&b->workload);
        search(b, check->root);
        double seconds = workload_end(&b->workload);
        if (b->spoil) {
            spoil(b, check->root);
        }
        int broken = bfs_check(check, &vertex, &edges);
        if (broken != 0) {
            fprintf(stderr, "bfs: the tree of root %u breaks rule %d at vertex %u\n", check->root,
                    broken, vertex);
            return EXIT_MISMATCH;
        }
        inverse += edges == 0 ? 0 : seconds / (double)edges;
    }
    fprintf(report_text(&b->workload.report),
            "scale %u, %llu edges, %u roots: %.0f edges a second (harmonic mean)\n", b->graph.scale,
            (unsigned long long)kronecker_edges(&b->graph), b->roots,
            inverse > 0 ? b->roots / inverse : 0);
    return EXIT_VERIFIED;
}

static int work(struct bfs *b)
{
    struct workload *w = &b->workload;
    b->vertices = (uint64_t)1 << b->graph.scale;
    uint64_t ends = 2 * kronecker_edges(&b->graph);
    b->starts = workload_array(w, "starts", (b->vertices + 1) * sizeof(*b->starts));
    b->neighbours = workload_array(w, "neighbours", ends * sizeof(*b->neighbours));
    b->parents = workload_array(w, "parents", b->vertices * sizeof(*b->parents));
    b->queue = workload_array(w, "queue", b->vertices * sizeof(*b->queue));
    if (w->count < 4) {
        return EXIT_FAILURE_SETUP;
    }
    build(b);
    struct bfs_check check = {
        .graph = &b->graph,
        .parents = b->parents,
        .levels = malloc(b->vertices * sizeof(int32_t)),
        .joined = malloc(b->vertices),
    };
    int code = EXIT_FAILURE_SETUP;
    if (check.levels == NULL || check.joined == NULL) {
        fprintf(stderr, "bfs: no local memory for the validation.\n");
    } else {
        code = search_all(b, &check);
    }
    free(check.levels);
    free(check.joined);
    return code;
}

enum { OPTION_JSON = 256, OPTION_SPOIL, OPTION_PLAIN };
static const struct argp_option options[] = {
    {"scale", 's', "N", 0, "2^N vertices and 16 times as many edges (default 16)", 0},
    {"roots", 'r', "N", 0, "Searches (default 8)", 0},
    {"cache", 'c', "SIZE", 0, "Local memory for pages (default 1M)", 0},
    {"spoil", OPTION_SPOIL, NULL, 0, "Falsify each tree: the validation must notice", 0},
    {"plain", OPTION_PLAIN, NULL, 0, "In plain memory, to compare", 0},
    {"json", OPTION_JSON, NULL, 0, "The closing table as JSON", 0},
    {0}};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct bfs *b = state->input;
    uint64_t value = 0;
    if (key == ARGP_KEY_ARG ||
        (argument != NULL && (report_parse_size(argument, &value) != 0 || value == 0))) {
        argp_error(state, "'%s' is not a number above 0", argument);
    }
    switch (key) {
    case 's':
        if (value < 4 || value > 30) {
            argp_error(state, "--scale must be 4 to 30");
        }
        b->graph.scale = (unsigned)value;
        break;
    case 'r':
        b->roots = (unsigned)value;
        break;
    case 'c':
        b->workload.report.cache_bytes = value;
        break;
    case OPTION_SPOIL:
        b->spoil = true;
        break;
    case OPTION_PLAIN:
        b->workload.report.plain = true;
        break;
    case OPTION_JSON:
        b->workload.report.json = true;
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
        .doc = "The search of Graph500 on remote memory, validated as it says."};
    struct bfs b = {
        .workload.report = {.program = "bfs", .cache_bytes = UINT64_C(1) << 20},
        .graph = {.scale = 16, .seed = 20},
        .roots = 8,
    };
    argp_parse(&parser, argc, argv, 0, NULL, &b);
    int code = workload_open(&b.workload, 1);
    if (code == EXIT_VERIFIED) {
        code = work(&b);
    }
    return workload_close(&b.workload, code, false);
}
