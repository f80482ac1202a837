// SPDX-License-Identifier: Apache-2.0
//
// Why failpoints are compiled into every build: the promise "a crash at any instruction loses
// nothing that was acknowledged" is about the program that is shipped, so the crash tests run that
// program. One armed point per store is enough: a test walks all points times many counts. The
// state lies in the store, read from the environment once at open, so that two stores of one
// process do not meet here and nobody can arm a point later.
//
// Killing is SIGKILL to the process itself: no destructor, no flush, as a crash at that instruction
// would be.
//
// Threads: failpoint_arm before the store is shared; failpoint_pass from any thread.
#include "server/store/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *text;
    int may_fail;
} points[FAILPOINT_COUNT] = {[FAILPOINT_NONE] = {"", 0},
#define X(name, text, may_fail) [FAILPOINT_##name] = {text, may_fail},
                             STORE_FAILPOINTS(X)
#undef X
};

const char *failpoint_name(enum failpoint_id id)
{
    return points[id].text;
}

static int parse_number(const char *text, uint64_t most, uint64_t *number)
{
    if (*text < '0' || *text > '9') {
        return -EINVAL;
    }
    char *end = NULL;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno != 0 || *end != '\0' || *number > most ? -EINVAL : 0;
}

static int parse_action(struct failpoint *point, const char *text)
{
    uint64_t delay = 0;
    if (strcmp(text, "kill") == 0) {
        point->action = FAILPOINT_KILL;
        return 0;
    }
    if (strcmp(text, "error") == 0) {
        point->action = FAILPOINT_ERROR;
        return points[point->armed].may_fail ? 0 : -EINVAL;
    }
    if (strncmp(text, "delay-", 6) == 0 && parse_number(text + 6, 60000, &delay) == 0) {
        point->action = FAILPOINT_DELAY;
        point->delay_ms = (uint32_t)delay;
        return 0;
    }
    return -EINVAL;
}

static int parse(struct failpoint *point, char *text)
{
    char *action = strchr(text, ':');
    char *count = action == NULL ? NULL : strchr(action + 1, ':');
    if (count == NULL) {
        return -EINVAL;
    }
    *action++ = '\0';
    *count++ = '\0';
    for (enum failpoint_id id = FAILPOINT_NONE + 1; id < FAILPOINT_COUNT; id++) {
        if (strcmp(points[id].text, text) == 0) {
            point->armed = id;
        }
    }
    if (point->armed == FAILPOINT_NONE || parse_action(point, action) != 0) {
        return -EINVAL;
    }
    return parse_number(count, UINT64_MAX, &point->at) != 0 || point->at == 0 ? -EINVAL : 0;
}

int failpoint_arm(struct failpoint *point, const char *text, struct failure *failure)
{
    *point = (struct failpoint){.armed = FAILPOINT_NONE};
    if (text == NULL || *text == '\0') {
        return 0;
    }
    char copy[64] = "";
    if (strlen(text) < sizeof copy) {
        memcpy(copy, text, strlen(text) + 1);
    }
    if (parse(point, copy) != 0) {
        point->armed = FAILPOINT_NONE;
        return failure_set(failure, -EINVAL,
                           "DSM_FAILPOINT is '%s': use POINT:kill:N, POINT:error:N or "
                           "POINT:delay-MS:N with a point of server/store/failpoint.h that can "
                           "do this, or unset it.",
                           text);
    }
    return 0;
}

int failpoint_pass(struct failpoint *point)
{
    uint64_t pass = atomic_fetch_add(&point->passes, 1) + 1;
    switch (point->action) {
    case FAILPOINT_KILL:
        if (pass == point->at) {
            (void)kill(getpid(), SIGKILL);
            for (;;) {
                (void)pause(); // another thread was here first: the signal is on its way
            }
        }
        break;
    case FAILPOINT_ERROR:
        return pass == point->at ? -EIO : 0;
    case FAILPOINT_DELAY:
        if (pass >= point->at) {
            struct timespec delay = {.tv_sec = point->delay_ms / 1000,
                                     .tv_nsec = (long)(point->delay_ms % 1000) * 1000000};
            (void)nanosleep(&delay, NULL);
        }
        break;
    }
    return 0;
}
