// SPDX-License-Identifier: Apache-2.0
//
// The trap that works everywhere: the program's view starts without access; a touch is a SIGSEGV; a page is opened by mprotect
// once it is filled, and closed by it again.
//
// It never opens before the fill (the caller's order) and never punches an open page: a view that is open when its page is
// punched would read zeros and allocate the page again.
//
// Cost: an edge between two protections is a mapping of the kernel's; who counts them is the pager.
#include <sys/mman.h>
#include <sys/syscall.h>

#include "libdsm/sync/futex.h"
#include "libdsm/trap/trap_frames.h"

static int attach(struct trap_view *view, void *base, uint64_t bytes, enum trap_fill fill,
                  bool stores)
{
    (void)stores;
    *view = (struct trap_view){.ops = &trap_mprotect_ops, .bytes = bytes, .fill = fill};
    return trap_frames_attach(view, base, PROT_NONE);
}

static int mprotect_protect(struct trap_view *view, uint64_t offset, uint64_t bytes,
                            enum trap_access from, enum trap_access to)
{
    (void)from;
    static const int bits[] = {
        [TRAP_NONE] = PROT_NONE,
        [TRAP_READ] = PROT_READ,
        [TRAP_READ_WRITE] = PROT_READ | PROT_WRITE,
    };
    return (int)sync_call(SYS_mprotect, (long)(view->base + offset), (long)bytes, bits[to], 0, 0,
                          0);
}

const struct trap_ops trap_mprotect_ops = {
    .name = "mprotect",
    .maps_edges = true,
    .attach = attach,
    .detach = trap_frames_detach,
    .place = trap_frames_place,
    .fill = trap_frames_fill,
    .protect = mprotect_protect,
    .discard = trap_frames_discard,
};
