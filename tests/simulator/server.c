// SPDX-License-Identifier: Apache-2.0
//
// The server of a simulated run: the product's service, catalog and store, in this process. To kill it is to forget it: what it
// had in memory is gone, its files stay as they are, and only its descriptors are closed, since the store's lock hangs on
// one of them. Between two requests, that is: what a kill within one leaves behind is unit.store_crash's business.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/clock.h"
#include "tests/simulator/network.h"
#include "tests/simulator/virtual_time.h"

enum { CAPACITY_BYTES = 32 << 20, PATH_BYTES = 512 };

struct sim_server sim_server;
const uint8_t sim_key[NOISE_KEY_BYTES] = {1};

// ---- allocations that fail ----

static bool at_work;

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

static bool fails(void)
{
    bool now = at_work && network_plan.no_memory != 0 && vt_chance(network_plan.no_memory);
    network_totals.no_memory += now;
    return now;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __real_calloc(count, bytes);
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

void server_works(bool works)
{
    at_work = works;
}

// ---- its life ----

static void woken(void *context)
{
    (void)context;
}

static void tick(void *context)
{
    (void)context;
    if (sim_server.service != NULL) {
        service_expire(sim_server.service, clock_now_ms());
    }
    vt_at(vt_now() + 1000LL * VT_MS, tick, NULL);
}

void server_start(void)
{
    vt_at(vt_now() + 1000LL * VT_MS, tick, NULL);
    server_up();
}

void server_up(void)
{
    struct failure failure = {""};
    const struct store_options options = {
        .directory = sim_server.directory,
        .capacity_bytes = CAPACITY_BYTES,
        .threads = 1,
        .create = true,
    };
    if (store_open(&options, &sim_server.store, &failure) != 0) {
        vt_fail("the store does not open: %s", failure.text);
    }
    struct key_grant grant = {
        .principal = "simulated",
        .quota_bytes = UINT64_MAX,
        .rights = KEY_RIGHT_CREATE | KEY_RIGHT_READ | KEY_RIGHT_WRITE,
        .connections = LIMIT_CONNECTIONS_PER_KEY,
    };
    memcpy(grant.public_key, sim_key, sizeof grant.public_key);
    struct key_grants *grants = NULL;
    const struct service_options service = {
        .store = sim_server.store,
        .lease_ms = LIMIT_LEASE_MS,
        .server_name = "simulated",
        .wake = woken,
    };
    if (key_grants_create(&grant, &grants) != 0 ||
        service_create(&service, &grants, &sim_server.service) != 0) {
        vt_fail("the service does not start");
    }
    sim_server.life++;
    vt_note("server up, life %u", sim_server.life);
}

// Descriptors of files in the store's directory.
static void close_descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    char path[PATH_BYTES];
    const struct dirent *entry;
    if (all == NULL) {
        vt_fail("/proc/self/fd cannot be read");
    }
    while ((entry = readdir(all)) != NULL) {
        ssize_t n = readlinkat(dirfd(all), entry->d_name, path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
        if (strncmp(path, sim_server.directory, strlen(sim_server.directory)) == 0) {
            (void)close((int)strtol(entry->d_name, NULL, 10));
        }
    }
    (void)closedir(all);
}

void server_kill(void)
{
    vt_note("server killed");
    sim_server.service = NULL;
    sim_server.store = NULL;
    network_server_gone();
    close_descriptors();
}

void server_stop(void)
{
    vt_note("server stops");
    struct service *service = sim_server.service;
    service_drain(service);
    sim_server.service = NULL;
    network_server_gone();
    service_destroy(&service);
    if (store_close(&sim_server.store) != 0) {
        vt_fail("the store does not close");
    }
}

static void each_file(const char *directory, void (*act)(const char *path, const char *name))
{
    DIR *all = opendir(directory);
    char path[PATH_BYTES];
    const struct dirent *entry;
    while (all != NULL && (entry = readdir(all)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        act(path, entry->d_name);
    }
    if (all != NULL) {
        (void)closedir(all);
    }
}

static void remove_tree(const char *path, const char *name)
{
    (void)name;
    if (unlink(path) != 0 && (errno == EISDIR || errno == EPERM)) {
        each_file(path, remove_tree);
        (void)rmdir(path);
    }
}

void server_remove(void)
{
    char copy[sizeof sim_server.directory + 8];
    (void)snprintf(copy, sizeof copy, "%s.copy", sim_server.directory);
    remove_tree(sim_server.directory, "");
    remove_tree(copy, "");
}

void server_replace(void)
{
    vt_note("its store is replaced by an empty one");
    remove_tree(sim_server.directory, "");
}

static void run_command(const char *format)
{
    char command[PATH_BYTES];
    (void)snprintf(command, sizeof command, format, sim_server.directory, sim_server.directory,
                   sim_server.directory, sim_server.directory);
    if (system(command) != 0) { // NOLINT(cert-env33-c): of this test's own directory
        vt_fail("%s", command);
    }
}

void server_keep_copy(void)
{
    vt_note("a copy of the store is kept");
    run_command("rm -rf %s.copy && cp -a --sparse=always %s %s.copy");
}

void server_restore_copy(void)
{
    vt_note("the store is restored from the copy");
    run_command("rm -rf %s && cp -a --sparse=always %s.copy %s");
}

void server_audit(void)
{
    struct failure failure = {""};
    if (store_check(sim_server.store, &failure) != 0) {
        vt_fail("the store is not sound: %s", failure.text);
    }
}
