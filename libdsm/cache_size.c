// SPDX-License-Identifier: Apache-2.0
//
// The default of DSM_CACHE. A quarter of what is available leaves the program and the rest of the node room; half of what the
// memory control group has left, since there the limit kills. Both are what is there when the session opens: a job whose
// arrays come later should say its own.
//
// The ranks of a parallel program start at the same moment, and each sees the same free memory, so they share it. Each launcher
// tells the number of ranks on the node in a variable of its own; the first that holds a number counts. What SLURM
// says of a step comes before what it says of the job, and its "4(x2),3" (tasks of each node) counts by its first number:
// which of them is this node's is not known, and allocations are even as a rule.
//
// Pure functions but for what they read. Any thread.
#include "libdsm/cache_size.h"

#include <stdlib.h>

#include "rpc/limits.h"
#include "rpc/memory.h"

enum { RANKS_MOST = 1 << 16, MIB = 1 << 20 };
// When not even that is known.
#define CACHE_FALLBACK_BYTES (UINT64_C(64) << 20)

static const char *const rank_variables[] = {
    "OMPI_COMM_WORLD_LOCAL_SIZE", // Open MPI
    "MPI_LOCALNRANKS",            // MPICH and Intel MPI
    "MV2_COMM_WORLD_LOCAL_SIZE",  // MVAPICH2
    "PMI_LOCAL_SIZE",             // PMI of several launchers
    "PALS_LOCAL_SIZE",            // HPE Cray
    "SLURM_STEP_TASKS_PER_NODE",  // srun
    "SLURM_NTASKS_PER_NODE",      // sbatch --ntasks-per-node
};

uint64_t cache_size_least(void)
{
    return (uint64_t)(LIMIT_CACHE_MIN_PAGES + LIMIT_CACHE_PAGES_PER_THREAD) * LIMIT_PAGE_MIN_BYTES;
}

uint64_t cache_size_ranks(void)
{
    for (size_t i = 0; i < sizeof rank_variables / sizeof *rank_variables; i++) {
        const char *text = getenv(rank_variables[i]);
        unsigned long ranks = text != NULL ? strtoul(text, NULL, 10) : 0;
        if (ranks > 0 && ranks <= RANKS_MOST) {
            return ranks;
        }
    }
    return 1;
}

uint64_t cache_size_default(const char *root, uint64_t ranks)
{
    uint64_t available = memory_available(root);
    uint64_t left = memory_cgroup_left(root);
    uint64_t bytes = available / 4 < left / 2 ? available / 4 : left / 2;
    if (available == UINT64_MAX && left == UINT64_MAX) {
        bytes = CACHE_FALLBACK_BYTES;
    }
    bytes /= ranks > 0 ? ranks : 1;
    bytes -= bytes > MIB ? bytes % MIB : bytes % LIMIT_PAGE_MIN_BYTES;
    return bytes > cache_size_least() ? bytes : cache_size_least();
}
