// SPDX-License-Identifier: Apache-2.0
//
// What the kernel has counted, as rows of 64-bit sums under (process, segment, server). Counts, histograms and splits are all
// such rows, so reading, subtracting and adding up is done here once. The sums in the kernel only grow; what happened in an
// interval is the difference of two copies, so no reader takes anything from another, and nothing is lost between them.
//
// A copy is not of one instant: sums go on being added to while they are read. A sum may lack what came meanwhile, no more.
#include "tools/dsmstat_sums.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool_text.h"

struct reading {
    const struct watch *watch;
    struct sums *sums;
};

static int add_row(void *context, const struct seen_key *key, const void *value)
{
    const struct reading *reading = context;
    struct sums *sums = reading->sums;
    if (!watch_shows(reading->watch, key)) {
        return 0;
    }
    if (sums->count == sums->room) {
        size_t room = 2 * sums->room + 16;
        struct seen_key *keys = reallocarray(sums->keys, room, sizeof *keys);
        sums->keys = keys != NULL ? keys : sums->keys;
        uint64_t *values = reallocarray(sums->values, room, sums->words * sizeof *values);
        sums->values = values != NULL ? values : sums->values;
        if (keys == NULL || values == NULL) {
            return -ENOMEM;
        }
        sums->room = room;
    }
    sums->keys[sums->count] = *key;
    memcpy(sums->values + sums->count * sums->words, value, sums->words * sizeof(uint64_t));
    sums->count++;
    return 0;
}

int sums_read(const struct watch *watch, enum sums_of what, struct sums *sums,
              struct failure *failure)
{
    struct reading reading = {.watch = watch, .sums = sums};
    int error;
    *sums = (struct sums){0};
    switch (what) {
    case SUMS_COUNTS:
        sums->words = SUMS_WORDS(struct seen_counts);
        error = seen_each_counts(watch->seen, add_row, &reading);
        break;
    case SUMS_HIST:
        sums->words = SUMS_WORDS(struct seen_hist);
        error = seen_each_hist(watch->seen, add_row, &reading);
        break;
    default:
        sums->words = SUMS_WORDS(struct seen_why);
        error = seen_each_why(watch->seen, add_row, &reading);
    }
    if (error != 0) {
        sums_free(sums);
        return failure_set(failure, error, "the kernel's sums cannot be read: %s",
                           strerror(-error));
    }
    return 0;
}

const uint64_t *sums_find(const struct sums *sums, const struct seen_key *key)
{
    for (size_t i = 0; i < sums->count; i++) {
        if (memcmp(&sums->keys[i], key, sizeof *key) == 0) {
            return sums->values + i * sums->words;
        }
    }
    return NULL;
}

int sums_copy(const struct sums *sums, struct sums *copy)
{
    *copy = (struct sums){.words = sums->words, .count = sums->count, .room = sums->count};
    copy->keys = reallocarray(NULL, sums->count + 1, sizeof *copy->keys);
    copy->values = reallocarray(NULL, sums->count * sums->words + 1, sizeof *copy->values);
    if (copy->keys == NULL || copy->values == NULL) {
        sums_free(copy);
        return -ENOMEM;
    }
    if (sums->count > 0) {
        memcpy(copy->keys, sums->keys, sums->count * sizeof *copy->keys);
        memcpy(copy->values, sums->values, sums->count * sums->words * sizeof *copy->values);
    }
    return 0;
}

void sums_subtract(struct sums *sums, const struct sums *before)
{
    for (size_t i = 0; i < sums->count; i++) {
        const uint64_t *less = sums_find(before, &sums->keys[i]);
        for (size_t k = 0; less != NULL && k < sums->words; k++) {
            sums->values[i * sums->words + k] -= less[k];
        }
    }
}

void sums_total(const struct sums *sums, uint64_t *total)
{
    memset(total, 0, sums->words * sizeof *total);
    for (size_t i = 0; i < sums->count * sums->words; i++) {
        total[i % sums->words] += sums->values[i];
    }
}

void sums_free(struct sums *sums)
{
    free(sums->keys);
    free(sums->values);
    *sums = (struct sums){0};
}

void sums_name_json(const struct watch *watch, const struct seen_key *key, json_t *object)
{
    struct watch_name name;
    watch_name(watch, key, &name);
    (void)json_object_set_new(object, "pid", json_integer(key->process));
    (void)json_object_set_new(object, "program", json_string(name.program));
    (void)json_object_set_new(object, "segment", json_string(name.segment));
    (void)json_object_set_new(object, "server", json_string(name.server));
}

static void print_quoted(const char *text)
{
    (void)putchar('"');
    for (const char *at = text; *at != '\0'; at++) {
        (void)fputs(*at == '"' ? "\"\"" : (char[]){*at, '\0'}, stdout);
    }
    (void)putchar('"');
}

void sums_name_csv(const struct watch *watch, const struct seen_key *key)
{
    struct watch_name name;
    watch_name(watch, key, &name);
    printf("%u,", key->process);
    print_quoted(name.program);
    (void)putchar(',');
    print_quoted(name.segment);
    (void)putchar(',');
    print_quoted(name.server);
}

json_t *sums_losses_json(const struct watch *watch)
{
    static const char *const names[SEEN_LOSSES] = {"no_room", "no_room_in_map", "events",
                                                   "unreadable", "unseen_beginnings"};
    json_t *object = json_object();
    for (unsigned i = 0; i < SEEN_LOSSES; i++) {
        (void)json_object_set_new(object, names[i], tool_json_number(seen_lost(watch->seen, i)));
    }
    return object;
}
