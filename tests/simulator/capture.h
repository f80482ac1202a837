// SPDX-License-Identifier: Apache-2.0
//
// Messages of a run as seeds for the fuzz targets (tests/fuzz): files of the targets' own formats, a few of each kind.
#ifndef TESTS_SIMULATOR_CAPTURE_H
#define TESTS_SIMULATOR_CAPTURE_H

#include "rpc/wire.h"

extern const char *capture_directory; // NULL: nothing is captured

void capture_request(const struct wire_header *request, const uint8_t *payload);
void capture_answer(const struct wire_header *answer);
void capture_attach(const struct wire_attach *attach, const struct wire_attached *attached);

#endif
