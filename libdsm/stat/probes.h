// SPDX-License-Identifier: Apache-2.0
//
// The library's probes: probe_NAME(...) for each of probes.def, and probe_NAME_on(): somebody is attached.
#ifndef LIBDSM_STAT_PROBES_H
#define LIBDSM_STAT_PROBES_H

#include "libdsm/stat/fault_parts.h"
#include "rpc/probe.h"

#define DSM_PROBE PROBE_DECLARE
#include "libdsm/stat/probes.def"
#undef DSM_PROBE

#endif
