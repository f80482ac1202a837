// SPDX-License-Identifier: Apache-2.0
//
// What dsm_exporter says: names, made of the counters' by one rule, and the samples of all groups. A counter of bytes ends in
// _bytes, since that is where Prometheus looks for a unit (bytes_read becomes read_bytes); one of nanoseconds is told in
// seconds; a sum of what happened ends in _total. All else is declared in exporter.def.
//
// A group that is sent to its end has series all the same: a counter that vanished could not be told from one that is not
// scraped.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/dsm_exporter.h"

enum exporter_metric {
#define EXPORTER_METRIC(id, name, type, labels, meaning) EXPORTER_##id,
#include "tools/exporter.def"
#undef EXPORTER_METRIC
    EXPORTER_METRICS
};

#define GROUP "program, user"
static const struct {
    const char *name;
    enum metrics_type type;
    const char *labels, *meaning;
} families[EXPORTER_METRICS] = {
#define EXPORTER_METRIC(id, name, type, labels, meaning) {name, METRICS_##type, labels, meaning},
#include "tools/exporter.def"
#undef EXPORTER_METRIC
};

enum { FAMILY_BYTES = 96, PID_BYTES = 16 };

struct group_labels { // of one group
    struct metrics_label all[3];
    char pid[PID_BYTES];
    size_t count;
};

static const struct unit {
    const char *name; // as counters.def has it
    const char *word; // in counters' names
    const char *base; // in samples' names: Prometheus wants base units
    double factor;
} units[] = {{"bytes", "bytes_", "bytes_", 1}, {"nanoseconds", "ns_", "seconds_", 1e-9}};

// NULL: it counts things.
static const struct unit *unit_of(size_t counter)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(stat_counters[counter].unit, units[i].name) == 0) {
            return &units[i];
        }
    }
    return NULL;
}

// The unit goes to the end from wherever it stands among the words of the counter's name.
static void name_counter(size_t counter, char name[FAMILY_BYTES])
{
    char words[FAMILY_BYTES - sizeof "dsm__seconds_total"];
    const struct unit *unit = unit_of(counter);
    (void)snprintf(words, sizeof words, "%s_", stat_counters[counter].name);
    char *at = unit != NULL ? strstr(words, unit->word) : NULL;
    if (at != NULL && (at == words || at[-1] == '_')) {
        size_t length = strlen(unit->word);
        memmove(at, at + length, strlen(at + length) + 1);
    }
    (void)snprintf(name, FAMILY_BYTES, "dsm_%s%s%s", words, unit != NULL ? unit->base : "",
                   stat_counters[counter].level ? "" : "total");
    if (name[strlen(name) - 1] == '_') {
        name[strlen(name) - 1] = '\0';
    }
}

static void label(const struct exporter_group *group, struct group_labels *labels)
{
    labels->all[0] = (struct metrics_label){"program", group->program};
    labels->all[1] = (struct metrics_label){"user", group->user_name};
    labels->count = 2;
    if (group->pid != 0) {
        (void)snprintf(labels->pid, sizeof labels->pid, "%ld", (long)group->pid);
        labels->all[labels->count++] = (struct metrics_label){"pid", labels->pid};
    }
}

static void begin(struct metrics_text *text, enum exporter_metric metric)
{
    metrics_family(text, families[metric].name, families[metric].type, families[metric].meaning);
}

static void say_numbers(struct metrics_text *text, const struct exporter_groups *groups,
                        size_t offset)
{
    for (const struct exporter_group *group = groups->first; group != NULL; group = group->next) {
        struct group_labels labels;
        uint64_t number;
        memcpy(&number, (const char *)group + offset, sizeof number);
        label(group, &labels);
        metrics_number(text, labels.all, labels.count, number);
    }
}

static void say_counter(struct metrics_text *text, const struct exporter_groups *groups,
                        size_t counter)
{
    size_t offset = offsetof(struct exporter_group, counters) + counter * sizeof(uint64_t);
    const struct unit *unit = unit_of(counter);
    if (unit == NULL || unit->factor == 1) {
        say_numbers(text, groups, offset);
        return;
    }
    for (const struct exporter_group *group = groups->first; group != NULL; group = group->next) {
        struct group_labels labels;
        label(group, &labels);
        metrics_real(text, labels.all, labels.count,
                     (double)group->counters[counter] * unit->factor);
    }
}

static void say_own(struct metrics_text *text, const struct exporter_groups *groups,
                    const struct exporter_facts *facts)
{
    begin(text, EXPORTER_BUILD);
    metrics_number(text, &(const struct metrics_label){"version", DSM_VERSION}, 1, 1);
    begin(text, EXPORTER_SEES_ALL);
    metrics_number(text, NULL, 0, facts->sees_all ? 1 : 0);
    begin(text, EXPORTER_LOOKS);
    metrics_number(text, NULL, 0, facts->looks);
    begin(text, EXPORTER_LOOK_TIME);
    metrics_real(text, NULL, 0, facts->look_seconds);
    begin(text, EXPORTER_GROUPS);
    metrics_number(text, NULL, 0, groups->count);
    begin(text, EXPORTER_GROUPS_LIMIT);
    metrics_number(text, NULL, 0, groups->limit);
}

static void say_faults(struct metrics_text *text, const struct exporter_groups *groups)
{
    begin(text, EXPORTER_FAULTS);
    for (const struct exporter_group *group = groups->first; group != NULL; group = group->next) {
        struct group_labels labels;
        label(group, &labels);
        metrics_latency(text, labels.all, labels.count, group->faults, group->fault_ns);
    }
}

void exporter_say(struct metrics_text *text, const struct exporter_groups *groups,
                  const struct exporter_facts *facts)
{
    say_own(text, groups, facts);
    begin(text, EXPORTER_PROCESSES);
    say_numbers(text, groups, offsetof(struct exporter_group, processes));
    begin(text, EXPORTER_SESSIONS);
    say_numbers(text, groups, offsetof(struct exporter_group, sessions));
    begin(text, EXPORTER_CACHE);
    say_numbers(text, groups, offsetof(struct exporter_group, cache_bytes));
    say_faults(text, groups);
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        char name[FAMILY_BYTES];
        name_counter(i, name);
        metrics_family(text, name, stat_counters[i].level ? METRICS_GAUGE : METRICS_COUNTER,
                       stat_counters[i].meaning);
        say_counter(text, groups, i);
    }
}

void exporter_list(FILE *to)
{
    for (size_t i = 0; i < EXPORTER_METRICS; i++) {
        (void)fprintf(to, "%s\t%s\t%s\t%s\n", families[i].name, metrics_type_text(families[i].type),
                      families[i].labels, families[i].meaning);
    }
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        char name[FAMILY_BYTES];
        name_counter(i, name);
        (void)fprintf(to, "%s\t%s\t%s\t%s\n", name,
                      metrics_type_text(stat_counters[i].level ? METRICS_GAUGE : METRICS_COUNTER),
                      GROUP, stat_counters[i].meaning);
    }
}
