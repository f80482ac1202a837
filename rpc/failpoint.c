// SPDX-License-Identifier: Apache-2.0
//
// Why failpoints are compiled into every build: the promise "a crash at any instruction loses
// nothing that was acknowledged" is about the program that is shipped, so the crash tests run that
// program. One armed point per store, or session, is enough: a test walks all points times many
// counts. The state lies there, read from the environment once, when it is opened, so that two of
// one process do not meet here and nobody can arm a point later.
//
// Killing is SIGKILL to the process itself: no destructor, no flush, as a crash at that instruction
// would be. Stopping is for tests in which something else goes wrong just then: a test sees the
// process stopped, does its worst to the server or the network, and lets it go on.
//
// Threads: failpoint_arm before it is shared; failpoint_pass from any thread.
#include "rpc/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

static int parse_action(struct failpoint *point, int may_fail, const char *text)
{
    uint64_t delay = 0;
    if (strcmp(text, "kill") == 0 || strcmp(text, "stop") == 0) {
        point->action = text[0] == 'k' ? FAILPOINT_KILL : FAILPOINT_STOP;
        return 0;
    }
    if (strcmp(text, "error") == 0) {
        point->action = FAILPOINT_ERROR;
        return may_fail ? 0 : -EINVAL;
    }
    if (strncmp(text, "delay-", 6) == 0 && parse_number(text + 6, 60000, &delay) == 0) {
        point->action = FAILPOINT_DELAY;
        point->delay_ms = (uint32_t)delay;
        return 0;
    }
    return -EINVAL;
}

static int parse(struct failpoint *point, const struct failpoint_list *list, char *text)
{
    char *action = strchr(text, ':');
    char *count = action == NULL ? NULL : strchr(action + 1, ':');
    if (count == NULL) {
        return -EINVAL;
    }
    *action++ = '\0';
    *count++ = '\0';
    for (unsigned id = 1; id < list->count; id++) {
        if (strcmp(list->rows[id].text, text) == 0) {
            point->armed = id;
        }
    }
    if (point->armed == 0 || parse_action(point, list->rows[point->armed].may_fail, action) != 0) {
        return -EINVAL;
    }
    return parse_number(count, UINT64_MAX, &point->at) != 0 || point->at == 0 ? -EINVAL : 0;
}

int failpoint_arm_in(struct failpoint *point, const struct failpoint_list *list, const char *text,
                     struct failure *failure)
{
    *point = (struct failpoint){.armed = 0};
    if (text == NULL || *text == '\0') {
        return 0;
    }
    char copy[64] = "";
    if (strlen(text) < sizeof copy) {
        memcpy(copy, text, strlen(text) + 1);
    }
    if (parse(point, list, copy) != 0) {
        point->armed = 0;
        return failure_set(failure, -EINVAL,
                           "%s is '%s': use POINT:kill:N, POINT:stop:N, POINT:error:N or "
                           "POINT:delay-MS:N with a point of %s that can do this, or unset it.",
                           list->variable, text, list->where);
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
    case FAILPOINT_STOP:
        if (pass == point->at) {
            (void)kill(getpid(), SIGSTOP);
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
