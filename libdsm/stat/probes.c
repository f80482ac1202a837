// SPDX-License-Identifier: Apache-2.0
//
// The semaphores of the library's probes, which tracers raise in the program's memory while they are attached. They lie in a
// section of their own, hidden: two libraries in one process count apart.
#include "libdsm/stat/probes.h"

#define DSM_PROBE PROBE_DEFINE
#include "libdsm/stat/probes.def"
#undef DSM_PROBE
