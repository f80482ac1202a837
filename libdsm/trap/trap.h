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

enum trap_access { TRAP_NONE, TRAP_READ, TRAP_READ_WRITE, TRAP_ANY };
enum trap_fill { TRAP_FILL_ALIAS, TRAP_FILL_PWRITE };

struct trap_view;

struct trap_ops {
    const char *name;
    bool maps_edges; // where protection changes within a view, the kernel keeps another mapping
    // Maps a view of `bytes` at exactly `base`. -EADDRINUSE when something is there, -ENOMEM.
    int (*attach)(struct trap_view *view, void *base, uint64_t bytes, enum trap_fill fill);
    void (*detach)(struct trap_view *view);
    // Makes room for [offset, offset + bytes), as zeros. *to: where the contents may be stored straight away, or NULL: use
    // fill(). -ENOMEM / -ENOSPC when the kernel has no memory.
    int (*place)(struct trap_view *view, uint64_t offset, uint64_t bytes, void **to);
    int (*fill)(struct trap_view *view, uint64_t offset, const void *from, uint64_t bytes);
    // What the program's loads and stores may do. Frames that are opened are filled. from: as it is now; TRAP_ANY: not the
    // same everywhere, or the kernel may have shut it by itself. -ENOMEM: no more mappings.
    int (*protect)(struct trap_view *view, uint64_t offset, uint64_t bytes, enum trap_access from,
                   enum trap_access to);
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
};

extern const struct trap_ops trap_mprotect_ops;
extern const struct trap_ops trap_uffd_ops;

// Before the first view of trap_uffd and after the last: 0, or -errno when this kernel cannot do it (-ENOSYS, -EPERM, -EINVAL).
int trap_uffd_get(void);
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
