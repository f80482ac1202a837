// SPDX-License-Identifier: Apache-2.0
//
// For the traps alone: a segment's frames in a memfd, the program's view of them and the other door. See trap.h for what
// each operation does.
#ifndef LIBDSM_TRAP_TRAP_FRAMES_H
#define LIBDSM_TRAP_TRAP_FRAMES_H

#include "libdsm/trap/trap.h"

// Fills in memfd, base, contents and door; `bytes`, `fill` and `ops` are set. access: of the program's mapping, as for mmap.
int trap_frames_attach(struct trap_view *view, void *base, int access);
void trap_frames_detach(struct trap_view *view);
int trap_frames_place(struct trap_view *view, uint64_t offset, uint64_t bytes, void **to);
int trap_frames_fill(struct trap_view *view, uint64_t offset, const void *from, uint64_t bytes);
int trap_frames_discard(struct trap_view *view, uint64_t offset, uint64_t bytes);

#endif
