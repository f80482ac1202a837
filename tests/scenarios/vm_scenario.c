// SPDX-License-Identifier: Apache-2.0
//
// vm_scenario FILE...: plays scenarios of virtual memory through the public calls of the library on a real dsmd, and compares
// what was sent, what was counted, and what state the pages are in. The format: tests/README.md.
//
// The server is that of DSM_SERVER, or one that the library starts. Settings that make figures exact are put into the
// environment (scenario_stage.c). After every call the identities of the counters must hold, and at the end every page must
// hold what it should, whatever the scenario asked.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scenarios/scenario.h"

void scenario_say(struct scenario *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s:%u: ", s->file, s->line);
    vprintf(format, arguments); // NOLINT(clang-analyzer-valist.Uninitialized): it is begun above
    printf("\n");
    va_end(arguments);
    s->differs = true;
}

// ---- calls ----

static const struct {
    const char *name;
    int number;
} errors[] = {{"EFAULT", -EFAULT},      {"EROFS", -EROFS},   {"EIO", -EIO},
              {"EBUSY", -EBUSY},        {"ENOMEM", -ENOMEM}, {"EINVAL", -EINVAL},
              {"EOVERFLOW", -EOVERFLOW}};

static int swap_in_flags(struct scenario *s, char **words, int count, unsigned *flags,
                         uint64_t *next)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(words[i], "kill") == 0) {
            *flags |= DSM_KILL;
        } else if (strcmp(words[i], "pin") == 0) {
            *flags |= DSM_PIN;
        } else if (strcmp(words[i], "write") == 0) {
            *flags |= DSM_WRITE;
        } else if (strcmp(words[i], "next") == 0 && i + 1 < count) {
            if (scenario_number(s, words[++i], next) != 0) {
                return -EINVAL;
            }
        } else {
            scenario_say(s, "swap_in knows no \"%s\": kill, pin, write, next PAGE", words[i]);
            return -EINVAL;
        }
    }
    return 0;
}

static int data_state(struct scenario *s, const char *word, dsm_interval interval)
{
    static const char *const names[] = {"none", "undefined", "unchanged", "changed"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(word, names[i]) == 0) {
            s->error = dsm_set_data_state(s->segment, interval, (enum dsm_data)i);
            return 0;
        }
    }
    scenario_say(s, "there is no data state \"%s\"", word);
    return -EINVAL;
}

static int make_call(struct scenario *s, char **words, int count, dsm_interval interval)
{
    const char *name = words[0];
    unsigned flags = 0;
    uint64_t next = DSM_NO_PAGE;
    if (strcmp(name, "swap_in") == 0) {
        if (swap_in_flags(s, words + 3, count - 3, &flags, &next) != 0) {
            return -EINVAL;
        }
        s->error = dsm_swap_in(s->segment, interval, flags, next);
    } else if (strcmp(name, "data") == 0 && count == 4) {
        return data_state(s, words[3], interval);
    } else if (count != 3) {
        return -EINVAL;
    } else if (strcmp(name, "clean") == 0) {
        s->error = dsm_clean(s->segment, interval, NULL);
    } else if (strcmp(name, "unpin") == 0) {
        s->error = dsm_unpin(s->segment, interval);
    } else if (strcmp(name, "age") == 0) {
        s->error = dsm_age(s->segment, interval);
    } else if (strcmp(name, "read_only") == 0) {
        s->error = dsm_make_read_only(s->segment, interval);
    } else if (strcmp(name, "read_write") == 0) {
        s->error = dsm_make_read_write(s->segment, interval);
    } else {
        return -EINVAL;
    }
    return 0;
}

// An error that nobody asked for before the next call.
static void settle_error(struct scenario *s)
{
    if (s->called && s->error != 0) {
        scenario_say(s, "the call before this line failed: %s, page %llu", dsm_strerror(s->error),
                     (unsigned long long)s->failed_page);
    }
    s->called = false;
}

static int do_call(struct scenario *s, char **words, int count)
{
    dsm_interval interval = {0, 0};
    if (s->session == NULL && scenario_open(s) != 0) {
        return -EINVAL;
    }
    settle_error(s);
    if (count < 4 || scenario_number(s, words[2], &interval.page) != 0 ||
        scenario_number(s, words[3], &interval.count) != 0 ||
        make_call(s, words + 1, count - 1, interval) != 0) {
        scenario_say(s, "not a call: swap_in, clean, unpin, age, read_only, read_write PAGE COUNT, "
                        "data PAGE COUNT STATE");
        return -EINVAL;
    }
    s->called = true;
    s->failed_page = s->error != 0 ? dsm_error()->page : DSM_NO_PAGE;
    bool met = (s->error == -EFAULT || s->error == -EROFS) && s->failed_page < s->segment_pages;
    s->swap_in_faults += met && strcmp(words[1], "swap_in") == 0;
    s->clean_faults += met && strcmp(words[1], "clean") == 0;
    return 0;
}

// ---- what is expected ----

static int expect_error(struct scenario *s, char **words, int count)
{
    uint64_t page = DSM_NO_PAGE;
    int error = 0;
    for (size_t i = 0; count == 3 && i < sizeof errors / sizeof *errors; i++) {
        if (strcmp(words[1], errors[i].name) == 0) {
            error = errors[i].number;
        }
    }
    if (error == 0 || scenario_number(s, words[2], &page) != 0) {
        scenario_say(s, "error takes a name such as EIO and a page");
        return -EINVAL;
    }
    if (!s->called || s->error != error || s->failed_page != page) {
        scenario_say(s, "error %s, page %llu", s->error != 0 ? dsm_strerror(s->error) : "none",
                     (unsigned long long)s->failed_page);
    }
    s->error = 0;
    return 0;
}

static int expect_io(struct scenario *s, char **words, int count)
{
    char expected[SCENARIO_IO] = "";
    size_t used = 0;
    for (int i = 1; i < count && used < sizeof expected; i++) {
        int place = (int)strcspn(words[i], "@");
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s%.*s%s%s",
                                 i > 1 ? " " : "", place, words[i],
                                 strchr(words[i], '+') != NULL ? "" : "+1", words[i] + place);
    }
    if (count == 2 && strcmp(words[1], "none") == 0) {
        expected[0] = '\0';
    }
    const char *seen = scenario_wire_seen();
    if (strcmp(seen, expected) != 0) {
        scenario_say(s, "io was: %s", seen[0] != '\0' ? seen : "none");
    }
    return 0;
}

enum { SWAP_IN_FIGURES = 9, CLEAN_FIGURES = 8 };

static void figures_of(struct scenario *s, bool clean, uint64_t *figures)
{
    dsm_statistics now = {.size = sizeof now};
    (void)dsm_stats(s->session, &now);
#define SINCE(name) (now.name - s->before.name)
    const uint64_t swap_in[SWAP_IN_FIGURES] = {
        SINCE(swap_in_calls), SINCE(swap_in_virtual_runs),  SINCE(swap_in_physical_runs),
        SINCE(swap_in_pages), SINCE(swap_in_already_in),    SINCE(swap_in_no_read),
        SINCE(swap_in_reads), SINCE(swap_in_dirty_victims), SINCE(swap_in_failed_to_clean_victims)};
    const uint64_t cleaned[CLEAN_FIGURES] = {SINCE(clean_calls),
                                             SINCE(clean_virtual_runs),
                                             SINCE(clean_physical_runs),
                                             SINCE(clean_pages),
                                             SINCE(clean_writes),
                                             SINCE(clean_cant_writes),
                                             SINCE(clean_check_out_cleans),
                                             SINCE(clean_unneeded_check_out_cleans)};
#undef SINCE
    memcpy(figures, clean ? cleaned : swap_in,
           (clean ? CLEAN_FIGURES : SWAP_IN_FIGURES) * sizeof *figures);
}

static void print_figures(struct scenario *s, bool clean, const uint64_t *f)
{
    if (clean) {
        scenario_say(s, "clean was: %llu %llu %llu | %llu %llu %llu | %llu %llu",
                     (unsigned long long)f[0], (unsigned long long)f[1], (unsigned long long)f[2],
                     (unsigned long long)f[3], (unsigned long long)f[4], (unsigned long long)f[5],
                     (unsigned long long)f[6], (unsigned long long)f[7]);
    } else {
        scenario_say(s, "swap_in was: %llu %llu %llu | %llu %llu %llu %llu | %llu %llu",
                     (unsigned long long)f[0], (unsigned long long)f[1], (unsigned long long)f[2],
                     (unsigned long long)f[3], (unsigned long long)f[4], (unsigned long long)f[5],
                     (unsigned long long)f[6], (unsigned long long)f[7], (unsigned long long)f[8]);
    }
}

static int expect_figures(struct scenario *s, char **words, int count)
{
    uint64_t found[SWAP_IN_FIGURES];
    bool clean = count > 1 && strcmp(words[1], "clean") == 0;
    unsigned figures = clean ? CLEAN_FIGURES : SWAP_IN_FIGURES;
    unsigned n = 0;
    bool same = true;
    figures_of(s, clean, found);
    for (int i = 2; i < count; i++) {
        uint64_t figure = 0;
        if (strcmp(words[i], "|") == 0) {
            continue;
        }
        if (n == figures || scenario_number(s, words[i], &figure) != 0) {
            n = figures + 1;
            break;
        }
        same = found[n++] == figure && same;
    }
    if (count < 2 || (!clean && strcmp(words[1], "swap_in") != 0) || n != figures) {
        scenario_say(s, "expect swap_in takes 3 | 4 | 2 figures, expect clean 3 | 3 | 2");
        return -EINVAL;
    }
    if (!same) {
        print_figures(s, clean, found);
    }
    return 0;
}

static int expect_states(struct scenario *s, char **words, int count)
{
    uint64_t page = 0;
    int at = 1;
    if (strcmp(words[0], "page") == 0) {
        if (count != 3 || scenario_number(s, words[at++], &page) != 0) {
            scenario_say(s, "page takes a page and its state");
            return -EINVAL;
        }
    }
    for (; at < count; at++, page++) {
        if (strchr("OUCDPNRK", words[at][0]) == NULL || words[at][1] != '\0') {
            scenario_say(s, "\"%s\" is not a state: O U C D P N R K", words[at]);
            return -EINVAL;
        }
        char found = scenario_state(s, page);
        if (found != words[at][0]) {
            scenario_say(s, "page %llu is %c, not %c", (unsigned long long)page, found,
                         words[at][0]);
        }
    }
    return 0;
}

static void check_identities(struct scenario *s)
{
    uint64_t in[SWAP_IN_FIGURES];
    uint64_t out[CLEAN_FIGURES];
    figures_of(s, false, in);
    figures_of(s, true, out);
    if (in[3] != in[4] + in[5] + in[6] + s->swap_in_faults) {
        scenario_say(s, "pages are not already in + no read + reads + %llu faults",
                     (unsigned long long)s->swap_in_faults);
        print_figures(s, false, in);
    }
    if (in[2] < in[1] || out[2] < out[1]) {
        scenario_say(s, "fewer physical runs than virtual ones");
    }
    if (out[7] > out[6] || out[3] > out[4] + out[6] - out[7]) {
        scenario_say(s, "more pages cleaned than were checked out");
        print_figures(s, true, out);
    }
}

static int plan_failure(struct scenario *s, char **words, int count)
{
    uint64_t page;
    if (count != 3 || s->session == NULL || scenario_number(s, words[2], &page) != 0 ||
        (strcmp(words[1], "read") != 0 && strcmp(words[1], "write") != 0)) {
        scenario_say(s, "fail read PAGE or fail write PAGE, between calls");
        return -EINVAL;
    }
    scenario_wire_fail(words[1][0] == 'w', page);
    return 0;
}

// ---- a file ----

static const struct {
    const char *word;
    bool before; // the first call
    int (*run)(struct scenario *s, char **words, int count);
} lines[] = {
    {"buffer", true, scenario_buffer},  {"gap", true, scenario_buffer},
    {"segment", true, scenario_buffer}, {"pages", true, scenario_pages},
    {"frames", true, scenario_frames},  {"placement", true, scenario_placement},
    {"call", false, do_call},           {"error", false, expect_error},
    {"io", false, expect_io},           {"expect", false, expect_figures},
    {"state", false, expect_states},    {"page", false, expect_states},
    {"fail", false, plan_failure},
};

static int do_line(struct scenario *s, char *text)
{
    char *words[SCENARIO_WORDS];
    int count = scenario_split(text, words);
    if (count <= 0) {
        return count;
    }
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (strcmp(words[0], lines[i].word) != 0) {
            continue;
        }
        bool open = s->session != NULL || strcmp(words[0], "call") == 0;
        if (lines[i].before == open) {
            scenario_say(s, "%s must stand %s the first call", words[0], open ? "before" : "after");
            return -EINVAL;
        }
        return lines[i].run(s, words, count);
    }
    scenario_say(s, "there is no line \"%s\"", words[0]);
    return -EINVAL;
}

static bool play(const char *path)
{
    static struct scenario scenario;
    struct scenario *s = &scenario;
    *s = (struct scenario){.file = path, .buffer = 256, .gap = 256};
    char text[1024];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        printf("%s: %s\n", path, strerror(errno));
        return false;
    }
    int error = 0;
    while (error == 0 && fgets(text, sizeof text, file) != NULL) {
        s->line++;
        error = do_line(s, text);
        if (error == 0 && s->session != NULL) {
            check_identities(s);
        }
    }
    (void)fclose(file);
    if (error == 0 && s->session == NULL) {
        scenario_say(s, "no call: nothing is tried");
    }
    if (error == 0 && s->session != NULL) {
        settle_error(s);
        scenario_check_contents(s);
    }
    scenario_close(s);
    return error == 0 && !s->differs;
}

int main(int argc, char **argv)
{
    int passed = 0;
    if (argc < 2) {
        fprintf(stderr,
                "vm_scenario FILE...: plays scenarios; their format is in tests/README.md.\n");
        return 2;
    }
    if (getenv("DSM_SERVER") == NULL) {
        (void)setenv("DSM_SERVER", "embedded", 1);
        (void)setenv("DSM_EMBEDDED_SIZE", "64M", 0);
    }
    (void)setenv("DSM_CONFIG", "", 1);
    for (int i = 1; i < argc; i++) {
        bool well = play(argv[i]);
        passed += well;
        printf("%s: %s\n", argv[i], well ? "passed" : "FAILED");
    }
    printf("%d passed, %d failed\n", passed, argc - 1 - passed);
    return passed == argc - 1 ? 0 : 1;
}
