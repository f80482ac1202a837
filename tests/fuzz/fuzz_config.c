// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer: arbitrary bytes as a configuration file of both ends. What is taken must be in the range that its row says
// and lead back to a line of the file; what is refused says why, with a place.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdsm/settings.h"
#include "server/config.h"

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_view(const struct setting_view *view, const char *path)
{
    require(view->key[0] != '\0' && memchr(view->value, '\0', sizeof view->value) != NULL);
    bool from_file = strncmp(view->source, path, strlen(path)) == 0;
    require(from_file || strcmp(view->value, view->initial) == 0 ||
            strcmp(view->source, "option") == 0 || strcmp(view->initial, "auto") == 0);
}

static void try_server(char *path)
{
    struct config config;
    struct setting_view view;
    struct failure failure = {""};
    char *arguments[] = {"dsmd", "--config", path, NULL};
    if (config_read(&config, 3, arguments, &failure) != 0) {
        require(strncmp(failure.text, path, strlen(path)) == 0);
        return;
    }
    require(config.threads <= 256 && config.grpc_threads >= 1 && config.lease_ms >= 100);
    require(config.listen.count <= CONFIG_LIST_MAX && !config.check);
    for (size_t i = 0; config_view(&config, i, &view); i++) {
        check_view(&view, path);
    }
    config_clear(&config);
}

static void try_client(const char *path)
{
    static struct settings settings;
    struct setting_view view;
    struct failure failure = {""};
    require(setenv("DSM_CONFIG", path, 1) == 0);
    if (settings_read(&settings, &failure) != 0) {
        require(strncmp(failure.text, path, strlen(path)) == 0);
        return;
    }
    require(settings.cache_bytes > 0 && settings.fault_timeout_ms <= INT64_MAX / 1000000);
    for (size_t i = 0; settings_view(&settings, i, &view); i++) {
        check_view(&view, path);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    require(fd >= 0 && fchmod(fd, 0600) == 0);
    require(write(fd, data, bytes) == (ssize_t)bytes);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    try_server(path);
    try_client(path);
    (void)close(fd);
    return 0;
}
