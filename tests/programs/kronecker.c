// SPDX-License-Identifier: Apache-2.0
//
// See kronecker.h. Source: Graph500 specification, kernel "graph generation"; splitmix64: Steele, Lea, Flood, 2014. The
// shuffle of the names is a bijection on `scale` bits (multiply by an odd number, fold, twice), where the specification takes
// a random permutation: it needs no table, and what it is for, to separate a vertex's degree from its name, it does.
#include "tests/programs/kronecker.h"

uint64_t kronecker_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t kronecker_edges(const struct kronecker *graph)
{
    return (uint64_t)KRONECKER_EDGE_FACTOR << graph->scale;
}

static uint32_t shuffled(const struct kronecker *graph, uint64_t vertex)
{
    uint64_t mask = ((uint64_t)1 << graph->scale) - 1;
    unsigned half = graph->scale / 2 + 1;
    for (int round = 0; round < 2; round++) {
        vertex = (vertex * (0x9e3779b97f4a7c15u + 2 * graph->seed)) & mask;
        vertex ^= vertex >> half;
    }
    return (uint32_t)vertex;
}

struct kronecker_edge kronecker_edge(const struct kronecker *graph, uint64_t number)
{
    // Of 2^16: A, then A + B, then A + B + C.
    enum { A = 37356, AB = 49807, ABC = 62259 };
    uint64_t state = graph->seed ^ (number * 0xd1342543de82ef95u);
    uint64_t from = 0;
    uint64_t to = 0;
    uint64_t bits = 0;
    for (unsigned level = 0; level < graph->scale; level++) {
        if (level % 4 == 0) {
            bits = kronecker_random(&state);
        }
        unsigned draw = bits & 0xffff;
        bits >>= 16;
        from = from << 1 | (draw >= AB);
        to = to << 1 | ((draw >= A && draw < AB) || draw >= ABC);
    }
    return (struct kronecker_edge){shuffled(graph, from), shuffled(graph, to)};
}
