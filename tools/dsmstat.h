// SPDX-License-Identifier: Apache-2.0
//
// What the files of dsmstat share: clients and their counters, lines to print, and how they are printed.
#ifndef TOOLS_DSMSTAT_H
#define TOOLS_DSMSTAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libdsm/stat/stat_page.h"
#include "rpc/failure.h"

enum { DSMSTAT_DONE = 0, DSMSTAT_FAILED = 1, DSMSTAT_USAGE = 2 }; // exit codes

enum stat_counter {
#define DSM_COUNTER(name, ...) STAT_COUNTER_##name,
#include <dsm/counters.def>
#undef DSM_COUNTER
    STAT_COUNTERS
};
// The columns of counters.def, with which those of a line begin.
enum stat_column {
#define DSM_COLUMN(name, ...) STAT_COLUMN_##name,
#include <dsm/counters.def>
#undef DSM_COLUMN
    STAT_COLUMN_NONE // as many
};
extern const struct stat_counter_text {
    const char *name, *unit, *meaning;
    bool level; // what is now, not what happened since the start
    enum stat_column column;
} stat_counters[STAT_COUNTERS];

enum { STAT_PERCENTS = 4 }; // of latencies: those that are shown
enum stat_format { STAT_TEXT, STAT_JSON, STAT_CSV };
struct stat_options {
    enum stat_format format;
    bool total, all;
    pid_t pid; // 0: all that may be seen
    const char *server, *segment, *library_file;
    double interval_s; // 0: once
    uint64_t count;    // of samples; UINT64_MAX: until interrupted
};

// ---- a statistics page, from outside (dsmstat_page.c) ----

struct stat_latency { // of faults that waited
    uint64_t total_ns;
    uint64_t buckets[LATENCY_BUCKETS];
};
struct stat_client {
    struct stat_client *next;
    pid_t pid, own_pid; // own_pid: by which it knows itself
    uid_t user;
    int fd; // keeps the page after the process has ended
    dev_t device;
    ino_t inode;
    uint32_t bytes;
    uint32_t place[STAT_COUNTERS]; // where a counter lies in the page; 0: it has none of that name
    uint32_t latency_place;        // the same of its histogram
    uint32_t segments_place, segments, segment_bytes; // and of its table of segments
    bool seen, ended, told;
    bool fresh; // met in the latest sample
    uint64_t opened_ns, cache_bytes;
    char program[64];
    char server[280];
    const char *trap; // "": unknown
    uint64_t before[STAT_COUNTERS], now[STAT_COUNTERS];
    struct stat_latency latency_before, latency_now;
};
// The page that process `pid` has open, if it is one of its own. 0 with a new client; -ENOENT there is none;
// -ESRCH no such process; -EACCES another user's; -ENOMEM.
int stat_client_find(pid_t pid, struct stat_client **client);
// The same of a page that another process has found and checked: takes the descriptor.
int stat_client_adopt(pid_t pid, int fd, struct stat_client **client);
struct stat_segment { // that is open
    uint32_t number, page_bytes;
    uint64_t pages;
    char name[STAT_PAGE_NAME_BYTES];
};
typedef void stat_visit_segment(void *context, const struct stat_segment *segment);
void stat_client_segments(const struct stat_client *client, stat_visit_segment *each,
                          void *context);
void stat_client_read(struct stat_client *client); // before = now, now = the page's counters
void stat_client_destroy(struct stat_client **client);

// ---- all clients, again and again (dsmstat_clients.c) ----

struct stat_sample {
    struct stat_client *clients; // in order of pid; those that ended are here once more
    double time_s;               // CLOCK_REALTIME
    uint64_t now_ns;             // CLOCK_MONOTONIC
    double interval_s;           // since the sample before; 0: the first
};
int stat_sample_take(struct stat_sample *sample, pid_t pid, struct failure *failure);
void stat_sample_end(struct stat_sample *sample);

// ---- lines (dsmstat_print.c) ----

struct stat_line { // a client, or all of them
    pid_t pid;     // 0: all
    unsigned clients;
    const char *program, *server, *trap;
    bool ended;
    double seconds; // since its session was opened
    uint64_t cache_bytes;
    uint64_t value[STAT_COUNTERS];
    double rate[STAT_COUNTERS];          // per second, since the sample before or since the start
    struct stat_latency latency, recent; // since the session was opened; as rates
};
struct stat_printer {
    const struct stat_options *options;
    unsigned lines; // since the heading
};
int stat_print(struct stat_printer *printer, const struct stat_sample *sample);
json_t *stat_latency_json(const struct stat_latency *latency);
// dsmstat_text.c
void stat_print_text(struct stat_printer *printer, const struct stat_line *line);
void stat_print_all(const struct stat_line *line);
// True when a heading is due before the next line, which it counts.
bool stat_heading_due(unsigned *lines);
// "12", "3.4", "1.2M": at most six characters.
const char *stat_rate_text(double rate, char text[16]);
// "15us", "1.2ms", "3.4s": at most six characters; "-" for 0, which stands for no fault.
const char *stat_time_text(uint64_t ns, char text[16]);
extern const struct stat_percent {
    double percent;
    const char *title, *name; // of its column, and of its field
} stat_percents[STAT_PERCENTS];

// ---- exit codes ----

int stat_clients(const struct stat_options *options); // dsmstat.c
int stat_server(const struct stat_options *options);  // dsmstat_server.c
void stat_complain(const struct failure *failure);
// Until it is time for sample `number` (from 0) of those that began at `start_ns` (CLOCK_MONOTONIC).
void stat_wait(const struct stat_options *options, uint64_t start_ns, uint64_t number);
uint64_t stat_now_ns(void); // CLOCK_MONOTONIC

#endif
