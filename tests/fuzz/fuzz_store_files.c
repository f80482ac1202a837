// SPDX-License-Identifier: Apache-2.0
//
// See fuzz_store_files.h. In /dev/shm, as a store of dsmd in memory is; a thread registers with each store that it uses, which
// is why there is one of them at a time.
#include "tests/fuzz/fuzz_store_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

static char directory[64];

void fuzz_each_file(const char *at, void (*act)(const char *path))
{
    DIR *all = opendir(at);
    char path[PATH_BYTES];
    const struct dirent *entry;
    if (all == NULL) {
        return;
    }
    while ((entry = readdir(all)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            (void)snprintf(path, sizeof path, "%s/%s", at, entry->d_name);
            act(path);
        }
    }
    (void)closedir(all);
}

static void remove_tree(const char *path)
{
    if (unlink(path) != 0 && (errno == EISDIR || errno == EPERM)) {
        fuzz_each_file(path, remove_tree);
        (void)rmdir(path);
    }
}

static void remove_own(void)
{
    remove_tree(directory);
}

const char *fuzz_directory(void)
{
    if (directory[0] == '\0') {
        (void)snprintf(directory, sizeof directory, "/dev/shm/dsm-fuzz.%d", (int)getpid());
        (void)atexit(remove_own);
    }
    remove_tree(directory);
    return directory;
}

static struct store *open_store(const char *at, uint64_t capacity_bytes, bool create)
{
    struct failure failure = {""};
    struct store *store = NULL;
    const struct store_options options = {
        .directory = at, .capacity_bytes = capacity_bytes, .threads = 1, .create = create};
    int error = store_open(&options, &store, &failure);
    if ((error != 0) != (failure.text[0] != '\0') || (error == 0) != (store != NULL)) {
        abort();
    }
    if (store != NULL && store_thread_register(store) != 0) {
        abort();
    }
    return store;
}

struct store *fuzz_store_open(const char *at, uint64_t capacity_bytes)
{
    return open_store(at, capacity_bytes, false);
}

struct store *fuzz_store_make(const char *at, uint64_t capacity_bytes)
{
    struct store *store = open_store(at, capacity_bytes, true);
    if (store == NULL) {
        abort();
    }
    return store;
}
