// SPDX-License-Identifier: Apache-2.0
//
// The server's probes: probe_NAME(...) for each of probes.def, and probe_NAME_on(): somebody is attached.
#ifndef SERVER_PROBES_H
#define SERVER_PROBES_H

#include "rpc/probe.h"

#define DSM_PROBE PROBE_DECLARE
#include "server/probes.def"
#undef DSM_PROBE

#endif
