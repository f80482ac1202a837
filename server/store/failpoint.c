// SPDX-License-Identifier: Apache-2.0
//
// The names of the store's steps, and what arms one. What then happens is in rpc/failpoint.c, and so is why they are in every
// build.
//
// Threads: failpoint_arm before the store is shared.
#include "server/store/failpoint.h"

static const struct failpoint_row rows[FAILPOINT_COUNT] = {[FAILPOINT_NONE] = {"", 0},
#define X(name, text, may_fail) [FAILPOINT_##name] = {text, may_fail},
                                                           STORE_FAILPOINTS(X)
#undef X
};

const char *failpoint_name(enum failpoint_id id)
{
    return rows[id].text;
}

int failpoint_arm(struct failpoint *point, const char *text, struct failure *failure)
{
    static const struct failpoint_list list = {rows, FAILPOINT_COUNT, "DSM_FAILPOINT",
                                               "server/store/failpoint.h"};
    return failpoint_arm_in(point, &list, text, failure);
}
