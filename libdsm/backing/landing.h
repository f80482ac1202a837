// SPDX-License-Identifier: Apache-2.0
//
// Between runs.c, which asks, and the sink, which owns the frames.
#ifndef LIBDSM_BACKING_LANDING_H
#define LIBDSM_BACKING_LANDING_H

#include "libdsm/backing/backing.h"

struct land { // one call
    struct backing_lane *lane;
    struct backing_run *run;
    const struct backing_sink *sink;
    void *context;
    int64_t deadline;
};

// An answer's header came: makes room for its pages. 0; -EBADMSG when the answer is not to what was asked; -ENOMEM when the
// sink has no room.
int landing_begin(const struct land *land, const struct wire_header *answer);
// Takes the payload in. 0, -ENOMEM, the lane's errors; -EINPROGRESS: the lane's landing is open, go on later. run->done
// counts what was delivered.
int landing_go_on(const struct land *land);

#endif
