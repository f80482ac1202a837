// SPDX-License-Identifier: Apache-2.0
//
// How large a store is made when nobody said it, and whether dsmd may have the memory for it.
#ifndef SERVER_ROOM_H
#define SERVER_ROOM_H

#include <stdint.h>

#include "rpc/failure.h"
#include "server/log.h"
#include "server/store/store.h"

// 0 for a store that exists (it keeps its capacity); else half of what is free where the directory
// lies (on tmpfs: and of available memory, and of what the memory control group has left), in whole MiB.
int room_default(const char *directory, uint64_t *capacity_bytes, struct failure *failure);
// For an embedded server: a quarter of memory, but no more than half of what is available, nor than half of what the
// memory cgroup has left. Whole MiB.
uint64_t room_embedded(void);
// Warns when the store lies on a tmpfs and may come to take more than the memory control group has left.
void room_warn(const char *directory, struct store *store, struct log *log);

#endif
