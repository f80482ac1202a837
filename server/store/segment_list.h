// SPDX-License-Identifier: Apache-2.0
//
// The segments of a store as a set.
#ifndef SERVER_STORE_SEGMENT_LIST_H
#define SERVER_STORE_SEGMENT_LIST_H

#include "server/store/store_private.h"

// At open: removes what an interrupted create left, opens all index files, promises their space.
int segment_list_load(struct store *store, struct failure *failure);

// Under [D]. The id is used up from here on, whatever becomes of the segment.
int segment_list_use_id(struct store *store, struct store_segment_record *record);
void segment_list_add(struct store *store, struct store_segment *segment);

#endif
