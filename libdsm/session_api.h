// SPDX-License-Identifier: Apache-2.0
//
// What the files behind dsm.h share: the session and the segment as the program holds them.
#ifndef LIBDSM_SESSION_API_H
#define LIBDSM_SESSION_API_H

#include <pthread.h>

#include "dsm/dsm.h"
#include "libdsm/alloc.h"
#include "libdsm/backing/control.h"
#include "libdsm/backing/session.h"
#include "libdsm/migrate/steps.h"
#include "libdsm/pager/pager.h"
#include "libdsm/settings.h"
#include "libdsm/stat/stat_page.h"

struct dsm_segment {
    struct segment segment;
    dsm *session;
    dsm_segment *next;
    bool ephemeral; // its contents go with it
    bool in_task;   // it is closed by its task, and moves with it; never code
    bool code;
    uint8_t identity[WIRE_DIGEST_BYTES]; // of code: its contents' digest
    uint32_t shared;                     // of code, under code_lock: opened so many times more
    uint32_t in_tasks; // of code, under code_lock: of these, and the first, tasks'
    struct {           // of a heap: what it began as
        uint64_t segment, version, pages;
    } from;
};

struct dsm {
    struct settings settings;
    struct failpoint steps; // of a move; none is armed but in tests
    const struct trap_ops *trap;
    struct stat_page page;
    struct counters *counters; // in the page
    struct session session;
    struct pager pager;
    // Taken in this order: code_lock, opening, lock.
    pthread_mutex_t lock;      // of the list of segments
    pthread_mutex_t code_lock; // while code is found, made or closed
    // While one is opened or made, from the question to the list, and closed, from the list to the answer: the server does
    // not tell this process' threads apart, and one would close what the other has opened.
    pthread_mutex_t opening;
    dsm_segment *segments;
    struct allocations allocations;
    char server[280];
};

// The server has it open for this process, by a create, an open, a clone or the commit of an image: maps it, or lets go of it again. 0, or
// what dsm_segment_open says, with the thread's error detail.
int segment_attach(dsm *session, const char *name, const struct control_segment *info, bool write,
                   dsm_segment **result, struct failure *failure);
// Closes whatever happens: what cannot be cleaned is lost. The cleaning's error, else that of the closing.
int segment_drop(dsm_segment *segment);
int segment_clean_all(dsm_segment *segment); // as dsm_clean, at its close
// Unmaps it and tells the server nothing: what it does not hold need not be let go.
void segment_forget(dsm_segment *segment);
// A task's, as segment_drop; code goes with the last who has it open here.
int segment_release(dsm_segment *segment);
bool code_to_task(dsm_segment *code);    // one opening of it is a task's now; false: all are
int code_close(dsm_segment *code);       // one that is no task's; -EBUSY: there is none
void segment_link(dsm_segment *segment); // among the session's, and in the statistics page
int segment_check_cache(const dsm *session, uint32_t page_bytes, struct failure *failure);
int segment_check_name(dsm *session, const char *name, struct failure *failure);
int segment_check_size(dsm *session, const char *name, uint64_t bytes, uint32_t page_bytes,
                       struct failure *failure);
uint32_t segment_page_bytes(uint32_t asked); // 0: the system's
// An error of the server or of the library, as the thread's detail; where room is lacking, with what to do about it.
int segment_fail(dsm *session, const char *name, int error, const struct failure *failure);
int segment_made(dsm *session, const char *name, int error, const struct control_segment *info,
                 dsm_segment **segment, struct failure *failure);
// The code of that identity, open here: once in this process, however often it is asked for. make: its contents, if it is not there yet;
// NULL: then -ENOENT, and else the opening is a task's, which arrives. -EBUSY: another process has begun to make it, and does not come to an end.
int code_get(dsm *session, const uint8_t identity[WIRE_DIGEST_BYTES], uint64_t bytes,
             uint32_t page_bytes, const void *make, dsm_segment **segment, struct failure *failure);
int api_alive(void); // 0, or -ECHILD in a forked child
// The process' session. get opens one when there is none; present gives NULL, without wait also while another thread opens
// or closes it.
int api_session_get(dsm **session);
dsm *api_session_present(bool wait);

#endif
