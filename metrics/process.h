// SPDX-License-Identifier: Apache-2.0
//
// The metrics that every program has, by the names that Prometheus' own clients give them: process_cpu_seconds_total and so on.
#ifndef METRICS_PROCESS_H
#define METRICS_PROCESS_H

#include "metrics/text.h"

double metrics_process_start(void); // in seconds since 1970, of this process
void metrics_process(struct metrics_text *text, double start);

#endif
