// SPDX-License-Identifier: Apache-2.0
//
// policy_sim [--json] [TRACE=FILE]...: hit rates of replacement policies on page traces, at caches of an eighth, a quarter
// and half of what the program touches (for the rules sequential, loop, scan and phases, which are made for a cache: of one size).
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/policies.h"

enum { MOST_ROWS = 64, MOST_POLICIES = 8, RULE_FRAMES = 4096, FEWEST_FRAMES = 16 };

struct row {
    char trace[64];
    uint32_t frames, pages, touches;
    struct outcome outcomes[MOST_POLICIES];
};

static struct row rows[MOST_ROWS];
static unsigned row_count;

static double rate(const struct row *row, unsigned policy)
{
    return 100.0 * row->outcomes[policy].hits / row->touches;
}

static int play(const char *name, const struct trace *trace, uint32_t frames)
{
    if (row_count == MOST_ROWS) {
        return -ENOSPC;
    }
    struct row *row = &rows[row_count++];
    *row = (struct row){.frames = frames, .pages = trace->pages, .touches = trace->count};
    (void)snprintf(row->trace, sizeof row->trace, "%s", name);
    int error = 0;
    for (unsigned p = 0; policies[p].name != NULL && error == 0; p++) {
        error = policies[p].play(trace, frames, &row->outcomes[p]);
    }
    return error;
}

static int play_parts(const char *name, const struct trace *trace)
{
    int error = 0;
    for (uint32_t part = 8; part >= 2 && error == 0; part /= 2) {
        uint32_t frames = trace->pages / part;
        error = play(name, trace, frames < FEWEST_FRAMES ? FEWEST_FRAMES : frames);
    }
    return error;
}

static int play_rule(const char *rule)
{
    struct trace trace;
    int error = trace_make(&trace, rule, RULE_FRAMES);
    if (error == 0) {
        error =
            strcmp(rule, "zipf") == 0 ? play_parts(rule, &trace) : play(rule, &trace, RULE_FRAMES);
    }
    trace_free(&trace);
    return error;
}

static int play_file(const char *argument)
{
    char name[64];
    const char *equals = strchr(argument, '=');
    if (equals == NULL || equals == argument || (size_t)(equals - argument) >= sizeof name) {
        return -EINVAL;
    }
    (void)snprintf(name, sizeof name, "%.*s", (int)(equals - argument), argument);
    struct trace trace;
    int error = trace_load(&trace, equals + 1);
    if (error == 0) {
        error = play_parts(name, &trace);
        trace_free(&trace);
    }
    return error;
}

static double mean(unsigned policy)
{
    double sum = 0;
    for (unsigned i = 0; i < row_count; i++) {
        sum += rate(&rows[i], policy);
    }
    return sum / row_count;
}

static void print_table(void)
{
    printf("%-12s %7s %7s", "trace", "pages", "frames");
    for (unsigned p = 0; policies[p].name != NULL; p++) {
        printf(" %9s", policies[p].name);
    }
    printf("   soft: dsm, clock\n");
    for (unsigned i = 0; i < row_count; i++) {
        const struct row *row = &rows[i];
        printf("%-12s %7u %7u", row->trace, row->pages, row->frames);
        for (unsigned p = 0; policies[p].name != NULL; p++) {
            printf(" %8.1f%%", rate(row, p));
        }
        printf("   %.1f%%, %.1f%%\n", 100.0 * row->outcomes[0].soft / row->touches,
               100.0 * row->outcomes[1].soft / row->touches);
    }
    printf("%-12s %7s %7s", "mean", "", "");
    for (unsigned p = 0; policies[p].name != NULL; p++) {
        printf(" %8.1f%%", mean(p));
    }
    printf("\n");
}

static void print_json(void)
{
    printf("[");
    for (unsigned i = 0; i < row_count; i++) {
        const struct row *row = &rows[i];
        printf(
            "%s\n {\"trace\": \"%s\", \"pages\": %u, \"frames\": %u, \"touches\": %u, \"hits\": {",
            i == 0 ? "" : ",", row->trace, row->pages, row->frames, row->touches);
        for (unsigned p = 0; policies[p].name != NULL; p++) {
            printf("%s\"%s\": %u", p == 0 ? "" : ", ", policies[p].name, row->outcomes[p].hits);
        }
        printf("}, \"soft\": {");
        for (unsigned p = 0; policies[p].name != NULL; p++) {
            printf("%s\"%s\": %u", p == 0 ? "" : ", ", policies[p].name, row->outcomes[p].soft);
        }
        printf("}}");
    }
    printf("\n]\n");
}

int main(int argc, char **argv)
{
    static const char *const rules[] = {"sequential", "loop", "zipf", "scan", "phases"};
    bool json = false;
    int error = 0;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0] && error == 0; i++) {
        error = play_rule(rules[i]);
    }
    for (int i = 1; i < argc && error == 0; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            json = true;
            continue;
        }
        error = play_file(argv[i]);
        if (error != 0) {
            fprintf(stderr, "policy_sim: %s: %s (want --json, or NAME=FILE of a recorded trace)\n",
                    argv[i], strerror(-error));
        }
    }
    if (error != 0) {
        return 1;
    }
    json ? print_json() : print_table();
    return 0;
}
