// SPDX-License-Identifier: Apache-2.0
//
// Where a package index comes from: a file, or what `apt-cache dumpavail` prints. It is read as a stream.
#ifndef TESTS_PROGRAMS_PACKAGE_SOURCE_H
#define TESTS_PROGRAMS_PACKAGE_SOURCE_H

#include <stdio.h>
#include <sys/types.h>

struct package_source {
    FILE *stream;
    const char *file; // NULL: the command
    pid_t pid;        // of the command
};

// file NULL: runs the command. 0 or -errno; says what to do on stderr.
int package_source_open(struct package_source *source, const char *file);
// Reads nothing more. 0, or -EIO, said, when reading or the command failed; a command that is cut short has failed.
int package_source_close(struct package_source *source);

#endif
