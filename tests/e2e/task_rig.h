// SPDX-License-Identifier: Apache-2.0
//
// What the programs whose tasks move share: the key for which a capsule is sealed, and a task's way from one yield to the next.
#ifndef TESTS_E2E_TASK_RIG_H
#define TESTS_E2E_TASK_RIG_H

#include "tests/e2e/hold_rig.h"

// The destination's, from the file $TASK_PUBLIC_KEY.
static inline const char *task_public_key(void)
{
    static char key[64];
    FILE *file = fopen(hold_setting("TASK_PUBLIC_KEY"), "re");
    CHECK(file != NULL && fgets(key, sizeof key, file) != NULL);
    (void)fclose(file);
    key[strcspn(key, "\n")] = 0;
    return key;
}

static inline void task_one_yield(dsm_task *task)
{
    dsm_task_stop(task);
    RESULT(dsm_task_run(task, NULL), 0);
}

#endif
