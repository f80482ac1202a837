// SPDX-License-Identifier: Apache-2.0
//
// messages BYTES...: opens a session by the environment, then creates a segment of each size, until one of these fails; prints
// the name of the error and the sentence that a user would see. Exit code 0: nothing failed; 3: something did.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dsm/dsm.h>

enum { MESSAGES_FAILED = 3 };

static int told(int error)
{
    printf("%s: %s\n", strerrorname_np(-error), dsm_error()->text);
    return MESSAGES_FAILED;
}

int main(int argc, char **argv)
{
    dsm *session;
    int error = dsm_open(NULL, &session);
    if (error != 0) {
        return told(error);
    }
    for (int i = 1; i < argc && error == 0; i++) {
        char name[32];
        dsm_segment *segment;
        (void)snprintf(name, sizeof name, "part-%d-%d", (int)getpid(), i);
        error = dsm_segment_create(session, name, strtoull(argv[i], NULL, 10), 0, 0, &segment);
    }
    int result = error != 0 ? told(error) : EXIT_SUCCESS;
    (void)dsm_close(session);
    return result;
}
