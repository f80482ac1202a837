// SPDX-License-Identifier: Apache-2.0
//
// Watching running programs by probes: who attaches, with which rights, and to what; and the clients that are met there.
#ifndef TOOLS_DSMSTAT_WATCH_H
#define TOOLS_DSMSTAT_WATCH_H

#include "tools/dsmstat.h"
#include "tools/dsmstat_bpf.h"

// ---- files with probes (dsmstat_files.c) ----

// A regular file, for reading: a descriptor, or -errno.
int files_open(const char *path);
bool files_has_probes(int fd);
typedef int files_visit(void *context, int fd); // not 0 ends it, and is returned
int files_of_process(pid_t pid, files_visit *each, void *context);

// ---- the process that attaches (dsmstat_attach.c) ----

enum attach_kind {
    ATTACH_CLIENT, // a client that was not there before: its page's descriptor comes along
    ATTACH_NOTE,   // a sentence for the user: some program cannot be watched
    ATTACH_FAILED, // nothing can
    ATTACH_DONE,   // that was all; pid: how many clients there are
};
struct attach_word {
    uint32_t kind;
    int32_t pid;
    char text[FAILURE_TEXT_BYTES];
};
// Forks. In the parent: a descriptor on which each byte sent is answered by words, the last of which is ATTACH_DONE or
// ATTACH_FAILED; and the caller has no rights left beyond those of an ordinary user. Or -errno with a sentence.
int attach_start(struct seen *seen, const struct stat_options *options, pid_t *child,
                 struct failure *failure);

// ---- the process that shows (dsmstat_watch.c) ----

struct watch {
    struct seen *seen;
    const struct stat_options *options;
    int attacher; // its socket
    pid_t attacher_pid;
    struct stat_client *clients;    // also those that have ended
    struct watch_segment *segments; // that were ever seen open
    size_t segment_count;
    unsigned alive;
    uint64_t since_ns; // when all was attached
    uint64_t next_look_ns;
    bool over; // the process that was asked for has ended
};
// What is open now is remembered, since a closed segment has no name.
void watch_learn(struct watch *watch);

struct watch_view {
    uint32_t wanted;     // SEEN_HIST, ...
    double seconds;      // of a sample where the user says nothing; 0: WATCH_SECONDS
    uint64_t pause_ns;   // show at least as often; 0: once an interval
    void (*begin)(void); // everything is attached; may be NULL
    int (*show)(struct watch *watch, void *state, struct failure *failure); // 0 or -errno
    void *state;
};
enum { WATCH_SECONDS = 5 };
// Attaches, and shows sample after sample until the end: that of the samples asked for, a signal, or the end of
// the process asked for. 0, or -errno with a sentence: -EPERM and -EOPNOTSUPP, this user or this kernel may not.
int watch_run(const struct stat_options *options, const struct watch_view *view,
              struct failure *failure);
int watch_result(int error, const struct failure *failure); // complains; an exit code
// The sentence for those who may not, and what programs tell without it. An exit code.
int watch_refused(const struct stat_options *options, const struct failure *reason,
                  const char *what);

// ---- names (dsmstat_names.c) ----

struct watch_name { // of what a key stands for
    char program[64], segment[STAT_PAGE_NAME_BYTES], server[280];
    uint64_t pages, page_bytes; // of the segment; 0: not known
};
void watch_name(const struct watch *watch, const struct seen_key *key, struct watch_name *name);
// Programs with a full cache have read more pages since they began than their segments have.
bool watch_comes_again(const struct watch *watch);
// Whether --pid, --segment and --server let it through.
bool watch_shows(const struct watch *watch, const struct seen_key *key);

// ---- exit codes ----

int watch_hist(const struct stat_options *options);
int watch_why(const struct stat_options *options);
int watch_heat(const struct stat_options *options);
int watch_trace(const struct stat_options *options);

#endif
