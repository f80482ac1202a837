// SPDX-License-Identifier: Apache-2.0
//
// How a touch is noticed, and how a frame is filled, opened, closed and taken away. A view is one segment's memory: a memfd
// mapped twice, where the program sees it (protected) and at another door that the program never sees.
//
// fill, protect, discard and contents are called from the fault's handler, too: no allocation, no locks, raw system calls.
// They return 0 or -errno. All offsets and sizes are bytes, multiples of the page.
#ifndef LIBDSM_TRAP_TRAP_H
#define LIBDSM_TRAP_TRAP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// TRACKED: loads and stores, and the kernel notes the first store; only where the trap tracks.
enum trap_access { TRAP_NONE, TRAP_READ, TRAP_TRACKED, TRAP_READ_WRITE, TRAP_ANY };
enum { TRAP_LOOK_UNITS = 64 };
enum trap_fill { TRAP_FILL_ALIAS, TRAP_FILL_PWRITE };

struct trap_view;

struct trap_ops {
    const char *name;
    bool maps_edges; // where protection changes within a view, the kernel keeps another mapping
    bool
        tracks; // opens pages TRACKED; one that is open to READ alone then costs a mapping of its own
    // Maps a view of `bytes` at exactly `base`; stores: there will be some. -EADDRINUSE when something is there, -ENOMEM.
    int (*attach)(struct trap_view *view, void *base, uint64_t bytes, enum trap_fill fill,
                  bool stores);
    void (*detach)(struct trap_view *view);
    // Makes room for [offset, offset + bytes), as zeros. *to: where the contents may be stored straight away, or NULL: use
    // fill(). -ENOMEM / -ENOSPC when the kernel has no memory.
    int (*place)(struct trap_view *view, uint64_t offset, uint64_t bytes, void **to);
    int (*fill)(struct trap_view *view, uint64_t offset, const void *from, uint64_t bytes);
    // What the program's loads and stores may do. Frames that are opened are filled. from: as it is now; TRAP_ANY: not the
    // same everywhere; the same as to: the kernel may have shut it by itself. -ENOMEM: no more mappings. To TRACKED: nothing of it
    // is so now, else a store could be forgotten.
    int (*protect)(struct trap_view *view, uint64_t offset, uint64_t bytes, enum trap_access from,
                   enum trap_access to);
    // Of at most TRAP_LOOK_UNITS units that are TRACKED, or were and were opened for no stores since: bit n: the n-th was
    // stored into, or nobody knows. Where stores are let through it is true of a moment that is past. NULL: does not track.
    uint64_t (*stored)(struct trap_view *view, uint64_t offset, uint64_t bytes, uint64_t unit);
    // Gives the frames back to the kernel. The view must be closed there.
    int (*discard)(struct trap_view *view, uint64_t offset, uint64_t bytes);
};

struct trap_view {
    const struct trap_ops *ops;
    uint8_t *base;           // the program's view
    const uint8_t *contents; // the other door, for reading: valid where there are frames
    uint8_t *door;           // the other door, for writing; NULL with TRAP_FILL_PWRITE
    uint64_t bytes;
    int memfd;
    enum trap_fill fill;
    bool stores;
};

extern const struct trap_ops trap_mprotect_ops;
extern const struct trap_ops trap_uffd_ops;      // the kernel tracks stores
extern const struct trap_ops trap_uffd_sync_ops; // the first store into a page is a touch, too

// Before the first view of trap_uffd and after the last: *ops, or -errno when this kernel cannot do it (-ENOSYS, -EPERM,
// -EINVAL). track: where the kernel can do that; all at one time ask for the same.
int trap_uffd_get(bool track, const struct trap_ops **ops);
void trap_uffd_put(void);

// ---- the signal ----

enum trap_verdict {
    TRAP_RESOLVED, // touch again
    TRAP_FAILED,   // SIGBUS at the address
    TRAP_DENIED,   // the program may not do that: SIGSEGV at the address
    TRAP_FOREIGN   // not ours: the handler that was there before
};

struct trap_fault {
    uintptr_t address;
    bool write;
    const uint64_t *mask; // the thread's own signal mask, for the time that it waits
};

// Called in the handler, all signals blocked. trap calls up only here.
typedef enum trap_verdict trap_resolve(const struct trap_fault *fault);

// Installs the handlers (chained to those that were there), or looks whether they are still there: -EBUSY and another has
// taken a place since. Process-wide; the last trap_uninstall puts the former ones back where ours are still there.
// SIGSEGV; also SIGBUS when faults come as such (trap_uffd).
int trap_install(trap_resolve *resolve, bool sigbus);
void trap_uninstall(void);

#endif
