// SPDX-License-Identifier: Apache-2.0
//
// dsmstat why: what a fault's time consists of. The kernel keeps, for each bucket of the whole time, the sums of the parts of those
// faults whose whole lies there. So the parts of a usual fault (around the median) and of a slow one (around 99 of 100) can be shown
// as they belong together: they add up to the whole, which the medians of single parts would not.
//
// The whole begins with the page fault, as the kernel saw it, and ends when the handler is done. What is shown as "ready" lies across
// the parts: time in which the thread could have run.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/dsmstat_why.h"
#include "tools/tool_text.h"

enum { NAME = 10, TIME = 8, SHARE = 6 };

struct state {
    struct sums why, counts; // of the sample before
    double seconds;
};
// Of 1000 faults in order of their whole time, those from `from` to `to`.
static const struct band {
    const char *title, *name;
    double from, to;
} bands[] = {
    {"AT P50", "at_p50", 400, 600}, {"AT P99", "at_p99", 980, 999}, {"MEAN", "mean", 0, 1000}};
enum { BANDS = sizeof bands / sizeof bands[0], MEAN = BANDS - 1 };

// ---- sums ----

static void add(struct seen_split *to, const struct seen_split *what)
{
    to->count += what->count;
    to->whole_ns += what->whole_ns;
    to->ready_ns += what->ready_ns;
    for (size_t i = 0; i < SEEN_PARTS; i++) {
        to->parts_ns[i] += what->parts_ns[i];
    }
}

// A bucket is in the band with all of its faults, so a band has a fault as soon as there is any.
static void take_band(const struct seen_why *why, const struct band *band, struct seen_split *sums)
{
    uint64_t count = 0, before = 0;
    memset(sums, 0, sizeof *sums);
    for (size_t i = 0; i < SEEN_BUCKETS; i++) {
        count += why->split[i].count;
    }
    double from = (double)count * band->from / 1000, to = (double)count * band->to / 1000;
    for (size_t i = 0; i < SEEN_BUCKETS; i++) {
        uint64_t after = before + why->split[i].count;
        if (after > before && (double)after > from && (double)before < to) {
            add(sums, &why->split[i]);
        }
        before = after;
    }
}

static uint64_t mean(uint64_t sum, uint64_t count)
{
    return count > 0 ? sum / count : 0;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

static double pages_per_run(const struct sums *counts)
{
    struct seen_counts total;
    sums_total(counts, (uint64_t *)(void *)&total);
    uint64_t runs = total.swap_in[STAT_COUNTER_swap_in_virtual_runs];
    return runs > 0 ? (double)total.run_pages / (double)runs : 0;
}

static void advise(const struct watch *watch, const struct seen_why *why, const struct sums *counts,
                   struct why_advice *advice)
{
    struct why_facts facts = {.pages_per_run = pages_per_run(counts),
                              .comes_again = watch_comes_again(watch)};
    take_band(why, &bands[MEAN], &facts.faults);
    why_advise(&facts, advice);
}

// ---- for people ----

static void print_line(const char *title, const uint64_t *values, double part_share)
{
    unsigned width = draw_width();
    unsigned used = NAME + BANDS * (TIME + 1) + SHARE + 3;
    printf("%-*s", NAME, title);
    for (size_t i = 0; i < BANDS; i++) {
        char text[16];
        printf(" %*s", TIME, stat_time_text(values[i], text));
    }
    printf(" %*.0f%% ", SHARE - 2, 100 * part_share);
    draw_bar(part_share, width > used + 4 ? width - used : 4);
    (void)putchar('\n');
}

static void print_parts(const struct seen_split sums[BANDS])
{
    uint64_t values[BANDS];
    printf("%-*s", NAME, "PART");
    for (size_t i = 0; i < BANDS; i++) {
        printf(" %*s", TIME, bands[i].title);
    }
    printf(" %*s\n", SHARE - 1, "SHARE");
    for (size_t part = 0; part < SEEN_PARTS; part++) {
        for (size_t i = 0; i < BANDS; i++) {
            values[i] = mean(sums[i].parts_ns[part], sums[i].count);
        }
        print_line(why_parts[part].title, values,
                   share(sums[MEAN].parts_ns[part], sums[MEAN].whole_ns));
    }
    for (size_t i = 0; i < BANDS; i++) {
        values[i] = mean(sums[i].whole_ns, sums[i].count);
    }
    print_line("whole", values, sums[MEAN].count > 0 ? 1 : 0);
    for (size_t i = 0; i < BANDS; i++) {
        values[i] = mean(sums[i].ready_ns, sums[i].count);
    }
    print_line(" ready", values, share(sums[MEAN].ready_ns, sums[MEAN].whole_ns));
}

static void print_text(const struct watch *watch, const struct seen_why *why,
                       const struct sums *counts, double seconds)
{
    struct seen_split sums[BANDS];
    struct seen_counts total;
    struct why_advice advice;
    for (size_t i = 0; i < BANDS; i++) {
        take_band(why, &bands[i], &sums[i]);
    }
    sums_total(counts, (uint64_t *)(void *)&total);
    printf("%.1f s: %llu faults that waited for a page, %llu that did not\n", seconds,
           sums[MEAN].count, total.outcomes[2] + total.outcomes[3]);
    if (sums[MEAN].count > 0) {
        print_parts(sums);
        advise(watch, why, counts, &advice);
        draw_text(advice.sentence);
    }
    (void)putchar('\n');
}

// ---- for programs ----

static json_t *split_json(const struct seen_split *sums)
{
    json_t *object = json_object();
    (void)json_object_set_new(object, "faults", tool_json_number(sums->count));
    (void)json_object_set_new(object, "whole_ns",
                              tool_json_number(mean(sums->whole_ns, sums->count)));
    (void)json_object_set_new(object, "ready_ns",
                              tool_json_number(mean(sums->ready_ns, sums->count)));
    for (size_t i = 0; i < SEEN_PARTS; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%s_ns", why_parts[i].name);
        (void)json_object_set_new(object, name,
                                  tool_json_number(mean(sums->parts_ns[i], sums->count)));
    }
    return object;
}

static void bands_json(json_t *object, const struct seen_why *why)
{
    for (size_t i = 0; i < BANDS; i++) {
        struct seen_split sums;
        take_band(why, &bands[i], &sums);
        (void)json_object_set_new(object, bands[i].name, split_json(&sums));
    }
}

static void print_json(const struct watch *watch, const struct sums *rows,
                       const struct seen_why *total, const struct sums *counts, double seconds)
{
    struct why_advice advice;
    json_t *object = json_object();
    json_t *groups = json_array();
    for (size_t i = 0; i < rows->count; i++) {
        struct seen_why why;
        json_t *group = json_object();
        memcpy(&why, rows->values + i * rows->words, sizeof why);
        sums_name_json(watch, &rows->keys[i], group);
        bands_json(group, &why);
        (void)json_array_append_new(groups, group);
    }
    advise(watch, total, counts, &advice);
    (void)json_object_set_new(object, "time", json_real(tool_wall_clock()));
    (void)json_object_set_new(object, "seconds", json_real(seconds));
    bands_json(object, total);
    (void)json_object_set_new(object, "part", json_string(why_parts[advice.part].name));
    (void)json_object_set_new(object, "verdict", json_string(advice.verdict));
    (void)json_object_set_new(object, "advice", json_string(advice.sentence));
    (void)json_object_set_new(object, "groups", groups);
    (void)json_object_set_new(object, "lost", sums_losses_json(watch));
    (void)tool_json_print(object, false);
}

static void csv_heading(void)
{
    (void)fputs("time,seconds,part,verdict", stdout);
    for (size_t i = 0; i < BANDS; i++) {
        printf(",%s_faults,%s_whole_ns,%s_ready_ns", bands[i].name, bands[i].name, bands[i].name);
        for (size_t k = 0; k < SEEN_PARTS; k++) {
            printf(",%s_%s_ns", bands[i].name, why_parts[k].name);
        }
    }
    (void)putchar('\n');
}

static void print_csv(const struct watch *watch, const struct seen_why *total,
                      const struct sums *counts, double seconds)
{
    struct why_advice advice;
    advise(watch, total, counts, &advice);
    printf("%.3f,%.3f,%s,%s", tool_wall_clock(), seconds, why_parts[advice.part].name,
           advice.verdict);
    for (size_t i = 0; i < BANDS; i++) {
        struct seen_split sums;
        take_band(total, &bands[i], &sums);
        printf(",%llu,%" PRIu64 ",%" PRIu64, sums.count, mean(sums.whole_ns, sums.count),
               mean(sums.ready_ns, sums.count));
        for (size_t k = 0; k < SEEN_PARTS; k++) {
            printf(",%" PRIu64, mean(sums.parts_ns[k], sums.count));
        }
    }
    (void)putchar('\n');
}

// ---- samples ----

static int show(struct watch *watch, void *context, struct failure *failure)
{
    struct state *state = context;
    struct state now = {.seconds = (double)(stat_now_ns() - watch->since_ns) / 1e9};
    struct state recent = {.seconds = now.seconds - state->seconds};
    struct seen_why total;
    int error = sums_read(watch, SUMS_WHY, &now.why, failure);
    error = error == 0 ? sums_read(watch, SUMS_COUNTS, &now.counts, failure) : error;
    error = error == 0 ? sums_copy(&now.why, &recent.why) : error;
    error = error == 0 ? sums_copy(&now.counts, &recent.counts) : error;
    if (error == 0) {
        sums_subtract(&recent.why, &state->why);
        sums_subtract(&recent.counts, &state->counts);
        sums_total(&recent.why, (uint64_t *)(void *)&total);
        switch (watch->options->format) {
        case STAT_JSON:
            print_json(watch, &recent.why, &total, &recent.counts, recent.seconds);
            break;
        case STAT_CSV:
            print_csv(watch, &total, &recent.counts, recent.seconds);
            break;
        default:
            print_text(watch, &total, &recent.counts, recent.seconds);
        }
    }
    sums_free(&recent.why);
    sums_free(&recent.counts);
    sums_free(&state->why);
    sums_free(&state->counts);
    *state = now;
    return error;
}

int watch_why(const struct stat_options *options)
{
    struct state state = {0};
    struct failure failure;
    const struct watch_view view = {.wanted = SEEN_WHY,
                                    .begin = options->format == STAT_CSV ? csv_heading : NULL,
                                    .show = show,
                                    .state = &state};
    int error = watch_run(options, &view, &failure);
    sums_free(&state.why);
    sums_free(&state.counts);
    if (error == -EPERM || error == -EOPNOTSUPP) {
        return watch_refused(options, &failure, "what a fault's time consists of");
    }
    return watch_result(error, &failure);
}
