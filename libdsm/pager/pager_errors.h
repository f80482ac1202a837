// SPDX-License-Identifier: Apache-2.0
//
// Errors of a page's last attempt, in the eight bits that its entry has for them. A waiter is told of those that another try
// would not mend; of the others it makes another try, until its own time is up.
#ifndef LIBDSM_PAGER_PAGER_ERRORS_H
#define LIBDSM_PAGER_PAGER_ERRORS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

enum pager_error {
    PAGER_ERROR_NONE,
    PAGER_ERROR_RETRY,
    PAGER_ERROR_HARDWARE,
    PAGER_ERROR_SOFTWARE
};

static inline uint8_t pager_error_code(int error)
{
    switch (error) {
    case 0:
        return PAGER_ERROR_NONE;
    case -EIO:
        return PAGER_ERROR_HARDWARE;
    case -ETIMEDOUT:
    case -ENOMEM:
    case -ECANCELED:
    case -EAGAIN:
        return PAGER_ERROR_RETRY;
    default:
        return PAGER_ERROR_SOFTWARE;
    }
}

static inline bool pager_error_final(uint8_t code)
{
    return code == PAGER_ERROR_HARDWARE || code == PAGER_ERROR_SOFTWARE;
}

#endif
