// SPDX-License-Identifier: Apache-2.0
//
// dsmstat hist for programs: the sums themselves, since dsmstat attached, for each process, segment and server, under the
// names of counters.def. And for those who may not attach: the histogram of each program's own statistics page.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/dsmstat_hist.h"
#include "tools/tool_text.h"

_Static_assert((int)STAT_COUNTER_swap_in_failed_to_clean_victims == (int)SEEN_SWAP_IN - 1 &&
                   STAT_COUNTER_faults_failed - STAT_COUNTER_faults_read == SEEN_OUTCOMES - 1,
               "the kernel counts in the order of counters.def");

static json_t *runs_json(const struct seen_hist *hist)
{
    json_t *runs = json_array();
    for (size_t i = 0; i < SEEN_RUNS; i++) {
        if (hist->runs[i] > 0) {
            uint64_t most = UINT64_C(1) << i;
            (void)json_array_append_new(
                runs, json_pack("[I, I]", (json_int_t)most, (json_int_t)hist->runs[i]));
        }
    }
    return runs;
}

static void times_json(json_t *object, const char *name, const struct seen_times *times)
{
    struct stat_latency latency = hist_latency(times);
    (void)json_object_set_new(object, name, stat_latency_json(&latency));
}

static json_t *group_json(const struct watch *watch, const struct seen_key *key,
                          const struct hist_group *group)
{
    json_t *object = json_object();
    json_t *counters = json_object();
    sums_name_json(watch, key, object);
    (void)json_object_set_new(object, "traps", tool_json_number(group->counts.traps));
    for (size_t i = 0; i < SEEN_SWAP_IN; i++) {
        (void)json_object_set_new(counters, stat_counters[i].name,
                                  tool_json_number(group->counts.swap_in[i]));
    }
    for (size_t i = 0; i < SEEN_OUTCOMES; i++) {
        (void)json_object_set_new(counters, stat_counters[STAT_COUNTER_faults_read + i].name,
                                  tool_json_number(group->counts.outcomes[i]));
    }
    (void)json_object_set_new(object, "counters", counters);
    (void)json_object_set_new(object, "run_pages", tool_json_number(group->counts.run_pages));
    (void)json_object_set_new(object, "bytes", tool_json_number(group->counts.bytes));
    (void)json_object_set_new(object, "runs", runs_json(&group->hist));
    times_json(object, "fault_latency", &group->hist.fault);
    times_json(object, "wire_latency", &group->hist.wire);
    times_json(object, "waiting", &group->hist.wait);
    return object;
}

void hist_print_json(const struct watch *watch, const struct hist_sample *sample)
{
    json_t *groups = json_array();
    for (size_t i = 0; i < sample->counts.count; i++) {
        struct hist_group group;
        hist_group_at(sample, i, &group);
        (void)json_array_append_new(groups, group_json(watch, &sample->counts.keys[i], &group));
    }
    json_t *object = json_object();
    (void)json_object_set_new(object, "time", json_real(tool_wall_clock()));
    (void)json_object_set_new(object, "source", json_string("probes"));
    (void)json_object_set_new(object, "seconds", json_real(sample->seconds));
    (void)json_object_set_new(object, "groups", groups);
    (void)json_object_set_new(object, "lost", sums_losses_json(watch));
    (void)tool_json_print(object, false);
}

static const char *const times_names[] = {"fault", "wire", "waiting"};

void hist_csv_heading(void)
{
    (void)fputs("time," SUMS_NAME_CSV ",seconds,traps", stdout);
    for (size_t i = 0; i < SEEN_SWAP_IN; i++) {
        printf(",%s", stat_counters[i].name);
    }
    for (size_t i = 0; i < SEEN_OUTCOMES; i++) {
        printf(",%s", stat_counters[STAT_COUNTER_faults_read + i].name);
    }
    (void)fputs(",run_pages,bytes", stdout);
    for (size_t i = 0; i < sizeof times_names / sizeof times_names[0]; i++) {
        for (size_t k = 0; k < STAT_PERCENTS; k++) {
            printf(",%s_%s", times_names[i], stat_percents[k].name);
        }
    }
    (void)putchar('\n');
}

static void print_percents(const struct seen_times *times)
{
    struct stat_latency latency = hist_latency(times);
    for (size_t k = 0; k < STAT_PERCENTS; k++) {
        printf(",%" PRIu64, latency_percentile(latency.buckets, stat_percents[k].percent));
    }
}

void hist_print_csv(const struct watch *watch, const struct hist_sample *sample)
{
    for (size_t i = 0; i < sample->counts.count; i++) {
        struct hist_group group;
        hist_group_at(sample, i, &group);
        printf("%.3f,", tool_wall_clock());
        sums_name_csv(watch, &sample->counts.keys[i]);
        printf(",%.3f,%llu", sample->seconds, group.counts.traps);
        for (size_t k = 0; k < SEEN_SWAP_IN; k++) {
            printf(",%llu", group.counts.swap_in[k]);
        }
        for (size_t k = 0; k < SEEN_OUTCOMES; k++) {
            printf(",%llu", group.counts.outcomes[k]);
        }
        printf(",%llu,%llu", group.counts.run_pages, group.counts.bytes);
        print_percents(&group.hist.fault);
        print_percents(&group.hist.wire);
        print_percents(&group.hist.wait);
        (void)putchar('\n');
    }
}

// ---- without rights ----

static void draw_page(const struct stat_client *client)
{
    struct seen_times times;
    memcpy(&times, &client->latency_now, sizeof times);
    printf("\n%s, process %ld, server %s", client->program, (long)client->pid, client->server);
    hist_draw_times(", since its session was opened: faults that waited for a page", &times);
}

int hist_of_pages(const struct stat_options *options, const struct failure *reason)
{
    struct stat_options once = *options;
    struct stat_sample sample = {0};
    struct failure failure;
    (void)fprintf(stderr,
                  "dsmstat: %s; it would show faults by segment and server, pages per run, and "
                  "the shares of wire and waiting. Here is what programs tell by themselves.\n",
                  reason->text);
    once.interval_s = 0;
    once.count = 1;
    int result = stat_clients(&once);
    if (result == DSMSTAT_DONE && options->format == STAT_TEXT &&
        stat_sample_take(&sample, options->pid, &failure) == 0) {
        for (const struct stat_client *client = sample.clients; client != NULL;
             client = client->next) {
            draw_page(client);
        }
    }
    stat_sample_end(&sample);
    return result;
}
