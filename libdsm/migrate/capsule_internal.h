// SPDX-License-Identifier: Apache-2.0
//
// What the capsule's parts share: its body, before the seal and after it.
#ifndef LIBDSM_MIGRATE_CAPSULE_INTERNAL_H
#define LIBDSM_MIGRATE_CAPSULE_INTERNAL_H

#include "libdsm/migrate/capsule.h"

uint64_t capsule_body_bytes(const struct capsule *capsule);
// `to` has capsule_body_bytes(). The contents have been checked.
void capsule_body_encode(const struct capsule *capsule, uint8_t *to);
// The facts are not set. -EBADMSG when encode could not have written this; -ENOMEM.
int capsule_body_decode(const uint8_t *body, size_t bytes, struct capsule **capsule,
                        struct failure *failure);

void capsule_header_encode(const struct capsule_facts *facts, uint8_t header[CAPSULE_HEADER_BYTES]);

#endif
