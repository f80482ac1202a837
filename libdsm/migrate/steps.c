// SPDX-License-Identifier: Apache-2.0
//
// The steps' names. They are compiled into every build, as the store's are, and for the same reason: what must survive a crash is
// what programs link. One point for a session, armed when it is opened.
//
// Rejected: dsmd's variable, DSM_FAILPOINT. An embedded dsmd has its program's environment, and knows only its own points.
#include "libdsm/migrate/steps.h"

static const struct failpoint_row rows[MIGRATE_STEP_COUNT] = {[MIGRATE_NO_STEP] = {"", 0},
#define X(name, text, may_fail) [MIGRATE_##name] = {text, may_fail},
                                                              MIGRATE_STEPS(X)
#undef X
};

int migrate_steps_arm(struct failpoint *point, const char *text, struct failure *failure)
{
    static const struct failpoint_list list = {rows, MIGRATE_STEP_COUNT, "DSM_MIGRATE_FAILPOINT",
                                               "libdsm/migrate/steps.h"};
    return failpoint_arm_in(point, &list, text, failure);
}
