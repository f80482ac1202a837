// SPDX-License-Identifier: Apache-2.0
//
// A store of this process in memory, made anew for each input.
#ifndef TESTS_FUZZ_STORE_FILES_H
#define TESTS_FUZZ_STORE_FILES_H

#include "server/store/store.h"

const char *fuzz_directory(void); // emptied at each call; removed at exit
struct store *fuzz_store_make(const char *directory, uint64_t capacity_bytes);
// An existing one; NULL when it is refused, which must be said in words.
struct store *fuzz_store_open(const char *directory, uint64_t capacity_bytes);
void fuzz_each_file(const char *directory, void (*act)(const char *path));

#endif
