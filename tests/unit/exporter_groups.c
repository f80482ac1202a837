// SPDX-License-Identifier: Apache-2.0
//
// Groups of processes in dsm_exporter: what is counted when processes come, go, and were there before; and how many groups
// there can be.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/dsm_exporter.h"

enum { MANY = 64, SUM = STAT_COUNTER_swap_in_calls, LEVEL = STAT_COUNTER_resident_bytes };

static struct stat_client make_client(pid_t pid, uid_t user, const char *program)
{
    struct stat_client client = {.pid = pid, .user = user, .fresh = true, .cache_bytes = 1000};
    (void)snprintf(client.program, sizeof client.program, "%s", program);
    return client;
}

// The client's page as the next look finds it.
static void advance(struct stat_client *client, uint64_t sum, uint64_t level, bool ended)
{
    memcpy(client->before, client->now, sizeof client->before);
    client->latency_before = client->latency_now;
    client->now[SUM] = sum;
    client->now[LEVEL] = level;
    client->latency_now.buckets[3] = sum;
    client->latency_now.total_ns = sum * 10;
    client->ended = ended;
}

static void look(struct exporter_groups *groups, struct stat_client *clients, uint64_t now_ns,
                 bool first)
{
    const struct stat_sample sample = {.clients = clients, .now_ns = now_ns};
    exporter_count(groups, &sample, first);
    for (; clients != NULL; clients = clients->next) {
        clients->fresh = false;
    }
}

static struct exporter_group *group_of(const struct exporter_groups *groups, const char *program)
{
    struct exporter_group *group = groups->first;
    while (group != NULL && strcmp(group->program, program) != 0) {
        group = group->next;
    }
    assert_non_null(group);
    return group;
}

static void come_and_go(void **state)
{
    struct exporter_groups groups = {.limit = 16};
    struct stat_client old = make_client(1, 100, "p");
    struct stat_client new = make_client(2, 100, "p");
    (void)state;
    advance(&old, 50, 7, false);
    look(&groups, &old, 1, true);
    const struct exporter_group *group = group_of(&groups, "p");
    assert_int_equal(group->counters[SUM], 0); // done before anybody looked
    assert_int_equal(group->counters[LEVEL], 7);
    assert_int_equal(group->sessions, 0);

    old.next = &new;
    advance(&old, 60, 8, false);
    advance(&new, 5, 1, false); // and all of it since
    look(&groups, &old, 2, false);
    assert_int_equal(group->counters[SUM], 15);
    assert_int_equal(group->faults[3], 15);
    assert_int_equal(group->fault_ns, 150);
    assert_int_equal(group->counters[LEVEL], 9);
    assert_int_equal(group->processes, 2);
    assert_int_equal(group->sessions, 1);
    assert_int_equal(group->cache_bytes, 2000);

    advance(&old, 61, 8, true); // with what it did to its end
    advance(&new, 5, 2, false);
    look(&groups, &old, 3, false);
    look(&groups, &new, 4, false);
    assert_int_equal(group->counters[LEVEL], 2);
    assert_int_equal(group->processes, 1);
    advance(&new, 4, 2, false); // it says so; it has not gone back
    look(&groups, &new, 5, false);
    assert_int_equal(group->counters[SUM], 16);
    advance(&new, 4, 2, true);
    look(&groups, &new, 5, false);
    look(&groups, NULL, 6, false);
    assert_int_equal(group->counters[SUM], 16);
    assert_int_equal(group->counters[LEVEL], 0);
    assert_int_equal(group->processes, 0);
    assert_int_equal(groups.count, 1);
    exporter_groups_end(&groups);
}

// One user may invent names without end; others have their groups all the same.
static void names_without_end(void **state)
{
    struct exporter_groups groups = {.limit = 16};
    struct stat_client clients[MANY + 1];
    uint64_t sum = 0;
    (void)state;
    for (int i = 0; i <= MANY; i++) {
        char program[16];
        (void)snprintf(program, sizeof program, "p%d", i);
        clients[i] = make_client(i + 1, i == MANY ? 200 : 100, program);
        advance(&clients[i], 1, 0, false);
        clients[i].next = i < MANY ? &clients[i + 1] : NULL;
    }
    look(&groups, clients, 1, false);
    assert_int_equal(groups.count, 5); // 4 of the one, 1 of the other
    assert_int_equal(group_of(&groups, "other")->counters[SUM], MANY - 4);
    assert_string_equal(group_of(&groups, "other")->user_name, "other");
    assert_int_equal(group_of(&groups, "p64")->counters[SUM], 1);
    look(&groups, clients, 2, false);
    for (const struct exporter_group *group = groups.first; group != NULL; group = group->next) {
        sum += group->processes;
    }
    assert_int_equal(sum, MANY + 1);
    exporter_groups_end(&groups);
}

static void by_process(void **state)
{
    struct exporter_groups groups = {.limit = 16, .by_process = true};
    struct stat_client one = make_client(1, 100, "p");
    struct stat_client two = make_client(2, 100, "p");
    const uint64_t second = 1000000000;
    (void)state;
    one.next = &two;
    advance(&one, 3, 0, false);
    advance(&two, 4, 0, true);
    look(&groups, &one, second, false);
    assert_int_equal(groups.count, 2);
    assert_int_equal(groups.first->counters[SUM], 3);
    assert_int_equal(groups.first->next->counters[SUM], 4);
    one.next = NULL;
    look(&groups, &one, 60 * second, false);
    assert_int_equal(groups.count, 2); // it may not have been read yet
    look(&groups, &one, 200 * second, false);
    assert_int_equal(groups.count, 1);
    assert_int_equal(groups.first->pid, 1);
    exporter_groups_end(&groups);
}

// As Prometheus wants them: the unit at the end, and _total behind it.
static void names(void **state)
{
    static const char *const expected[] = {
        "dsm_swap_in_calls_total",
        "dsm_read_bytes_total",
        "dsm_written_bytes_total",
        "dsm_wire_sent_bytes_total",
        "dsm_resident_bytes",
        "dsm_resident_peak_bytes",
        "dsm_migrate_before_bytes_total",
        "dsm_migrate_freeze_seconds_total",
        "dsm_open_pages",
        "dsm_fault_duration_seconds",
        "dsm_sessions_total",
    };
    struct exporter_groups groups = {.limit = 16};
    struct exporter_facts facts = {.looks = 1};
    struct metrics_text text = {0};
    struct stat_client one = make_client(1, 100, "a\"b");
    (void)state;
    advance(&one, 3, 0, false);
    look(&groups, &one, 1, false);
    assert_non_null(groups.first);
    groups.first->counters[STAT_COUNTER_migrate_freeze_ns] = 1500000000;
    exporter_say(&text, &groups, &facts);
    assert_false(text.failed);
    char *copy = strndup(text.bytes, text.used);
    assert_non_null(copy);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        char line[128];
        (void)snprintf(line, sizeof line, "# TYPE %s ", expected[i]);
        if (strstr(copy, line) == NULL) {
            fail_msg("there is no %s", expected[i]);
        }
    }
    const char *freeze = strstr(copy, "\ndsm_migrate_freeze_seconds_total{");
    assert_non_null(freeze);
    assert_memory_equal(strchr(freeze, '}'), "} 1.5\n", 6); // seconds
    assert_non_null(strstr(copy, "dsm_swap_in_calls_total{program=\"a\\\"b\",user=\""));
    free(copy);
    free(text.bytes);
    exporter_groups_end(&groups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(come_and_go),
        cmocka_unit_test(names_without_end),
        cmocka_unit_test(by_process),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
