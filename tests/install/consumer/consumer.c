/* SPDX-License-Identifier: Apache-2.0
 *
 * A stranger's program in C11: the header is the first thing that it includes, so that it must stand alone. Numbers are stored
 * in a segment, the segment is closed and opened again, and the numbers must be there: with a cache smaller than the
 * segment they have been at the server.
 */
#include <dsm/dsm.h>

#include <stdio.h>
#include <stdlib.h>

enum { BYTES = 8 << 20, NUMBERS = BYTES / (int)sizeof(uint64_t) };

static int failed(const char *what, int error)
{
    fprintf(stderr, "consumer: %s: %s (%s)\n", what, dsm_strerror(error), dsm_error()->text);
    return EXIT_FAILURE;
}

static uint64_t number(size_t i)
{
    return (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "consumer";
    dsm *session = NULL;
    dsm_segment *segment = NULL;
    int error = dsm_open(NULL, &session);
    if (error != 0) {
        return failed("open", error);
    }
    error = dsm_segment_create(session, name, BYTES, 0, 0, &segment);
    if (error != 0) {
        return failed("create", error);
    }
    uint64_t *numbers = dsm_segment_base(segment);
    for (size_t i = 0; i < NUMBERS; i++) {
        numbers[i] = number(i);
    }
    error = dsm_segment_close(segment);
    if (error != 0) {
        return failed("close", error);
    }
    error = dsm_segment_open(session, name, DSM_READ_ONLY, &segment);
    if (error != 0) {
        return failed("open again", error);
    }
    numbers = dsm_segment_base(segment);
    for (size_t i = 0; i < NUMBERS; i++) {
        if (numbers[i] != number(i)) {
            fprintf(stderr, "consumer: number %zu is wrong\n", i);
            return EXIT_FAILURE;
        }
    }
    dsm_statistics statistics = {.size = sizeof statistics};
    error = dsm_stats(session, &statistics);
    if (error != 0 || statistics.read_requests == 0) {
        return failed("nothing was read from the server", error);
    }
    error = dsm_segment_close(segment);
    error = error == 0 ? dsm_segment_delete(session, name) : error;
    error = error == 0 ? dsm_close(session) : error;
    if (error != 0) {
        return failed("end", error);
    }
    printf("verified\n");
    return EXIT_SUCCESS;
}
