// SPDX-License-Identifier: Apache-2.0
//
// PageRank of a Kronecker graph, of any size: what pagerank does with --scale.
#ifndef TESTS_PROGRAMS_PAGERANK_KRONECKER_H
#define TESTS_PROGRAMS_PAGERANK_KRONECKER_H

#include "tests/programs/workload.h"

// An exit code; prints the closing table.
int pagerank_kronecker(struct workload *workload, unsigned scale, unsigned iterations,
                       double damping);

#endif
