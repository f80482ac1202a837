/* SPDX-License-Identifier: Apache-2.0
 *
 * libdsm: memory larger than the node. A segment is a named range of pages whose backing lies on a memory server
 * (dsmd). It is mapped into the program; the first touch of a page brings it (and its neighbours) in, changed pages are
 * written back in runs, and never more than DSM_CACHE bytes are kept in local memory.
 *
 * Errors: functions return 0 or a negative errno value; dsm_error_detail() says more. A touch that cannot be
 * served ends in SIGBUS with si_addr. Threads: everything here may be called from any thread at any time,
 * unless it says otherwise; nothing here may be called from a signal handler. After fork() the
 * child must not touch segments nor call the library (every call is -ECHILD there); exec is fine.
 *
 * Semantics: Cedar's VM interface (VMOpsImpl, Xerox PARC, 1983).
 */
#ifndef DSM_DSM_H
#define DSM_DSM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DSM_API __attribute__((visibility("default")))

typedef struct dsm dsm;                 /* a process's session at its memory server */
typedef struct dsm_segment dsm_segment; /* an open segment */

typedef struct dsm_interval { /* pages [page, page + count) */
    uint64_t page;
    uint64_t count;
} dsm_interval;

#define DSM_NO_PAGE UINT64_MAX

/* Errors that errno has no name of its own for. */
enum {
    DSM_EFENCED = 4001, /* another process owns the segment now */
    DSM_ELOST =
        4002, /* the server lost the segment's pages (another, an emptied or an older store) */
};

/* ---- session -------------------------------------------------------------------------------------------------- */

/* Where a field is 0 or NULL, what the environment (DSM_SERVER, DSM_CACHE, ...) says is taken, or else the configuration
 * files: $DSM_CONFIG, or /etc/dsm/client.conf and over it ~/.config/dsm/client.conf. */
typedef struct dsm_options {
    size_t size;        /* sizeof(dsm_options): lets the struct grow */
    const char *server; /* "host:port", "[v6]:port", or "embedded": a server of this process' own */
    const char *server_key; /* the server's public key, base64 */
    const char *key_file;   /* this client's private key, mode 0600 */
    const char *cluster;
    uint64_t cache_bytes; /* bound on local memory for pages, 0: DSM_CACHE */
} dsm_options;

/* Connects (within 5 s) and starts the library's threads. Where no server is named, a dsmd is started for this process
 * alone, which ends with it and keeps nothing; not in a batch job (-EINVAL). options may be NULL. One session per process at a
 * time (-EALREADY). -EINVAL bad setting; -ENOENT no such file or host; -EPERM a key file that others may read;
 * -ECONNREFUSED nobody listens; -ETIMEDOUT; -ECONNRESET dropped without an answer (wrong server key);
 * -EACCES refused by the server; -ENOMEM. dsm_error()->text says what to do. */
DSM_API int dsm_open(const dsm_options *options, dsm **session);

/* Cleans and closes every segment that is still open, then the session; no thread may touch a segment any more. The
 * first error of the cleaning is returned; the session is gone all the same. dsm_close(NULL) is 0. */
DSM_API int dsm_close(dsm *session);

/* ---- segments ------------------------------------------------------------------------------------------------- */

enum {                         /* dsm_segment_create, dsm_segment_open */
       DSM_READ_ONLY = 1 << 0, /* open as one of many readers */
       DSM_NORESERVE = 1 << 1, /* create: promise no space; a later clean may be -ENOSPC */
       DSM_TAKEOVER = 1 << 2,  /* open: take it from a writer of the same principal */
       DSM_EXCLUSIVE =
           1
           << 3, /* create: -EEXIST when there is one of that name (else: -EEXIST unless ours by retry) */
       /* create: deleted at its close, and, when its holder is lost, after the lease (60 s) */
       DSM_EPHEMERAL = 1 << 4,
       DSM_HEAP = 1 << 5, /* create, clone: of a task (dsm_task_create) */
       DSM_STACK = 1 << 6,
};

/* Makes a segment and opens it for writing. bytes: rounded up to whole pages. page_bytes: power of two, 4 KiB (or the
 * system's page if larger) to 1 MiB; 0: the default. Its pages are undefined: loads give zeros.
 * -EEXIST, -ENOSPC (no room on the server), -EDQUOT (over the principal's quota), -EINVAL, -EACCES. */
DSM_API int dsm_segment_create(dsm *session, const char *name, uint64_t bytes, uint32_t page_bytes,
                               unsigned flags, dsm_segment **segment);
/* -ENOENT, -EBUSY (open elsewhere; the detail names the holder), -EADDRINUSE (its addresses are in use here),
 * -ENOTSUP (not all of it lies on this server). */
DSM_API int dsm_segment_open(dsm *session, const char *name, unsigned flags, dsm_segment **segment);
/* Makes a segment that begins with the pages that `source` has, and opens it for writing. They are shared on the server until
 * one of the two is written, and no page is sent; the source is cleaned before (a store meanwhile is in it or is not, by the page). bytes:
 * at least the source's size, 0: as many; the rest is undefined. All of it is reserved, whatever the source is, unless
 * DSM_NORESERVE; also DSM_EXCLUSIVE, DSM_EPHEMERAL, DSM_HEAP. As dsm_segment_create and dsm_clean; -EBUSY: the source has pinned pages. */
DSM_API int dsm_segment_clone(dsm_segment *source, const char *name, uint64_t bytes, unsigned flags,
                              dsm_segment **clone);
/* Code: the same contents for all processes of a principal that ask, for reading only, at one address. It is found by what it is,
 * the digest of its contents, or made, so that of several that come at once one makes it and the others wait. In one process it is open
 * once: each call wants its dsm_segment_close, and the last one lets go; nobody has it open: it is gone. page_bytes as
 * dsm_segment_create. -EBUSY: another process makes it, and takes longer than DSM_FAULT_TIMEOUT; -EINVAL: the same contents are there
 * with pages of another size; as dsm_segment_create. Source: Vm_FindCode, Vm_InitCode (Sprite). */
DSM_API int dsm_code_open(dsm *session, const void *contents, uint64_t bytes, uint32_t page_bytes,
                          dsm_segment **code);
/* Cleans, unmaps and lets go. On an error (which is of the cleaning: -EIO, ...) the segment stays open, unless it is lost or
 * fenced: then it is closed and the error says so. A server that does not answer once it has the pages is told of the close when it
 * can be reached: no error, but the first one waits up to 20 s. -EBUSY: pinned pages, or it is a task's. */
DSM_API int dsm_segment_close(dsm_segment *segment);
/* Deletes by name; -EBUSY while anybody has it open (dsm_segment_close first). */
DSM_API int dsm_segment_delete(dsm *session, const char *name);

DSM_API void *dsm_segment_base(const dsm_segment *segment); /* the same address in every process */
DSM_API uint64_t dsm_segment_size(const dsm_segment *segment);      /* bytes */
DSM_API uint32_t dsm_segment_page_size(const dsm_segment *segment); /* bytes */

/* ---- memory for people in a hurry ------------------------------------------------------------------------------ */

/* At least `bytes` bytes, from a page's start; 0 is as 1. For large arrays: whole pages are dealt out. Opens a session from the
 * environment when there is none (a server of this program's own when DSM_SERVER is not set), which ends with the
 * process. The contents are undefined: zeros, or what this process left there. What is not freed goes with the session:
 * nothing stays on the server. NULL: errno says why, and dsm_error() in words; ENOMEM: no room on the server or here; else as
 * dsm_open. As segments, it is not for a forked child, nor for system calls on pages that are not in memory. */
DSM_API void *dsm_alloc(size_t bytes);
/* Gives it back; NULL is 0. No thread may touch it any more. -EINVAL: dsm_alloc did not give this, or it is free already. */
DSM_API int dsm_free(void *pointer);

/* ---- pages (Cedar's operations) ------------------------------------------------------------------------------- */

enum {                    /* dsm_swap_in */
       DSM_KILL = 1 << 8, /* contents are not needed: no read; pages become undefined (zeros) */
       DSM_PIN = 1 << 9,  /* keep them in memory until dsm_unpin; counts nest */
       DSM_WRITE =
           1 << 10 /* make them writable (and changed) at once, as system calls that write need */
};

/* Brings the pages of the interval in. next_page: the page that will be asked for next, or DSM_NO_PAGE.
 * An interval beyond the segment: -EFAULT, detail names the first page that does not exist, nothing is done; count 0
 * succeeds. Pages before a failed one are in; it and those after it in its run are not; pins of a failed call are
 * undone. -EREMOTEIO the server refused ("software"), -EIO no answer or the store failed ("hardware"), -ENOMEM too many
 * pins, -ETIMEDOUT. Source: SwapIn. */
DSM_API int dsm_swap_in(dsm_segment *segment, dsm_interval interval, unsigned flags,
                        uint64_t next_page);
/* Undoes one pin of each page; pages that are not pinned are left alone. -EFAULT: one was given up. Source: Unpin. */
DSM_API int dsm_unpin(dsm_segment *segment, dsm_interval interval);
/* Whether a system call, or MPI, may be given this buffer now: 0 when every page of segments in it is pinned (flags DSM_WRITE:
 * and writable, as for a call that stores into it); memory outside segments is no concern. Else -EFAULT, and the detail names the
 * first page that is not, and says what to do. */
DSM_API int dsm_check_pinned(const void *buffer, size_t bytes, unsigned flags);
/* Writes changed pages to the server, in runs; returns when they are acknowledged. Pinned pages are passed over:
 * *passed_over (may be NULL) is their number. Source: Clean. */
DSM_API int dsm_clean(dsm_segment *segment, dsm_interval interval, uint64_t *passed_over);
/* Makes the pages the next victims of replacement, in this order. No I/O. -EFAULT: one was given up. Source: Age. */
DSM_API int dsm_age(dsm_segment *segment, dsm_interval interval);

/* No more stores into these pages: they reach the program's own handler of SIGSEGV, with the address. Of this process' opening
 * alone; no I/O; a changed page can still be cleaned. Checks all pages, then changes all. -EBUSY: a page is pinned;
 * -EFAULT: it was given up; -ENOMEM: the system has no mapping left. Source: MakeReadOnly, MakeReadWrite. */
DSM_API int dsm_make_read_only(dsm_segment *segment, dsm_interval interval);
DSM_API int dsm_make_read_write(dsm_segment *segment, dsm_interval interval);

enum dsm_data { DSM_DATA_NONE, DSM_DATA_UNDEFINED, DSM_DATA_UNCHANGED, DSM_DATA_CHANGED };
typedef struct dsm_page_info {
    enum dsm_data data;     /* the program's mark */
    uint8_t resident;       /* in local memory */
    uint8_t needs_cleaning; /* memory differs from the server */
    uint8_t read_only;
    uint8_t lost; /* the server lost it */
    uint32_t pin_count;
} dsm_page_info;
DSM_API int dsm_page_state(dsm_segment *segment, uint64_t page,
                           dsm_page_info *info); /* Source: State */
/* Says what the pages' contents are. NONE: neither memory nor backing any more, and the server has their reservation back, as
 * the next opening knows, too; touches reach the program's handler of SIGSEGV until it is UNDEFINED again. UNDEFINED: contents are
 * given up, without I/O; loads give zeros (another opening may see the old ones); of NONE pages the space is reserved again,
 * or -ENOSPC, -EDQUOT. UNCHANGED, CHANGED: the program's mark alone; the next store makes it CHANGED. Whether a page needs
 * cleaning does not depend on it. Waits for pages on their way. -EBUSY: a page is pinned; -EFAULT: a mark for one that was given
 * up; -EINVAL; where the server is asked, also as dsm_clean. Nothing is changed unless all pages may be. Source: SetDataState. */
DSM_API int dsm_set_data_state(dsm_segment *segment, dsm_interval interval, enum dsm_data data);

/* ---- system calls --------------------------------------------------------------------------------------------- */

/* As read(2), write(2), pread(2) and pwrite(2), but return a negative errno value, and the buffer may lie in segments, beside them
 * or across their edges: its pages are pinned around the call, at most a quarter of the cache or 1 MiB at a time. Files are
 * gone on with; of anything else (pipe, socket, terminal) one piece is transferred: expect short counts. Also as dsm_swap_in:
 * -EINVAL, -EROFS for memory that cannot be stored into, -ENOMEM too many pins of others. */
DSM_API ssize_t dsm_read(int fd, void *buffer, size_t bytes);
DSM_API ssize_t dsm_write(int fd, const void *buffer, size_t bytes);
DSM_API ssize_t dsm_pread(int fd, void *buffer, size_t bytes, off_t offset);
DSM_API ssize_t dsm_pwrite(int fd, const void *buffer, size_t bytes, off_t offset);

/* ---- tasks, which move between hosts ---------------------------------------------------------------------------- */

/* A task is one computation whose heap and stack are segments, so that it can stop in one process and go on in another,
 * independently started process of the same binary, also on another host. The program is linked with -no-pie and a build id. It moves
 * only where it says so, by dsm_task_yield(). What belongs to one process the task must not keep across that: variables of the
 * program, thread-local ones and errno, FILE, locks, descriptors, jmp_bufs, addresses of libraries' data. */
typedef struct dsm_task dsm_task;
typedef void dsm_task_function(void *heap, uint64_t heap_bytes); /* ends by dsm_task_exit() */

/* Makes the segments NAME/heap and NAME/stack (at least 128 KiB). -ENOTSUP: this program cannot have tasks; -EINVAL; else as
 * dsm_segment_create. */
DSM_API int dsm_task_create(dsm *session, const char *name, dsm_task_function *function,
                            uint64_t heap_bytes, uint64_t stack_bytes, dsm_task **task);
/* The same with a heap that begins as `source`, its template, which is open here: a page that the task never writes is the template's, here
 * and wherever it goes, and takes no room of its own on the server. heap_bytes: at least the source's size, 0: as many. As
 * dsm_segment_clone. */
DSM_API int dsm_task_create_from(dsm_segment *source, const char *name, dsm_task_function *function,
                                 uint64_t heap_bytes, uint64_t stack_bytes, dsm_task **task);
/* Gives the task one more segment that is open here, 61 at most, and one of code beside: it moves with the task, at the same address, and is
 * closed (not deleted) with it. While it does not run. -EBUSY; -EINVAL: a task has it already (code: tasks have it as often
 * as it was opened); -EEXIST: code beside code; -EMFILE. */
DSM_API int dsm_task_add(dsm_task *task, dsm_segment *segment);
/* Those that it has: 0 heap, 1 stack, 2 code, 3 and on what was added, in this order, wherever it is. NULL: there is none. */
DSM_API dsm_segment *dsm_task_segment(const dsm_task *task, unsigned number);
/* Runs it in the calling thread until it ends (1, *status, which may be NULL), yields after dsm_task_stop() (0), or, when it is
 * movable, has left for another host (DSM_TASK_LEFT: it is gone from here, as by dsm_migrate_finish). What its stack holds, and 64
 * KiB below, is pinned meanwhile. -EDEADLK: this thread runs one already; -EBUSY: another runs it, or it is about to move; -ENOENT:
 * it has ended; as dsm_swap_in. */
enum { DSM_TASK_LEFT = 2 };
DSM_API int dsm_task_run(dsm_task *task, int *status);
DSM_API void dsm_task_stop(dsm_task *task); /* any thread, and signal handlers */
/* In the task: here it may stop, and go on elsewhere. Outside of tasks it does nothing. */
DSM_API void dsm_task_yield(void);
DSM_API void dsm_task_exit(int status); /* in the task: it does not come back */
/* Closes its segments, or deletes them when it has ended. The first error; it is gone all the same. NULL is 0. */
DSM_API int dsm_task_destroy(dsm_task *task);

/* Stops a task that does not run, before it moves: whoever touches its memory waits, clean pages leave memory, and dirty ones are
 * being written when this returns. *bytes (may be NULL): of the capsule, exactly. After an error it is as before. -EBUSY: it runs, a page is
 * pinned, or a segment is shared (the detail names who has it open); -EALREADY; -EDEADLK: called by a task; else as dsm_clean. Source: Vm_InitiateMigration. */
DSM_API int dsm_migrate_initiate(dsm_task *task, uint64_t *bytes);
/* Waits for all writes, parks the task on the server, and writes its capsule to fd (file, pipe or socket): sealed for the
 * destination's public key (base64), single use, and worthless after so many seconds. From here on the capsule has the task.
 * What refuses the key, the seconds or the order of the calls (-EINVAL) changes nothing: an initiated task is frozen still, until
 * another try or dsm_migrate_abort(). After another error the task can be run here, or, where the server cannot be asked, dsm_migrate_abort()
 * says. Source: Vm_EncapState. */
DSM_API int dsm_migrate_encap(dsm_task *task, int fd, const char *destination, unsigned seconds);
/* Takes a task out of its capsule: mapped at the same addresses, nothing fetched. key_file: the destination's private key. What
 * is refused leaves all as it was: -EBADMSG no capsule, or altered; -ENODATA cut; -EKEYREJECTED for another key; -ETIME expired;
 * -EALREADY used, or taken back; -ENOENT its code is not there; -EPROTONOSUPPORT newer; -ENOEXEC another binary; -EADDRINUSE; -EACCES, -EDQUOT. Source: Vm_DeencapState. */
DSM_API int dsm_migrate_deencap(dsm *session, int fd, const char *key_file, dsm_task **task);
/* At the source, after encap: nothing of the task is left here. Who still waits for its memory gets SIGSEGV. */
DSM_API int dsm_migrate_finish(dsm_task *task);
/* At the source: it goes on here. -DSM_EFENCED: somebody took it out of the capsule; dsm_migrate_finish() is what remains. */
DSM_API int dsm_migrate_abort(dsm_task *task);

/* From here on "dsmctl migrate" of this user may move the task, while dsm_task_run() runs it, at its next yield. A second call does
 * nothing. -ENOMEM, -EAGAIN: no thread. */
DSM_API int dsm_task_movable(dsm_task *task);
/* In a program that "dsmctl agent" started: waits for the task that is to go on here, and takes it; it is movable. -ENOENT: nobody
 * started it so; else as dsm_migrate_deencap. */
DSM_API int dsm_task_receive(dsm *session, dsm_task **task);

/* ---- counters, threads, errors -------------------------------------------------------------------------------- */

typedef struct dsm_statistics { /* since dsm_open; see counters.def for each counter's meaning */
    size_t size;                /* in: sizeof(dsm_statistics) */
#define DSM_COUNTER(name, ...) uint64_t name;
#include <dsm/counters.def>
#undef DSM_COUNTER
} dsm_statistics;
DSM_API int dsm_stats(dsm *session, dsm_statistics *statistics);
/* How this session notices touches: "mprotect", "uffd" or "uffd-sync" (DSM_TRAP). Static text. */
DSM_API const char *dsm_trap(const dsm *session);

/* How long faults took that waited for a page, since dsm_open: in the library's handler, from its begin to its end, also where
 * that was a signal. A histogram: bucket 0 is below 1,024 ns; bucket i from 1 on begins at (8 + (i - 1) % 8) << (7 + (i - 1) / 8)
 * ns, where the one before ends; the last has no end. -EINVAL, -ECHILD. */
enum { DSM_LATENCY_BUCKETS = 194 };
typedef struct dsm_latency {
    size_t size; /* in: sizeof(dsm_latency) */
    uint64_t count, total_ns;
    uint64_t buckets[DSM_LATENCY_BUCKETS];
} dsm_latency;
DSM_API int dsm_fault_latency(dsm *session, dsm_latency *latency);
/* The time in ns within which `percent` (0 to 100) of them were done, by nearest rank: the middle of that one's bucket, so at most
 * 1/16 off from 1 us to 17 s. 0 when there are none. Any thread; of histograms that were subtracted, too. */
DSM_API uint64_t dsm_latency_percentile(const dsm_latency *latency, double percent);

/* Gives the calling thread an alternate signal stack of 64 KiB. Needed by threads with small stacks, and where
 * a fault may come with the stack nearly used up. The stack is freed when the thread ends. */
DSM_API int dsm_thread_init(void);

DSM_API const char *dsm_strerror(int error); /* of a negative return value; static text */
typedef struct dsm_error_detail {
    int error;         /* what the last failed call of this thread returned */
    uint64_t page;     /* or DSM_NO_PAGE */
    char segment[256]; /* or "" */
    char server[280];  /* or "" */
    char text[320];    /* a sentence that says what to do */
} dsm_error_detail;
DSM_API const dsm_error_detail *
dsm_error(void); /* of the calling thread; valid until its next call */

#ifdef __cplusplus
}
#endif

#endif
