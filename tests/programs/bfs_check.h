// SPDX-License-Identifier: Apache-2.0
//
// The Graph500 specification's validation of a search tree, in five rules:
//   1. the tree has no cycles, and hangs at the root;
//   2. each tree edge joins vertices whose levels differ by one;
//   3. each edge of the list joins vertices whose levels differ by at most one, or that are both not in the tree;
//   4. the tree spans a whole connected component (the other half of rule 3: no edge leads out of it);
//   5. a vertex and its parent are joined by an edge of the list.
#ifndef TESTS_PROGRAMS_BFS_CHECK_H
#define TESTS_PROGRAMS_BFS_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/programs/kronecker.h"

enum { BFS_NONE = -1 }; // the parent of a vertex that was not reached

struct bfs_check {
    const struct kronecker *graph;
    uint32_t root;
    const int32_t *parents; // of each vertex; the root's is itself
    int32_t *levels;        // room for them
    uint8_t *joined;        // room for one of each vertex
};

// 0, or the number of the rule that is broken; *vertex is one that it is broken at. *edges: of the component, self-loops not
// counted, for the rate.
int bfs_check(const struct bfs_check *check, uint32_t *vertex, uint64_t *edges);

#endif
