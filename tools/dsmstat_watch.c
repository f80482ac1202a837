// SPDX-License-Identifier: Apache-2.0
//
// What hist, why, heat and trace have in common: they start the process that attaches, ask it again and again what is new, and
// know the names of what the kernel counts under numbers. A program's segments are named by its statistics page; a
// program without one (DSM_STAT=off) is counted all the same, under numbers alone.
//
// Looking for programs means reading /proc, which takes time on a machine with many processes: it is done every 0.2 s, and less
// often when it takes more than a twentieth of that. Until a library's file is met, its programs' faults are not counted;
// programs whose library is known already are counted from their first fault.
//
// SIGINT and SIGTERM end the watching in order: what was seen so far is shown. The terminal's modes are never touched.
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tools/dsmstat_sums.h"

enum { LOOK_EVERY_NS = 200000000, LOOK_SHARE = 20, NS_PER_S = 1000000000 };

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static void complain(const char *text)
{
    (void)fprintf(stderr, "dsmstat: %s\n", text);
}

// One word, with the descriptor that came along, or -1. 0 or -errno.
static int hear(const struct watch *watch, struct attach_word *word, int *descriptor)
{
    struct iovec part = {.iov_base = word, .iov_len = sizeof *word};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } room;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = room.bytes,
                             .msg_controllen = sizeof room.bytes};
    ssize_t got;
    do {
        got = recvmsg(watch->attacher, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof *word) {
        return got < 0 ? -errno : -EPIPE;
    }
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *descriptor = -1;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
    }
    return 0;
}

static void meet(struct watch *watch, pid_t pid, int descriptor)
{
    struct stat_client *client;
    if (stat_client_adopt(pid, descriptor, &client) == 0) {
        client->next =
            watch->clients; // one that has ended comes after those of the same pid that are new
        watch->clients = client;
    }
}

static int look(struct watch *watch, struct failure *failure)
{
    struct attach_word word = {0};
    uint64_t begun = stat_now_ns();
    int error = send(watch->attacher, "?", 1, MSG_NOSIGNAL) == 1 ? 0 : -errno;
    while (error == 0) {
        int descriptor = -1;
        error = hear(watch, &word, &descriptor);
        if (error == 0 && word.kind == ATTACH_CLIENT && descriptor >= 0) {
            meet(watch, word.pid, descriptor);
        } else if (error == 0 && word.kind == ATTACH_NOTE) {
            complain(word.text);
        } else {
            break;
        }
    }
    if (error != 0) {
        return failure_set(failure, error, "the process that attaches has ended");
    }
    if (word.kind == ATTACH_FAILED) {
        return failure_set(failure, -ESRCH, "%s", word.text);
    }
    watch_learn(watch);
    watch->alive = (unsigned)word.pid;
    watch->over = watch->options->pid != 0 && watch->alive == 0;
    uint64_t now = stat_now_ns();
    uint64_t pause = (now - begun) * LOOK_SHARE;
    watch->next_look_ns = now + (pause > LOOK_EVERY_NS ? pause : LOOK_EVERY_NS);
    return 0;
}

static void end(struct watch *watch)
{
    if (watch->attacher >= 0) {
        (void)close(watch->attacher); // it ends
        watch->attacher = -1;
    }
    while (watch->clients != NULL) {
        struct stat_client *client = watch->clients;
        watch->clients = client->next;
        stat_client_destroy(&client);
    }
    free(watch->segments);
    seen_unload(&watch->seen);
}

static int start(const struct stat_options *options, const struct watch_view *view,
                 struct watch *watch, struct failure *failure)
{
    struct seen_wish wish = {.wanted = view->wanted, .pid = options->pid};
    struct sigaction action = {.sa_handler = on_signal}; // no SA_RESTART: waiting ends
    *watch = (struct watch){.options = options, .attacher = -1};
    int error = seen_load(&wish, &watch->seen, failure);
    if (error != 0) {
        return error;
    }
    int socket = attach_start(watch->seen, options, &watch->attacher_pid, failure);
    if (socket < 0) {
        end(watch);
        return socket;
    }
    watch->attacher = socket;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    error = look(watch, failure);
    if (error != 0) {
        end(watch);
    }
    return error;
}

// Until `until_ns` or the end; meanwhile, programs that come are attached to. 0, 1: it is to end, or -errno with a sentence.
static int wait_until(struct watch *watch, uint64_t until_ns, struct failure *failure)
{
    while (interrupted == 0 && !watch->over) {
        uint64_t now = stat_now_ns();
        if (now >= until_ns) {
            return 0;
        }
        if (now >= watch->next_look_ns) {
            int error = look(watch, failure);
            if (error != 0) {
                return error;
            }
            continue;
        }
        uint64_t next = watch->next_look_ns < until_ns ? watch->next_look_ns : until_ns;
        struct timespec until = {.tv_sec = (time_t)(next / NS_PER_S),
                                 .tv_nsec = (long)(next % NS_PER_S)};
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    return 1;
}

static void tell_losses(const struct watch *watch)
{
    static const char *const losses[SEEN_LOSSES] = {
        [SEEN_LOST_KEYS] = "faults found no room: too many processes, segments and servers",
        [SEEN_LOST_CELLS] = "faults found no room in the map of heat",
        [SEEN_LOST_EVENTS] = "lines are missing: faults came faster than they could be written",
        [SEEN_LOST_PARTS] = "faults could not be read from the program's memory",
        [SEEN_LOST_STARTS] = "faults were left out, since nobody saw their beginning",
    };
    for (unsigned i = 0; i < SEEN_LOSSES; i++) {
        uint64_t lost = seen_lost(watch->seen, i);
        // The first fault of each process is what makes the kernel's side look at its threads.
        if (lost > (i == SEEN_LOST_STARTS ? watch->segment_count + watch->alive + 1 : 0)) {
            (void)fprintf(stderr, "dsmstat: %" PRIu64 " %s\n", lost, losses[i]);
        }
    }
}

static int show_all(struct watch *watch, const struct watch_view *view, double seconds,
                    struct failure *failure)
{
    uint64_t samples = watch->options->interval_s > 0 ? watch->options->count : 1;
    uint64_t from = watch->since_ns, at = from;
    int result = 0;
    for (uint64_t i = 1; result == 0 && i <= samples;) {
        uint64_t next = from + (uint64_t)((double)i * seconds * NS_PER_S);
        at = view->pause_ns != 0 && at + view->pause_ns < next ? at + view->pause_ns : next;
        i += at == next ? 1 : 0;
        result = wait_until(watch, at, failure);
        if (result == 0 && at == next && seconds * NS_PER_S >= LOOK_EVERY_NS) {
            result = look(watch, failure); // who came lately has a name, too
        }
        if (at == next) {
            watch_learn(watch);
        }
        int error = result >= 0 ? view->show(watch, view->state, failure) : 0;
        if (error == 0 && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
            error =
                failure_set(failure, -EIO, "The output cannot be written: %s.", strerror(errno));
        }
        result = error != 0 ? error : result;
    }
    return result > 0 ? 0 : result;
}

int watch_run(const struct stat_options *options, const struct watch_view *view,
              struct failure *failure)
{
    struct watch watch;
    double seconds = options->interval_s > 0 ? options->interval_s
                                             : (view->seconds > 0 ? view->seconds : WATCH_SECONDS);
    int error = start(options, view, &watch, failure);
    if (error != 0) {
        return error;
    }
    watch.since_ns = stat_now_ns();
    draw_begin();
    if (view->begin != NULL) {
        view->begin();
        (void)fflush(stdout);
    }
    error = show_all(&watch, view, seconds, failure);
    tell_losses(&watch);
    end(&watch);
    return error;
}

int watch_result(int error, const struct failure *failure)
{
    if (error != 0) {
        complain(failure->text);
    }
    return error == 0 ? DSMSTAT_DONE : DSMSTAT_FAILED;
}

int watch_refused(const struct stat_options *options, const struct failure *reason,
                  const char *what)
{
    (void)fprintf(stderr, "dsmstat: %s; it would show %s.\n", reason->text, what);
    if (options->format == STAT_TEXT) {
        (void)stat_clients(options);
    }
    return DSMSTAT_FAILED;
}
