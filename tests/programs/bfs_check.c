// SPDX-License-Identifier: Apache-2.0
//
// See bfs_check.h. It looks at the parents and the edge list only, never at what the search kept for itself. Levels come from
// the parents: each walk upwards stops at a vertex whose level is known; a walk longer than there are vertices is a cycle.
#include "tests/programs/bfs_check.h"

#include <stdlib.h>
#include <string.h>

enum { UNKNOWN = -2 };

static bool level_of(const struct bfs_check *c, uint32_t vertex, uint64_t vertices)
{
    uint64_t length = 0;
    uint32_t at = vertex;
    while (c->levels[at] == UNKNOWN) {
        int32_t parent = c->parents[at];
        if (parent < 0 || (uint64_t)parent >= vertices || ++length > vertices) {
            return false;
        }
        at = (uint32_t)parent;
    }
    if (c->levels[at] < 0) { // the way leads to a vertex that was not reached
        return false;
    }
    int32_t level = c->levels[at] + (int32_t)length;
    for (at = vertex; c->levels[at] == UNKNOWN; at = (uint32_t)c->parents[at]) {
        c->levels[at] = level--;
    }
    return true;
}

static bool levels(const struct bfs_check *c, uint64_t vertices, uint32_t *vertex)
{
    for (uint64_t v = 0; v < vertices; v++) {
        c->levels[v] = c->parents[v] == BFS_NONE ? BFS_NONE : UNKNOWN;
        c->joined[v] = 0;
    }
    *vertex = c->root;
    if (c->parents[c->root] != (int32_t)c->root) {
        return false;
    }
    c->levels[c->root] = 0;
    for (uint64_t v = 0; v < vertices; v++) {
        *vertex = (uint32_t)v;
        if (c->levels[v] == UNKNOWN && !level_of(c, (uint32_t)v, vertices)) {
            return false;
        }
    }
    return true;
}

// Rules 3 and 4 of one edge; notes the tree edges that it proves.
static int look(const struct bfs_check *c, struct kronecker_edge edge, uint64_t *edges)
{
    int32_t from = c->levels[edge.from];
    int32_t to = c->levels[edge.to];
    if ((from < 0) != (to < 0)) {
        return 4;
    }
    if (from < 0) {
        return 0;
    }
    if (abs(from - to) > 1) {
        return 3;
    }
    *edges += edge.from != edge.to;
    if (c->parents[edge.from] == (int32_t)edge.to) {
        c->joined[edge.from] = 1;
    }
    if (c->parents[edge.to] == (int32_t)edge.from) {
        c->joined[edge.to] = 1;
    }
    return 0;
}

int bfs_check(const struct bfs_check *check, uint32_t *vertex, uint64_t *edges)
{
    uint64_t vertices = (uint64_t)1 << check->graph->scale;
    *edges = 0;
    if (!levels(check, vertices, vertex)) {
        return 1;
    }
    uint64_t count = kronecker_edges(check->graph);
    for (uint64_t i = 0; i < count; i++) {
        struct kronecker_edge edge = kronecker_edge(check->graph, i);
        int broken = look(check, edge, edges);
        if (broken != 0) {
            *vertex = edge.from;
            return broken;
        }
    }
    for (uint64_t v = 0; v < vertices; v++) {
        *vertex = (uint32_t)v;
        if (check->levels[v] <= 0) {
            continue;
        }
        if (check->levels[v] != check->levels[check->parents[v]] + 1) {
            return 2;
        }
        if (!check->joined[v]) {
            return 5;
        }
    }
    return 0;
}
