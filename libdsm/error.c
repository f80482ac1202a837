// SPDX-License-Identifier: Apache-2.0
//
// Errors in words. A thread's last failure is kept for it alone: code, segment, page, server, and a sentence that says what to do.
// Only failures change it, so it may be asked for some calls later.
#include "libdsm/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __thread dsm_error_detail detail = {.page = DSM_NO_PAGE};

static void copy(char *to, size_t bytes, const char *from)
{
    (void)snprintf(to, bytes, "%s", from != NULL ? from : "");
}

int error_set(int error, const char *segment, uint64_t page, const char *server, const char *format,
              ...)
{
    va_list arguments;
    detail.error = error;
    detail.page = page;
    copy(detail.segment, sizeof detail.segment, segment);
    copy(detail.server, sizeof detail.server, server);
    va_start(arguments, format);
    (void)vsnprintf(detail.text, sizeof detail.text, format, arguments);
    va_end(arguments);
    return error;
}

DSM_API const dsm_error_detail *dsm_error(void)
{
    return &detail;
}

DSM_API const char *dsm_strerror(int error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return "success";
    case DSM_EFENCED:
        return "another process owns the segment now";
    case DSM_ELOST:
        return "the server lost the segment's pages";
    case EFAULT:
        return "the interval reaches beyond the segment";
    case EREMOTEIO:
        return "the server refused";
    case EIO:
        return "no answer from the server, or its store failed";
    case EROFS:
        return "the page is read-only";
    case EBUSY:
        return "in use";
    case ECHILD:
        return "this process was forked from the one that opened the session";
    case EALREADY:
        return "this process has a session already";
    default: {
        const char *text = strerrordesc_np(error < 0 ? -error : error);
        return text != NULL ? text : "unknown error";
    }
    }
}
