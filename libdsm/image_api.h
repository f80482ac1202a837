// SPDX-License-Identifier: Apache-2.0
//
// What the two ends of a move share: the source (migrate_api.c) and the destination (arrive_api.c), and who does both for
// others (migrate_move.c).
#ifndef LIBDSM_IMAGE_API_H
#define LIBDSM_IMAGE_API_H

#include "libdsm/task/task.h"
#include "rpc/failure.h"
#include "rpc/keyfile.h"

enum { IMAGE_SEND_MS = 60000 }; // within which a capsule must have gone through

// The thread's error detail: of the failure's sentence, or else of the error's. Returns the error. task may be NULL.
int image_say(const dsm_task *task, int error, const struct failure *failure);
// 0 when the caller is no task and no forked child.
int image_outside(const dsm_task *task);
// As dsm_migrate_deencap, with the key in memory. 0 or -errno with a sentence.
int migrate_take(dsm *session, int fd, const struct key_identity *identity, dsm_task **task,
                 struct failure *failure);

#endif
