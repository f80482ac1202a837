// SPDX-License-Identifier: Apache-2.0
//
// `dsmperf apps`: whole programs with less and less local memory. Each is run in plain memory without a limit (all local), then on remote
// memory with a cache of some share of its data, then in plain memory again in a memory control group that leaves it the
// same share, so that the kernel swaps the rest to a file on the local disk. They take turns, in every round. What is compared is
// the time of a program's work, without making and verifying its data, as a slow-down against all-local of the same round.
//
// Both have the same local memory in all. A cache's limit is for pages of data alone; a group's is for all that a process has, and the kernel for
// it. So the program on remote memory runs in a group, too, without a limit, and the most that it had there (the cache, libdsm's own
// memory, page tables) is the limit of the one that swaps. What libdsm needs beside the cache hardly grows with it: with little
// data it is a good part of the whole, which then is the kernel's to use for data.
//
// With hints both sides hear what the program knows: the library by dsm_swap_in() and dsm_age(), the kernel by madvise(). All-local is
// without: there is nothing to be gained there, and the figures are of one scale with those without hints.
//
// The programs verify their results in each run; one that does not is an error, but where the kernel killed it for want of memory: that
// share then has no figure, and the row says why.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/dsmperf_plot.h"
#include "tools/dsmperf_run.h"
#include "tools/dsmperf_target.h"

enum { APPS = 5, SHARES_MOST = 8, DATA_PART = 4, TEXTS = 4 };
static const struct {
    const char *name;
    const char *size, *amount; // options: of its data, and of its work
    bool gives_hints;
} programs[APPS] = {
    {"gups", "--table", "--updates", false}, {"stream", "--array", "--rounds", true},
    {"bfs", "--scale", "--roots", false},    {"pagerank", "--scale", "--iterations", true},
    {"sort", "--array", "--threads", false},
};

struct share {
    double percent;
    struct perf_samples remote, swapped; // slow-downs, one of each round
    struct perf_samples memory;          // MiB that the remote one had, and the swapped one may
    char why_not[128];                   // swapped has none
};
struct app {
    const char *name;
    char path[512], texts[TEXTS][32];
    const char *arguments[PERF_RUN_ARGUMENTS - 5];
    struct perf_samples local; // seconds
    struct share shares[SHARES_MOST];
};
struct apps_run {
    const struct perf_settings *settings;
    struct failure *failure;
    struct perf_target server; // without a session
    struct perf_swap *swap;    // NULL: none, and why
    struct failure no_swap;
    size_t share_count;
    uint64_t runs, runs_done; // of programs, for the progress
    struct app apps[APPS];    // name NULL: not asked for
};

// ---- what is asked for ----

static unsigned scale_of(uint64_t bytes, uint64_t vertex_bytes)
{
    unsigned scale = 4;
    while (vertex_bytes << (scale + 1) <= bytes) {
        scale++;
    }
    return scale;
}

// Options that give a program data of about so many bytes, and an amount of work that fits.
static void set_arguments(struct app *app, size_t which, uint64_t bytes)
{
    enum { BFS_VERTEX = 8 + 2 * 16 * 4 + 4 + 4, RANK_VERTEX = 8 + 16 * 4 + 4 + 2 * 8 };
    const unsigned long long values[APPS] = {1ULL << scale_of(bytes, 1), bytes / 3,
                                             scale_of(bytes, BFS_VERTEX),
                                             scale_of(bytes, RANK_VERTEX), bytes / 2};
    const unsigned long long amounts[APPS] = {2 * values[0] / PERF_PAGE_BYTES, 2, 1, 2, 2};
    (void)snprintf(app->texts[0], sizeof(app->texts[0]), "%llu", values[which]);
    (void)snprintf(app->texts[1], sizeof(app->texts[1]), "%llu", amounts[which]);
    const char *const all[] = {
        app->path,    "--json", programs[which].size, app->texts[0], programs[which].amount,
        app->texts[1]};
    memcpy(app->arguments, all, sizeof(all));
}

static bool listed(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at != NULL;
         at = strchr(at, ',') == NULL ? NULL : strchr(at, ',') + 1) {
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

static int choose_apps(struct apps_run *run)
{
    const struct perf_settings *settings = run->settings;
    int result = 0;
    size_t chosen = 0;
    for (size_t i = 0; i < APPS && result == 0; i++) {
        struct app *app = &run->apps[i];
        const char *name = programs[i].name;
        if ((settings->apps != NULL && !listed(settings->apps, name)) ||
            (settings->hints && !programs[i].gives_hints)) {
            continue;
        }
        app->name = name;
        chosen++;
        if (settings->programs != NULL) {
            (void)snprintf(app->path, sizeof(app->path), "%s/%s", settings->programs, name);
        } else {
            result = perf_target_beside(name, app->path, sizeof(app->path));
        }
        set_arguments(app, i, settings->bytes / DATA_PART);
    }
    if (result == 0 && chosen == 0) {
        return failure_set(run->failure, -EINVAL, "--apps names no program%s.",
                           settings->hints ? " that gives hints" : "");
    }
    return result == 0 ? 0 : failure_set(run->failure, result, "Give --programs DIRECTORY.");
}

static int choose_shares(struct apps_run *run)
{
    const char *at = run->settings->local != NULL ? run->settings->local : "100,75,50,25,12.5";
    while (run->share_count < SHARES_MOST) {
        char *end;
        double percent = strtod(at, &end);
        if (end == at || percent < 1 || percent > 100 || (*end != ',' && *end != '\0')) {
            break;
        }
        for (size_t i = 0; i < APPS; i++) {
            run->apps[i].shares[run->share_count].percent = percent;
        }
        run->share_count++;
        if (*end == '\0') {
            return 0;
        }
        at = end + 1;
    }
    return failure_set(run->failure, -EINVAL, "--local must be at most %d percentages, as 50,25.",
                       SHARES_MOST);
}

// ---- runs ----

// The cache is said to plain programs, too: it is how they part what they make, so that all make it alike.
static void add_arguments(struct perf_run *one, const struct app *app, const char *cache,
                          bool plain, bool hints)
{
    size_t n = 0;
    for (; app->arguments[n] != NULL; n++) {
        one->arguments[n] = app->arguments[n];
    }
    one->arguments[n++] = "--cache";
    one->arguments[n++] = cache;
    if (plain) {
        one->arguments[n++] = "--plain";
    }
    if (hints) {
        one->arguments[n++] = "--hints";
    }
}

static void show_progress(struct apps_run *run, const char *name)
{
    char what[64];
    (void)snprintf(what, sizeof(what), "%s: runs of programs", name);
    perf_progress(what, run->runs_done++, run->runs);
}

static void set_cache(char cache[32], const struct perf_run *base, const struct share *share)
{
    (void)snprintf(cache, 32, "%llu",
                   (unsigned long long)((double)base->data_bytes * share->percent / 100));
}

static int run_remote(struct apps_run *run, struct app *app, struct share *share,
                      const struct perf_run *base, uint64_t *peak)
{
    char cache[32];
    struct perf_run one = {.server = run->server.own_server ? &run->server.server : NULL,
                           .swap = run->swap};
    set_cache(cache, base, share);
    add_arguments(&one, app, cache, false, run->settings->hints);
    show_progress(run, app->name);
    int result = run->swap == NULL ? 0 : perf_swap_renew(run->swap, 0);
    if (result == 0) {
        result = perf_run(&one, run->failure);
    } else {
        failure_set(run->failure, result, "No new control group: %s", strerror(-result));
    }
    if (result == 0) {
        result = perf_samples_add(&share->remote, one.seconds / base->seconds);
    }
    if (result == 0 && run->swap != NULL) {
        result = perf_swap_peak(run->swap, peak);
        result = result == 0 ? perf_samples_add(&share->memory, (double)*peak / 0x1p20)
                             : failure_set(run->failure, result, "The group tells no peak: %s",
                                           strerror(-result));
    }
    return result;
}

static int run_swapped(struct apps_run *run, struct app *app, struct share *share,
                       const struct perf_run *base, uint64_t limit)
{
    char cache[32];
    struct failure failure = {.text = ""};
    struct perf_run one = {.swap = run->swap};
    if (run->swap == NULL || share->why_not[0] != '\0') {
        return 0;
    }
    set_cache(cache, base, share);
    add_arguments(&one, app, cache, true, run->settings->hints);
    show_progress(run, app->name);
    int result = perf_swap_renew(run->swap, limit);
    if (result != 0) {
        failure_set(&failure, result, "the group takes no limit: %s", strerror(-result));
    } else {
        result = perf_run(&one, &failure);
    }
    if (result != 0) {
        (void)snprintf(share->why_not, sizeof(share->why_not), "%.127s", failure.text);
        return 0;
    }
    return perf_samples_add(&share->swapped, one.seconds / base->seconds);
}

static int run_app(struct apps_run *run, struct app *app)
{
    struct perf_run base = {.server = NULL};
    add_arguments(&base, app, "1T", true, false);
    show_progress(run, app->name);
    int result = perf_run(&base, run->failure);
    if (result == 0) {
        result = perf_samples_add(&app->local, base.seconds);
    }
    for (size_t i = 0; i < run->share_count && result == 0; i++) {
        uint64_t peak = 0;
        result = run_remote(run, app, &app->shares[i], &base, &peak);
        if (result == 0) {
            result = run_swapped(run, app, &app->shares[i], &base, peak);
        }
    }
    return result;
}

// ---- rows ----

static int report_share(const struct apps_run *run, struct app *app, struct share *share,
                        struct perf_report *report)
{
    struct perf_row row = {.test = "apps",
                           .trap = run->settings->trap_now,
                           .lanes = run->settings->lanes,
                           .waiting = perf_waiting(run->settings),
                           .unit = "1",
                           .limit = perf_percentile(&share->swapped, 50)};
    (void)snprintf(row.metric, sizeof(row.metric), "%s%s, %g %% local", app->name,
                   run->settings->hints ? " with hints" : "", share->percent);
    int result = perf_report_spread(report, row, &share->remote);
    row.limit = (double)NAN;
    row.trap = row.lanes = row.waiting = "-";
    (void)snprintf(row.metric, sizeof(row.metric), "%s%s, swap, %g %% local", app->name,
                   run->settings->hints ? " with hints" : "", share->percent);
    if (result == 0 && run->swap != NULL) {
        char metric[sizeof(row.metric)];
        (void)snprintf(metric, sizeof(metric), "%.100s", row.metric);
        result = share->swapped.count > 0
                     ? perf_report_spread(report, row, &share->swapped)
                     : perf_report_why_not(report, row, metric, share->why_not);
        (void)snprintf(row.metric, sizeof(row.metric), "%s, memory of either, %g %% local",
                       app->name, share->percent);
        row.unit = "MiB";
        result = result == 0 ? perf_report_spread(report, row, &share->memory) : result;
    }
    return result;
}

static int report_app(const struct apps_run *run, struct app *app, struct perf_report *report)
{
    struct perf_row row = {.test = "apps",
                           .trap = "-",
                           .lanes = "-",
                           .waiting = "-",
                           .unit = "s",
                           .limit = (double)NAN};
    (void)snprintf(row.metric, sizeof(row.metric), "%s, all local", app->name);
    int result = perf_report_spread(report, row, &app->local);
    row.unit = "1";
    if (result == 0 && run->swap == NULL) {
        char what[32];
        (void)snprintf(what, sizeof(what), "%s, swap", app->name);
        result = perf_report_why_not(report, row, what, run->no_swap.text);
    }
    for (size_t i = 0; i < run->share_count && result == 0; i++) {
        result = report_share(run, app, &app->shares[i], report);
    }
    return result;
}

static int draw(struct apps_run *run)
{
    struct perf_curve curves[2 * APPS];
    static char texts[APPS][32];
    size_t count = 0;
    for (uint32_t i = 0; i < APPS; i++) {
        struct app *app = &run->apps[i];
        for (int swapped = 0; swapped < 2 && app->name != NULL; swapped++) {
            struct perf_curve curve = {app->name, swapped, i, run->share_count, {0}, {0}};
            for (size_t k = 0; k < run->share_count; k++) {
                struct share *share = &app->shares[k];
                curve.x[k] = share->percent;
                curve.y[k] = perf_percentile(swapped ? &share->swapped : &share->remote, 50);
            }
            (void)snprintf(texts[i], sizeof(texts[i]), "%s, kernel's swap", app->name);
            curve.name = swapped ? texts[i] : app->name;
            if (!swapped || run->swap != NULL) {
                curves[count++] = curve;
            }
        }
    }
    return perf_plot_curves(run->settings, "Programs with less local memory", "% of the data local",
                            "slow-down against all local", curves, count, run->failure);
}

static int run_rounds(struct apps_run *run, struct perf_report *report)
{
    int result = 0;
    for (size_t i = 0; i < APPS; i++) {
        size_t of_share = run->swap != NULL ? 2 : 1;
        run->runs += run->apps[i].name != NULL
                         ? run->settings->rounds * (1 + of_share * run->share_count)
                         : 0;
    }
    for (size_t round = 0; round < run->settings->rounds && result == 0; round++) {
        for (size_t i = 0; i < APPS && result == 0; i++) {
            result = run->apps[i].name != NULL ? run_app(run, &run->apps[i]) : 0;
        }
    }
    for (size_t i = 0; i < APPS && result == 0; i++) {
        result = run->apps[i].name != NULL ? report_app(run, &run->apps[i], report) : 0;
    }
    return result == 0 ? draw(run) : result;
}

static void make_swap(struct apps_run *run)
{
    const char *server = getenv("DSM_SERVER");
    if (!run->server.own_server && server != NULL && strcmp(server, "embedded") == 0) {
        failure_set(&run->no_swap, -EINVAL,
                    "an embedded dsmd (DSM_SERVER) would be in the program's control group, too");
        return;
    }
    (void)perf_swap_create(run->settings, run->settings->bytes, &run->swap, &run->no_swap);
}

int perf_apps(const struct perf_settings *settings, struct perf_worker *worker,
              struct perf_report *report, struct failure *failure)
{
    struct apps_run *run = calloc(1, sizeof(*run));
    (void)worker;
    if (run == NULL) {
        return failure_set(failure, -ENOMEM, "There is not enough memory.");
    }
    run->settings = settings;
    run->failure = failure;
    int result = choose_apps(run);
    if (result == 0) {
        result = choose_shares(run);
    }
    if (result == 0) {
        result = perf_target_server(settings, settings->bytes, &run->server, failure);
    }
    if (result == 0) {
        make_swap(run);
        result = run_rounds(run, report);
        perf_swap_destroy(&run->swap);
        perf_target_close(&run->server);
    }
    for (size_t i = 0; i < APPS; i++) {
        perf_samples_free(&run->apps[i].local);
        for (size_t k = 0; k < SHARES_MOST; k++) {
            perf_samples_free(&run->apps[i].shares[k].remote);
            perf_samples_free(&run->apps[i].shares[k].swapped);
            perf_samples_free(&run->apps[i].shares[k].memory);
        }
    }
    free(run);
    return result;
}
