// SPDX-License-Identifier: Apache-2.0
//
// The calling thread's error detail, as dsm_error() shows it.
#ifndef LIBDSM_ERROR_H
#define LIBDSM_ERROR_H

#include "dsm/dsm.h"

// Sets the detail (segment, server may be NULL) and returns error. The sentence is made from the format.
int error_set(int error, const char *segment, uint64_t page, const char *server, const char *format,
              ...) __attribute__((format(printf, 5, 6)));

#endif
