// SPDX-License-Identifier: Apache-2.0
//
// Pictures of results, for --plot: an SVG file that needs nothing beside it.
#ifndef TOOLS_DSMPERF_PLOT_H
#define TOOLS_DSMPERF_PLOT_H

#include "tools/dsmperf.h"

struct perf_distribution {
    const char *name;
    struct perf_samples *samples; // microseconds; are sorted
};
// How many of the samples took at most so long, over a logarithmic scale of time; a line at `limit` unless it is NAN. Nothing without --plot.
int perf_plot_distributions(const struct perf_settings *settings, const char *title,
                            const struct perf_distribution *all, size_t count, double limit,
                            struct failure *failure);

struct perf_curve {
    const char *name;
    bool dashed;
    uint32_t color; // which of the palette
    size_t count;
    double x[16], y[16]; // NAN: no point there
};
// Values of y over a logarithmic scale, over those of x as they are given.
int perf_plot_curves(const struct perf_settings *settings, const char *title, const char *x_name,
                     const char *y_name, const struct perf_curve *curves, size_t count,
                     struct failure *failure);

#endif
