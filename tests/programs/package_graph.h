// SPDX-License-Identifier: Apache-2.0
//
// The dependency graph of a package index and PageRank over it, in memory that the caller gives: segments, or
// malloc's. The same instructions run on either, in the same order, so the ranks must agree to the last bit.
#ifndef TESTS_PROGRAMS_PACKAGE_GRAPH_H
#define TESTS_PROGRAMS_PACKAGE_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "tests/programs/package_index.h"

enum graph_part {
    GRAPH_TEXT,    // the index itself
    GRAPH_NAMES,   // names' bytes, a name for each package, and a hash table
    GRAPH_OFFSETS, // CSR: edges of package p are [offsets[p], offsets[p + 1])
    GRAPH_EDGES,
    GRAPH_DEGREES,
    GRAPH_RANK_A,
    GRAPH_RANK_B,
    GRAPH_PARTS
};
extern const char *const graph_part_names[GRAPH_PARTS];

struct graph_sizes { // upper bounds, from a first reading as a stream
    uint64_t text_bytes, packages, names, name_bytes, edges;
};
// A parser that adds up sizes (but for text_bytes).
struct index_parser graph_counter(struct graph_sizes *sizes);
uint64_t graph_part_bytes(const struct graph_sizes *sizes, enum graph_part part); // > 0

struct graph {
    struct graph_sizes sizes;
    void *parts[GRAPH_PARTS];                                           // all set by the caller
    void (*progress)(const char *label, uint64_t done, uint64_t total); // may be NULL
    // Hints while ranks are computed, of bytes [from, end) of a part: each is stored next, or is not touched again soon. May be NULL.
    void (*overwritten)(void *context, void *part, uint64_t from, uint64_t end);
    void (*passed)(void *context, void *part, uint64_t from, uint64_t end);
    void *context;
    uint64_t packages, edges; // by graph_build
};

// parts[GRAPH_TEXT] holds the index, every other part is zeros. 0, or -EINVAL when the text is not what was counted.
int graph_build(struct graph *graph);
// Ranks of all packages, of sum 1.
double *graph_rank(struct graph *graph, unsigned iterations, double damping);
// Copies a package's name, cut to capacity, with a NUL.
void graph_name(const struct graph *graph, uint64_t package, char *to, size_t capacity);
// The package of that name, or the first that provides it; UINT64_MAX: none.
uint64_t graph_find(const struct graph *graph, const char *name, size_t bytes);

#endif
