// SPDX-License-Identifier: Apache-2.0
//
// `dsmperf limit`: the raw limits of this machine, now. All metrics take turns within each of the rounds (A B C ...
// A B C ...), so that a noisy minute spoils one round of each and not all rounds of one. A round's figure is the median
// of its samples; what is shown is the least, median and greatest of the rounds.
#include "tools/dsmperf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/noise.h"

struct metric {
    struct perf_row row;
    struct perf_question question;
    struct perf_samples rounds;
};
enum { METRICS_MAX = 48 };
struct metrics {
    struct metric list[METRICS_MAX];
    size_t count;
};

static struct metric *add(struct metrics *metrics, const char *name, enum perf_kind kind,
                          uint32_t count, uint32_t bytes)
{
    struct metric *metric = &metrics->list[metrics->count++];
    metric->row = (struct perf_row){.test = "limit",
                                    .trap = "-",
                                    .lanes = "-",
                                    .waiting = "-",
                                    .unit = "us",
                                    .limit = (double)NAN};
    snprintf(metric->row.metric, sizeof(metric->row.metric), "%s", name);
    metric->question =
        (struct perf_question){.kind = kind, .count = count, .request = 64, .bytes = bytes};
    return metric;
}

static void add_wire(struct metrics *metrics, const struct perf_settings *settings)
{
    static const struct {
        const char *name;
        uint32_t bytes, divisor;
    } answers[] = {{"TCP round trip, 64 B answer", 64, 1},
                   {"TCP round trip, 4 KiB answer", 4 << 10, 1},
                   {"TCP round trip, 64 KiB answer", 64 << 10, 4},
                   {"TCP round trip, 1 MiB answer", 1 << 20, 16}};
    for (size_t i = 0; i < 2 * sizeof(answers) / sizeof(answers[0]); i++) {
        uint32_t count = (uint32_t)settings->samples / answers[i / 2].divisor + 1;
        struct metric *metric =
            add(metrics, answers[i / 2].name, PERF_WIRE, count, answers[i / 2].bytes);
        metric->question.spin_us = i % 2 == 0 ? 0 : PERF_SPIN_US;
        metric->row.waiting = i % 2 == 0 ? "block" : "spin";
    }
}

static void add_ciphers(struct metrics *metrics, const struct perf_settings *settings)
{
    uint32_t samples = (uint32_t)settings->samples;
    static const char *const names[] = {"", "AES-256-GCM", "ChaCha20-Poly1305"};
    for (uint32_t suite = NOISE_AESGCM; suite <= NOISE_CHACHAPOLY; suite++) {
        if (!noise_suite_available((enum noise_suite)suite)) {
            continue;
        }
        for (uint32_t kib = 4; kib <= 32; kib *= 8) {
            for (int open = 0; open < 2; open++) {
                char name[64];
                snprintf(name, sizeof(name), "%s %s %u KiB", names[suite], open ? "open" : "seal",
                         (unsigned)kib);
                add(metrics, name, open ? PERF_OPEN : PERF_SEAL, samples, kib << 10)
                    ->question.suite = suite;
            }
        }
        char name[64];
        snprintf(name, sizeof(name), "%s stream, 1 MiB answer", names[suite]);
        for (int upload = 0; upload < 2; upload++) {
            snprintf(name, sizeof(name), "%s %s 1 MiB", names[suite],
                     upload ? "upload," : "stream, answers of");
            struct metric *stream =
                add(metrics, name, upload ? PERF_UPLOAD : PERF_STREAM, samples / 16 + 1, 1 << 20);
            stream->question.suite = suite;
            stream->question.spin_us = perf_spins(settings) ? PERF_SPIN_US : 0;
            stream->row.waiting = perf_spins(settings) ? "spin" : "block";
        }
    }
}

static void add_trap(struct metrics *metrics, const char *name, const char *trap,
                     const struct perf_question *question)
{
    struct metric *metric = add(metrics, name, PERF_TRAP, question->count, 0);
    metric->row.trap = trap;
    metric->row.waiting = question->handed ? "handed" : "direct";
    metric->question = *question;
}

// The four of mprotect last: add_fill_ratios() looks for them there.
static void add_traps(struct metrics *metrics, uint32_t samples)
{
    static const char cycle[] = "fill and evict, 4 KiB, random";
    static const char stores[] = "the same with stores, dirty victims";
    struct perf_region try;
    struct perf_question question = {.kind = PERF_TRAP, .count = samples};
    if (perf_region_create(&try, PERF_TRAP_UFFD, 16) == 0) {
        perf_region_destroy(&try);
        question.trap = PERF_TRAP_UFFD;
        question.fill = PERF_FILL_ALIAS;
        add_trap(metrics, cycle, "uffd/alias", &question);
        question.fill = PERF_FILL_PWRITE;
        add_trap(metrics, cycle, "uffd/pwrite", &question);
        question.write = 1;
        add_trap(metrics, stores, "uffd/pwrite", &question);
        question.write = 0;
    }
    question.trap = PERF_TRAP_MPROTECT;
    question.fill = PERF_FILL_PWRITE;
    question.write = 1;
    add_trap(metrics, stores, "mprotect/pwrite", &question);
    question.write = 0;
    for (uint32_t i = 0; i < 4; i++) {
        question.handed = i / 2;
        question.fill = i % 2 == 0 ? PERF_FILL_ALIAS : PERF_FILL_PWRITE;
        add_trap(metrics, cycle, i % 2 == 0 ? "mprotect/alias" : "mprotect/pwrite", &question);
    }
}

static int run_round(struct metrics *metrics, struct perf_worker *worker)
{
    for (size_t i = 0; i < metrics->count; i++) {
        struct perf_samples samples = {0};
        int result = perf_worker_ask(worker, &metrics->list[i].question, &samples);
        if (result == 0) {
            result = perf_samples_add(&metrics->list[i].rounds, perf_percentile(&samples, 50));
        }
        perf_samples_free(&samples);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

// pwrite beside alias, for each place where the work is done: the question that `limit` is asked most.
static int add_fill_ratios(struct metrics *metrics, struct perf_report *report)
{
    const struct metric *traps = &metrics->list[metrics->count - 4];
    for (size_t handed = 0; handed < 2; handed++) {
        const struct metric *alias = &traps[2 * handed];
        const struct metric *by_pwrite = &traps[2 * handed + 1];
        struct perf_samples ratios = {0};
        int result = 0;
        for (size_t i = 0; i < alias->rounds.count && result == 0; i++) {
            result =
                perf_samples_add(&ratios, by_pwrite->rounds.values[i] / alias->rounds.values[i]);
        }
        struct perf_row row = by_pwrite->row;
        snprintf(row.metric, sizeof(row.metric), "pwrite / alias, round by round");
        row.trap = "mprotect";
        row.unit = "1";
        if (result == 0) {
            result = perf_report_spread(report, row, &ratios);
        }
        perf_samples_free(&ratios);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

int perf_limit(const struct perf_settings *settings, struct perf_worker *worker,
               struct perf_report *report, struct failure *failure)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));
    struct perf_report ratios = {0};
    if (metrics == NULL) {
        return failure_set(failure, -ENOMEM, "There is not enough memory.");
    }
    add_wire(metrics, settings);
    add_ciphers(metrics, settings);
    add_traps(metrics, (uint32_t)settings->samples);
    int result = 0;
    for (size_t round = 0; round < settings->rounds && result == 0; round++) {
        perf_progress("limit: rounds", round, settings->rounds);
        result = run_round(metrics, worker);
    }
    if (result == 0) { // before the rows sort the rounds
        result = add_fill_ratios(metrics, &ratios);
    }
    for (size_t i = 0; i < metrics->count && result == 0; i++) {
        result = perf_report_spread(report, metrics->list[i].row, &metrics->list[i].rounds);
    }
    for (size_t i = 0; i < ratios.count && result == 0; i++) {
        result = perf_report_add(report, &ratios.rows[i]);
    }
    if (result != 0) {
        failure_set(failure, result, "A raw limit could not be measured: %s.", strerror(-result));
    }
    for (size_t i = 0; i < metrics->count; i++) {
        perf_samples_free(&metrics->list[i].rounds);
    }
    perf_report_free(&ratios);
    free(metrics);
    return result;
}
