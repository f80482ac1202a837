// SPDX-License-Identifier: Apache-2.0
//
// A process's session at its server: connects the lanes, keeps them alive, connects them again, and opens the session's
// segments again when the server was restarted. Not for the handler: it allocates and logs nothing, but it blocks.
//
// One thread, the keeper. Segments are listed here by pointer so that the keeper can meet their fate.
#ifndef LIBDSM_BACKING_SESSION_H
#define LIBDSM_BACKING_SESSION_H

#include <pthread.h>

#include "libdsm/backing/backing.h"
#include "libdsm/settings.h"
#include "rpc/failure.h"
#include "rpc/handshake.h"

struct session {
    struct backing backing;
    const struct settings *settings;
    struct handshake_client client;
    struct key_identity *identity;
    struct key_identity *psk; // NULL: none
    char host[256];
    char port[16];
    bool embedded;                 // the server is our own (embedded.c),
    int control;                   // reached over this socket
    struct wire_attached attached; // of the control lane's last connection
    bool ever_attached;
    struct spin_share spinning;
    uint32_t connections; // made so far, numbers them
    pthread_t keeper;
    bool keeper_runs;
    pthread_mutex_t lock; // of the list below
    struct session_segment {
        struct backing_segment *segment; // NULL and owed 0: free
        uint64_t
            owed; // else NULL: the id of one that is closed here, of which the server has not heard
        char name[LIMIT_SEGMENT_NAME_BYTES];
        bool write;
        bool away; // on its way to another process, or from one: not opened again
    } segments[LIMIT_SESSION_SEGMENTS];
    void (*fate_met)(void *context,
                     struct backing_segment *segment); // from the keeper: wake its waiters
    void *context;
};

// Connects every lane and starts the keeper. On failure nothing is left behind.
int session_start(struct session *session, const struct settings *settings, struct counters *stat,
                  struct failure *failure);
// Ends the keeper, says CLOSE on every lane. No lane may be owned any more.
void session_stop(struct session *session);
// Makes every wait in backing end with -ECANCELED, so that lanes are given back.
void session_cancel(struct session *session);

// Segments to be opened again after a restart. -EMFILE when there are too many.
int session_list(struct session *session, struct backing_segment *segment, const char *name,
                 bool write);
void session_unlist(struct session *session, struct backing_segment *segment);
// One that is not listed: the server could not be told that it is closed, and is told when there is a connection again, before
// anything else is asked there.
void session_owe_close(struct session *session, uint64_t id);
// On the control lane, in hand and up. An error: it was cut.
int session_pay(struct session *session, struct backing_lane *lane);
// Something is owed, and there is still no connection.
bool session_owes_in_vain(struct session *session);
// Listed from now on, for writing, but away: nothing can fail when it is here.
int session_list_away(struct session *session, struct backing_segment *segment, const char *name);
void session_set_away(struct session *session, struct backing_segment *segment, bool away);

#endif
