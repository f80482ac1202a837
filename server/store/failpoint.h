// SPDX-License-Identifier: Apache-2.0
//
// The steps of the store between which a test can kill the process, or do worse: DSM_FAILPOINT="write.entry:kill:17", read
// by store_open. See rpc/failpoint.h.
#ifndef SERVER_STORE_FAILPOINT_H
#define SERVER_STORE_FAILPOINT_H

#include "rpc/failpoint.h"

// X(name, text, may_fail): may_fail 0 where the step before it cannot be taken back, so that
// error does not fit.
#define STORE_FAILPOINTS(X)                                                                        \
    X(OPEN_LOCKED, "open.locked", 1)     /* the lock is held, nothing was read */                  \
    X(OPEN_CREATED, "open.created", 1)   /* directories are there, the header is not */            \
    X(OPEN_REBUILT, "open.rebuilt", 1)   /* counts are rebuilt, the header is the old one */       \
    X(OPEN_MARKED, "open.marked", 1)     /* the header says: in use */                             \
    X(WRITE_BEGIN, "write.begin", 1)     /* nothing done */                                        \
    X(WRITE_ROOM, "write.room", 1)       /* room is promised, no slot taken */                     \
    X(WRITE_SLOT, "write.slot", 1)       /* fresh slots taken, no data written */                  \
    X(WRITE_DATA, "write.data", 1)       /* a run of data written, not seen by anybody */          \
    X(WRITE_SYNC, "write.sync", 1)       /* all data written and synced */                         \
    X(WRITE_COMMIT, "write.commit", 0)   /* on a disk: entries in the file, not synced */          \
    X(WRITE_ENTRY, "write.entry", 0)     /* the slot is in the index, its version is not */        \
    X(WRITE_VERSION, "write.version", 0) /* the version too, the highest version not */            \
    X(WRITE_HIGHEST, "write.highest", 0) /* all told, the old slots not given back */              \
    X(WRITE_FREE, "write.free", 0)       /* all done, not acknowledged */                          \
    X(SLOT_PUNCH, "slot.punch", 0)       /* free blocks of another page size given back */         \
    X(CREATE_ID, "create.id", 1)         /* the id is used up, no file yet */                      \
    X(CREATE_FILE, "create.file", 1)     /* a temporary file without record */                     \
    X(CREATE_RECORD, "create.record", 1) /* a whole temporary file */                              \
    X(CREATE_RENAME, "create.rename", 0) /* the file has its name, not acknowledged */             \
    X(UPDATE_BEGIN, "update.begin", 1)   /* the record is the old one */                           \
    X(UPDATE_RECORD, "update.record", 0) /* the record is the new one, not acknowledged */         \
    X(REMOVE_BEGIN, "remove.begin", 1)   /* the file is there */                                   \
    X(REMOVE_UNLINK, "remove.unlink", 0) /* the file is gone, its slots are not free */            \
    X(REMOVE_FREE, "remove.free", 0)     /* all done, not acknowledged */                          \
    X(CLONE_COPIED, "clone.copied", 1)   /* a clone's pages are shared, its file has no name */    \
    X(IMAGE_BEGIN, "image.begin", 1)     /* the image's file is the old one */                     \
    X(IMAGE_FILE, "image.file", 1)       /* the new one is there under another name */             \
    X(IMAGE_RENAME, "image.rename", 0)   /* decided, the segments' records are behind */           \
    X(CLOSE_BEGIN, "close.begin", 1)     /* nothing synced */                                      \
    X(CLOSE_SYNC, "close.sync", 1)       /* synced, not marked clean */                            \
    X(CLOSE_MARK, "close.mark", 0)       /* marked clean, still locked */

enum failpoint_id {
    FAILPOINT_NONE,
#define X(name, text, may_fail) FAILPOINT_##name,
    STORE_FAILPOINTS(X)
#undef X
        FAILPOINT_COUNT
};

// As failpoint_arm_in, of these.
int failpoint_arm(struct failpoint *point, const char *text, struct failure *failure);
const char *failpoint_name(enum failpoint_id id);

#endif
