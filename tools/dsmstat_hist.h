// SPDX-License-Identifier: Apache-2.0
//
// What dsmstat hist shows, for people (dsmstat_hist.c) and for programs (dsmstat_hist_data.c).
#ifndef TOOLS_DSMSTAT_HIST_H
#define TOOLS_DSMSTAT_HIST_H

#include "tools/dsmstat_sums.h"

struct hist_group { // of one key, or of all
    struct seen_counts counts;
    struct seen_hist hist;
};
struct hist_sample {
    struct sums counts, hist;
    double seconds; // that it is of
};
void hist_group_at(const struct hist_sample *sample, size_t i, struct hist_group *group);
struct stat_latency hist_latency(const struct seen_times *times);
void hist_draw_times(const char *title, const struct seen_times *times);

void hist_print_json(const struct watch *watch, const struct hist_sample *sample);
void hist_csv_heading(void);
void hist_print_csv(const struct watch *watch, const struct hist_sample *sample);
// What programs tell of themselves: for those who may not attach, for the reason given. An exit code.
int hist_of_pages(const struct stat_options *options, const struct failure *reason);

#endif
