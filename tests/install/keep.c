// SPDX-License-Identifier: Apache-2.0
//
// keep write|verify NAME: stores 16 MiB of numbers that follow from their place in a segment and ends; a later process
// finds them, whatever became of the server in between. pagecheck cannot ask this: it deletes what it made, and
// what a page must hold is in its own memory.
//
// Exit codes: 0 done or verified, 1 a wrong number, 2 an error.
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <dsm/dsm.h>

enum { KEEP_BYTES = 16 << 20, KEEP_NUMBERS = KEEP_BYTES / (int)sizeof(uint64_t) };
enum { EXIT_DONE = 0, EXIT_WRONG = 1, EXIT_ERROR = 2 };

static uint64_t number(size_t place)
{
    return (place + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static int error_exit(const char *what, int error)
{
    (void)fprintf(stderr, "keep: %s: %s: %s\n", what, dsm_strerror(error), dsm_error()->text);
    return EXIT_ERROR;
}

static void fill(uint64_t *numbers)
{
    for (size_t i = 0; i < KEEP_NUMBERS; i++) {
        numbers[i] = number(i);
    }
}

static int verify(const uint64_t *numbers)
{
    for (size_t i = 0; i < KEEP_NUMBERS; i++) {
        if (numbers[i] != number(i)) {
            (void)fprintf(stderr, "keep: number %zu is %#" PRIx64 ", not %#" PRIx64 "\n", i,
                          numbers[i], number(i));
            return EXIT_WRONG;
        }
    }
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    bool write = argc == 3 && strcmp(argv[1], "write") == 0;
    if (argc != 3 || (!write && strcmp(argv[1], "verify") != 0)) {
        (void)fprintf(stderr, "Usage: keep write|verify NAME\n");
        return EXIT_ERROR;
    }
    dsm *session;
    dsm_segment *segment;
    int error = dsm_open(NULL, &session);
    if (error != 0) {
        return error_exit("no session", error);
    }
    error = write ? dsm_segment_create(session, argv[2], KEEP_BYTES, 0, DSM_EXCLUSIVE, &segment)
                  : dsm_segment_open(session, argv[2], DSM_READ_ONLY, &segment);
    if (error != 0) {
        return error_exit("no segment", error);
    }
    int status = EXIT_DONE;
    if (write) {
        fill(dsm_segment_base(segment));
    } else {
        status = verify(dsm_segment_base(segment));
    }
    error = dsm_close(session);
    if (error != 0) {
        return error_exit("not closed in order", error);
    }
    if (status == EXIT_DONE) {
        (void)printf("%s\n", write ? "written" : "verified");
    }
    return status;
}
