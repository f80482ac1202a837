// SPDX-License-Identifier: Apache-2.0
//
// A dsmd of the program's own, started when no server is named. For connect.c, and for the library's
// fork handler.
#ifndef LIBDSM_BACKING_EMBEDDED_H
#define LIBDSM_BACKING_EMBEDDED_H

#include "libdsm/backing/session.h"

// 1: the settings ask for one; 0: they name a server; -EINVAL with a sentence: they name none, and this is a batch
// job, or keys are named.
int embedded_wanted(const struct settings *settings, struct failure *failure);
// Starts it, and draws the keys of both. 0 or -errno with a sentence, and nothing is left.
int embedded_start(struct session *session, struct failure *failure);
// A connected socket, or -errno with a sentence: -EOWNERDEAD, the server has ended and its pages are gone.
int embedded_connect(struct session *session, int64_t deadline, struct failure *failure);
// Ends it, and waits for its end (bounded). Nothing when none was started.
void embedded_stop(struct session *session);
// In a forked child: lets go of the server, which is the parent's.
void embedded_forget(struct session *session);

#endif
