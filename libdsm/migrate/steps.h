// SPDX-License-Identifier: Apache-2.0
//
// The steps of a move between which a test can kill or stop the process, or fail the step: DSM_MIGRATE_FAILPOINT, read by dsm_open().
#ifndef LIBDSM_MIGRATE_STEPS_H
#define LIBDSM_MIGRATE_STEPS_H

#include <stddef.h>

#include "rpc/failpoint.h"

// X(name, text, may_fail). Those that say "a segment" are passed once for each.
#define MIGRATE_STEPS(X)                                                                           \
    X(INITIATE_BEGIN, "initiate.begin", 1)         /* nothing done */                              \
    X(INITIATE_FROZEN, "initiate.frozen", 1)       /* a segment is frozen */                       \
    X(INITIATE_CAPTURED, "initiate.captured", 1)   /* its page table is copied */                  \
    X(INITIATE_FLUSH, "initiate.flush", 1)         /* a segment's writes are under way */          \
    X(INITIATE_DESCRIBED, "initiate.described", 1) /* all that the capsule will say is known */    \
    X(ENCAP_BEGIN, "encap.begin", 1)               /* nothing is waited for */                     \
    X(ENCAP_WRITTEN, "encap.written", 1)           /* a segment's writes are acknowledged */       \
    X(ENCAP_RELEASED, "encap.released", 1)         /* nothing of the image is in memory */         \
    X(ENCAP_AWAY, "encap.away", 1)                 /* nothing can be done to it; not parked */     \
    X(ENCAP_PARKED, "encap.parked", 1)             /* the capsule's, which nobody has */           \
    X(ENCAP_GIVEN, "encap.given", 0)               /* the capsule is out */                        \
    X(FINISH_BEGIN, "finish.begin", 0)             /* all is mapped still */                       \
    X(FINISH_UNMAPPED, "finish.unmapped", 0)       /* a segment is not */                          \
    X(ABORT_BEGIN, "abort.begin", 0)               /* the server was not asked */                  \
    X(ABORT_ANSWERED, "abort.answered", 0)         /* it is here again; frozen still */            \
    X(DEENCAP_OPENED, "deencap.opened", 1)         /* the capsule is opened and checked */         \
    X(DEENCAP_MAPPED, "deencap.mapped", 1)         /* a segment is mapped */                       \
    X(DEENCAP_COMMIT, "deencap.commit", 1)         /* all that can be refused was not */           \
    X(DEENCAP_ANSWERED, "deencap.answered", 0)     /* the server gave it to this session */        \
    X(DEENCAP_HELD, "deencap.held", 0)             /* this session knows */                        \
    X(DEENCAP_PUBLISHED, "deencap.published", 0)   /* a segment can be touched */                  \
    X(DEENCAP_END, "deencap.end", 0)               /* all of it can; nobody was told */

enum migrate_step {
    MIGRATE_NO_STEP,
#define X(name, text, may_fail) MIGRATE_##name,
    MIGRATE_STEPS(X)
#undef X
        MIGRATE_STEP_COUNT
};

// As failpoint_arm_in, of these.
int migrate_steps_arm(struct failpoint *point, const char *text, struct failure *failure);

// point NULL: there are none.
static inline int migrate_step(struct failpoint *point, enum migrate_step step)
{
    return point != NULL ? failpoint_at(point, step) : 0;
}

#endif
