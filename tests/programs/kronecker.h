// SPDX-License-Identifier: Apache-2.0
//
// The graph of the Graph500 benchmark: edges of a Kronecker graph with the initiator A = 0.57, B = C = 0.19, 16 edges for
// each of 2^scale vertices, their names shuffled. Each edge follows from its number and a seed, so an edge list need not
// be kept to be looked at again.
#ifndef TESTS_PROGRAMS_KRONECKER_H
#define TESTS_PROGRAMS_KRONECKER_H

#include <stdint.h>

enum { KRONECKER_EDGE_FACTOR = 16 };

struct kronecker {
    unsigned scale; // at most 31
    uint64_t seed;
};

struct kronecker_edge {
    uint32_t from, to;
};

uint64_t kronecker_edges(const struct kronecker *graph);
struct kronecker_edge kronecker_edge(const struct kronecker *graph, uint64_t number);
uint64_t kronecker_random(uint64_t *state); // splitmix64

#endif
