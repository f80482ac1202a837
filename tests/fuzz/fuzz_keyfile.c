// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer: arbitrary bytes as an authorized file, as a private key file, and as one line. They
// go through a memory file, so that the code which opens and checks files is in it too. What loads
// must keep the promises that callers rely on: strings that end, rights that exist, numbers in
// their range.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rpc/keyfile_internal.h"

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_grant(const struct key_grant *grant)
{
    require(memchr(grant->principal, '\0', sizeof grant->principal) != NULL);
    require(memchr(grant->prefix, '\0', sizeof grant->prefix) != NULL);
    require(grant->principal[0] != '\0' && grant->rights != 0 && grant->rights < 32);
    require(grant->connections >= 1 && grant->connections <= LIMIT_CONNECTIONS);
}

static void try_files(const uint8_t *data, size_t bytes)
{
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    require(fd >= 0 && fchmod(fd, 0600) == 0);
    require(write(fd, data, bytes) == (ssize_t)bytes);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct failure failure = {""};
    struct key_grants *grants = NULL;
    if (key_grants_load(path, &grants, &failure) == 0) {
        key_grants_destroy(&grants);
    } else {
        require(grants == NULL && failure.text[0] != '\0');
    }
    struct key_identity *identity = NULL;
    if (keyfile_load(path, &identity, &failure) == 0) {
        key_identity_destroy(&identity);
    }
    (void)close(fd);
}

static void try_line(const uint8_t *data, size_t bytes)
{
    struct key_grant grant;
    struct failure failure = {""};
    bool empty = true;
    if (keyfile_grant_parse((const char *)data, bytes, &grant, &empty, &failure) == 0 && !empty) {
        check_grant(&grant);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    require(noise_init() == 0);
    try_files(data, bytes);
    try_line(data, bytes);
    return 0;
}
