// SPDX-License-Identifier: Apache-2.0
//
// The limits that several subcommands measure, each a median of samples that the worker takes:
//
// of a fault   the sum of what it must pay, one after the other, with the same way of waiting:
//                round trip of a sealed read request and an answer with one page of 4 KiB
//              + seal and open of both headers and of the page
//              + the trap's cycle of fill and evict, in the thread that faulted (over gRPC lanes: handed to another and back)
//              of a store, whose victim must be written first: a round trip with the page in the request, too, with its
//              seals and opens, and a trap that opens for stores
// The way of waiting is that of --spin: both ends look for 50 us before they sleep, and have a processor each; or they sleep at once, and
// the kernel places them. With `auto` both are tried, and the better one is the limit.
//
// of bulk      a sealed stream of 1 MiB answers, or uploads, two under way
#include <string.h>

#include "rpc/wire.h"
#include "tools/dsmperf.h"

enum { STREAM_ANSWERS_MIN = 8, STREAM_ANSWERS_MAX = 128 };

static bool spin_is(const struct perf_settings *settings, const char *word)
{
    return strcmp(settings->spin == NULL ? "auto" : settings->spin, word) == 0;
}

bool perf_spins(const struct perf_settings *settings)
{
    return spin_is(settings, "on");
}

const char *perf_waiting(const struct perf_settings *settings)
{
    if (strcmp(settings->lanes, "grpc") == 0) {
        return "handed";
    }
    return spin_is(settings, "on") ? "spin" : spin_is(settings, "off") ? "block" : "auto";
}

// Both ways of waiting, or the one that was asked for: the better one counts.
static int ask_waiting(const struct perf_settings *settings, struct perf_worker *worker,
                       struct perf_question question, double (*figure)(struct perf_samples *),
                       double *value)
{
    bool waits =
        question.kind == PERF_WIRE || question.kind == PERF_STREAM || question.kind == PERF_UPLOAD;
    int result = 0;
    *value = INFINITY;
    for (int spin = 0; spin < 2 && result == 0; spin++) {
        struct perf_samples samples = {0};
        if (spin == 1 ? !waits || spin_is(settings, "off") : waits && spin_is(settings, "on")) {
            continue;
        }
        question.spin_us = spin == 1 ? PERF_SPIN_US : 0;
        result = perf_worker_ask(worker, &question, &samples);
        *value = fmin(*value, figure(&samples));
        perf_samples_free(&samples);
    }
    return result;
}

static double median(struct perf_samples *samples)
{
    return perf_percentile(samples, 50);
}

static double sum(struct perf_samples *samples)
{
    double total = 0;
    for (size_t i = 0; i < samples->count; i++) {
        total += samples->values[i];
    }
    return total;
}

int perf_fault_limit(const struct perf_settings *settings, struct perf_worker *worker, bool write,
                     double *limit)
{
    enum { PAGE_SEALED = PERF_PAGE_BYTES + LIMIT_SEAL_BYTES };
    uint32_t count = (uint32_t)settings->samples;
    uint32_t suite = perf_cipher_suite();
    uint32_t handed = strcmp(settings->lanes, "grpc") == 0;
    double transfers = write ? 2 : 1;
    const struct {
        struct perf_question question;
        double times;
    } parts[] = {
        {{.kind = PERF_WIRE,
          .request = WIRE_HEADER_SEALED_BYTES,
          .bytes = WIRE_HEADER_SEALED_BYTES + PAGE_SEALED},
         1},
        {{.kind = PERF_WIRE,
          .request = WIRE_HEADER_SEALED_BYTES + PAGE_SEALED,
          .bytes = WIRE_HEADER_SEALED_BYTES},
         transfers - 1},
        {{.kind = PERF_SEAL, .bytes = WIRE_HEADER_BYTES}, 2 * transfers},
        {{.kind = PERF_OPEN, .bytes = WIRE_HEADER_BYTES}, 2 * transfers},
        {{.kind = PERF_SEAL, .bytes = PERF_PAGE_BYTES}, transfers},
        {{.kind = PERF_OPEN, .bytes = PERF_PAGE_BYTES}, transfers},
        {{.kind = PERF_TRAP}, 1},
    };
    int result = 0;
    *limit = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && result == 0; i++) {
        struct perf_question question = parts[i].question;
        question.count = count;
        question.suite = suite;
        question.trap = settings->trap_kind;
        question.fill = settings->fill;
        question.handed = handed;
        question.write = write;
        double part = 0;
        if (parts[i].times > 0) {
            result = ask_waiting(settings, worker, question, median, &part);
        }
        *limit += parts[i].times * part;
    }
    return result;
}

int perf_bulk_limit(const struct perf_settings *settings, struct perf_worker *worker,
                    enum perf_kind kind, double *mb_per_s)
{
    uint64_t answers = settings->bytes / LIMIT_RUN_BYTES; // as long as the product is at work
    answers = answers < STREAM_ANSWERS_MIN ? STREAM_ANSWERS_MIN : answers;
    answers = answers > STREAM_ANSWERS_MAX ? STREAM_ANSWERS_MAX : answers;
    struct perf_question question = {.kind = kind,
                                     .count = (uint32_t)answers,
                                     .request = 64,
                                     .bytes = LIMIT_RUN_BYTES,
                                     .suite = perf_cipher_suite()};
    double us;
    int result = ask_waiting(settings, worker, question, sum, &us);
    *mb_per_s = (double)answers * LIMIT_RUN_BYTES / us;
    return result;
}
