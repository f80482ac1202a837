// SPDX-License-Identifier: Apache-2.0
//
// The semaphores of the server's probes, which tracers raise while they are attached.
#include "server/probes.h"

#define DSM_PROBE PROBE_DEFINE
#include "server/probes.def"
#undef DSM_PROBE
