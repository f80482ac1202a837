/* SPDX-License-Identifier: Apache-2.0
 *
 * What a fault's time consists of: the memory to which fault_end's last argument points. Read by tracers, so fields are only
 * added, at the end. Each part is measured by itself; their sum is fault_end's total_ns. The trap's own part is not
 * among them, since only the kernel knows when it began: begin_ns less the time of exceptions:page_fault_user. */
#ifndef LIBDSM_STAT_FAULT_PARTS_H
#define LIBDSM_STAT_FAULT_PARTS_H

#include <linux/types.h>

enum { DSM_SWAP_IN_COUNTERS = 9 };

struct dsm_fault_parts {
    __u64 begin_ns;    /* CLOCK_MONOTONIC at the handler's entry */
    __u64 pager_ns;    /* finding page, frame and victim; opening the page */
    __u64 handover_ns; /* from the faulting thread to the one that fetches */
    __u64 wait_ns;   /* for a page that another one had asked for, for a frame, for a connection */
    __u64 cipher_ns; /* sealing and opening, here and at the server */
    __u64 wire_ns;   /* the kernels' sockets and what lies between them */
    __u64 server_ns; /* in the server, without its cipher */
    __u64 wake_ns;   /* until the faulting thread ran again */
    __u32 swap_in[DSM_SWAP_IN_COUNTERS]; /* added to the swap_in_* counters, in their order */
    __u32 zero;
};

#endif
