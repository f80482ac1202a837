// SPDX-License-Identifier: Apache-2.0
//
// What the files of dsmperf share: settings, samples, rows of results, and the raw limits. The limits are
// measured by a worker process that is forked before the library starts, so that neither side's threads
// and signal handlers are in the other's way and both can take turns in one run.
#ifndef TOOLS_DSMPERF_H
#define TOOLS_DSMPERF_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "rpc/failure.h"
#include "rpc/keyfile.h"
#include "tools/dsmperf_region.h"

enum { PERF_ROUNDS_MIN = 5, PERF_PAGE_BYTES = 4096, PERF_SPIN_US = 50 };

struct perf_settings {
    bool json;
    bool write; // fault: stores instead of loads
    size_t rounds;
    size_t samples;                // per round and metric
    uint64_t bytes;                // of the segment
    uint32_t most;                 // threads, clients: the last step; 0: the default
    uint32_t window_ms;            // threads, clients: for which all touch
    const char *dsmd;              // program to start, or NULL
    const char *disk;              // on the local disk: a folder, a file or a device; or NULL
    uint64_t disk_bytes;           // of the file that is made in a folder; 0: the default
    const char *programs;          // apps: folder of the test programs, or NULL
    const char *apps;              // apps: which, comma-separated, or NULL
    const char *local;             // apps: percentages, comma-separated, or NULL
    bool hints;                    // apps: those programs alone that can give hints, and they do
    const char *plot;              // file, or NULL
    const char *spin;              // auto, off, on; NULL: not said
    enum perf_trap_kind trap_kind; // what DSM_TRAP comes to here
    enum perf_fill fill;           // DSM_FILL
    const char *lanes;             // DSM_FAULT_LANES
    const char *trap_now;          // text for the column "trap"
};

// ---- samples (dsmperf_samples.c) ----------------------------------------------------------------------

struct perf_samples {
    double *values;
    size_t count, capacity;
};
int perf_samples_add(struct perf_samples *samples, double value); // 0 or -ENOMEM
void perf_samples_free(struct perf_samples *samples);
// Nearest rank, 0 < percent <= 100; sorts. NAN when there is no sample.
double perf_percentile(struct perf_samples *samples, double percent);
double perf_now_us(void); // CLOCK_MONOTONIC

// The next random number: xorshift64 (Marsaglia, 2003). The upper bits are the better ones. *state is not 0.
static inline uint64_t perf_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// ---- rows (dsmperf_report.c) --------------------------------------------------------------------------

struct perf_row {
    const char *test, *trap, *lanes, *waiting, *unit; // static text
    char metric[160];
    double value, min, max; // median, least and greatest of the rounds; min, max NAN: of one figure
    double limit;           // NAN: none
};
struct perf_report {
    struct perf_row *rows;
    size_t count, capacity;
};
int perf_report_add(struct perf_report *report, const struct perf_row *row); // copies; 0 or -ENOMEM
// A row of the spread of `rounds`; sorts them.
int perf_report_spread(struct perf_report *report, struct perf_row row,
                       struct perf_samples *rounds);
// A row without a figure, whose metric says why there is none.
int perf_report_why_not(struct perf_report *report, struct perf_row row, const char *what,
                        const char *why);
void perf_report_print(const struct perf_report *report, bool json);
void perf_report_free(struct perf_report *report);

// ---- progress, on terminals (dsmperf_progress.c) --------------------------------------------------------

void perf_progress(const char *what, uint64_t done, uint64_t total); // done 0: it begins
void perf_progress_end(void);                                        // the line goes

// ---- raw limits ---------------------------------------------------------------------------------------

enum perf_kind { PERF_WIRE, PERF_STREAM, PERF_UPLOAD, PERF_SEAL, PERF_OPEN, PERF_TRAP };
struct perf_question {
    enum perf_kind kind;
    uint32_t count;   // samples wanted
    uint32_t request; // WIRE: bytes asked with
    uint32_t
        bytes; // WIRE, STREAM: of an answer; UPLOAD: of a request's data; SEAL, OPEN: of a record
    uint32_t suite;   // SEAL, OPEN, STREAM, UPLOAD: enum noise_suite
    uint32_t spin_us; // WIRE, STREAM, UPLOAD: how long both ends look before they sleep
    uint32_t trap;    // TRAP: enum perf_trap_kind
    uint32_t fill;    // TRAP: enum perf_fill
    uint32_t handed;  // TRAP: the work is done by another thread
    uint32_t write;   // TRAP: stores, and victims that were stored to
};

struct perf_worker; // dsmperf_worker.c
// Forks; call before any thread is made. 0 or -errno.
int perf_worker_start(struct perf_worker **worker);
// Microseconds (STREAM, UPLOAD: of one answer), added to *samples.
int perf_worker_ask(struct perf_worker *worker, const struct perf_question *question,
                    struct perf_samples *samples);
void perf_worker_stop(struct perf_worker **worker);

struct perf_wire; // dsmperf_wire.c: two processes and a TCP connection on loopback
int perf_wire_create(struct perf_wire **wire);
int perf_wire_measure(struct perf_wire *wire, const struct perf_question *question,
                      struct perf_samples *samples);
void perf_wire_destroy(struct perf_wire **wire);

struct noise_cipher; // dsmperf_cipher.c
int perf_cipher_pair(uint32_t suite, struct noise_cipher **send, struct noise_cipher **receive);
int perf_cipher_measure(const struct perf_question *question, struct perf_samples *samples);
uint32_t perf_cipher_suite(void); // the one that the product would take on this machine

struct
    perf_trap; // dsmperf_trap.c: a full cache, one page in and one out; one at a time in a process
int perf_trap_create(struct perf_trap **trap);
int perf_trap_measure(struct perf_trap *trap, const struct perf_question *question,
                      struct perf_samples *samples);
void perf_trap_destroy(struct perf_trap **trap);

// dsmperf_parts.c. --spin on; the word for the column "waiting".
bool perf_spins(const struct perf_settings *settings);
const char *perf_waiting(const struct perf_settings *settings);
// Microseconds that a fault must take; MB/s of a sealed stream (PERF_STREAM, PERF_UPLOAD).
int perf_fault_limit(const struct perf_settings *settings, struct perf_worker *worker, bool write,
                     double *limit);
int perf_bulk_limit(const struct perf_settings *settings, struct perf_worker *worker,
                    enum perf_kind kind, double *mb_per_s);

struct perf_disk; // dsmperf_disk.c
int perf_disk_create(const struct perf_settings *settings, struct perf_disk **disk,
                     struct failure *failure);
const char *perf_disk_where(const struct perf_disk *disk); // what is read, for people
int perf_disk_measure(struct perf_disk *disk, uint64_t count, struct perf_samples *samples);
void perf_disk_destroy(struct perf_disk **disk);

// ---- a server of our own (dsmperf_server.c) -----------------------------------------------------------

struct perf_keeper;
struct perf_server {
    pid_t pid;
    struct perf_keeper *keeper; // of the directory
    char directory[256];
    char address[64];
    char server_key[KEYFILE_TEXT_BYTES];
    char client_key_file[288];
};
// Starts `program` on a port of its own choice with throw-away keys. spin: its key, or NULL. 0 or -errno with a sentence.
int perf_server_start(const char *program, uint64_t capacity, const char *spin,
                      struct perf_server *server, struct failure *failure);
void perf_server_stop(struct perf_server *server); // ends it and removes its directory

// ---- subcommands: 0, or -errno with a sentence ----------------------------------------------------------

int perf_limit(const struct perf_settings *settings, struct perf_worker *worker,
               struct perf_report *report, struct failure *failure);
int perf_fault(const struct perf_settings *settings, struct perf_worker *worker,
               struct perf_report *report, struct failure *failure);
int perf_apps(const struct perf_settings *settings, struct perf_worker *worker,
              struct perf_report *report, struct failure *failure);
int perf_probe(const struct perf_settings *settings, struct perf_worker *worker,
               struct perf_report *report, struct failure *failure);
int perf_scan(const struct perf_settings *settings, struct perf_worker *worker,
              struct perf_report *report, struct failure *failure);
int perf_clean(const struct perf_settings *settings, struct perf_worker *worker,
               struct perf_report *report, struct failure *failure);
int perf_threads(const struct perf_settings *settings, struct perf_worker *worker,
                 struct perf_report *report, struct failure *failure);
int perf_clients(const struct perf_settings *settings, struct perf_worker *worker,
                 struct perf_report *report, struct failure *failure);

#endif
