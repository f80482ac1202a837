// SPDX-License-Identifier: Apache-2.0
//
// The one formatter of failure sentences. It never fails itself: a text that does not fit is cut.
#include "rpc/failure.h"

#include <stdarg.h>
#include <stdio.h>

int failure_set(struct failure *f, int error, const char *format, ...)
{
    if (f == NULL) {
        return error;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(f->text, sizeof f->text, format, arguments);
    va_end(arguments);
    return error;
}
