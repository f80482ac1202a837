// SPDX-License-Identifier: Apache-2.0
//
// Named points between the steps of something that must survive a crash, at which a test can kill the process, stop it, fail the step or
// delay it: "POINT:ACTION:N" acts at the N-th pass; ACTION is kill, stop (SIGSTOP), error, or delay-MS (from that pass on). Compiled in
// always, armed by the environment and before anything is shared; a point that is not armed costs one predicted branch.
#ifndef RPC_FAILPOINT_H
#define RPC_FAILPOINT_H

#include <stdatomic.h>
#include <stdint.h>

#include "rpc/failure.h"

enum failpoint_action { FAILPOINT_KILL, FAILPOINT_STOP, FAILPOINT_ERROR, FAILPOINT_DELAY };

struct failpoint_row {
    const char *text;
    int may_fail; // 0 where the step before it cannot be taken back: "error" does not fit
};

struct failpoint_list { // rows[0] is no point
    const struct failpoint_row *rows;
    unsigned count;
    const char *variable, *where; // for the sentence: what armed it, and what to look into
};

struct failpoint {
    unsigned armed; // 0: none
    enum failpoint_action action;
    uint32_t delay_ms;
    uint64_t at;
    _Atomic uint64_t passes;
};

// NULL or "": nothing armed. -EINVAL with a sentence for what is not a point, an action that fits
// it and a count.
int failpoint_arm_in(struct failpoint *point, const struct failpoint_list *list, const char *text,
                     struct failure *failure);
int failpoint_pass(struct failpoint *point); // counts, acts; 0 or -EIO

static inline int failpoint_at(struct failpoint *point, unsigned id)
{
    return __builtin_expect(point->armed == id, 0) ? failpoint_pass(point) : 0;
}

#endif
