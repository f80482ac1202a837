// SPDX-License-Identifier: Apache-2.0
//
// Takes memory by dsm_alloc(), says "ready", and ends without a word, or waits to be killed. For alloc_remote.sh.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <dsm/dsm.h>

int main(int argc, char **argv)
{
    char *small = dsm_alloc(1 << 20);
    char *large = dsm_alloc(100 << 20);
    if (small == NULL || large == NULL) {
        (void)printf("%s\n", dsm_error()->text);
        return 1;
    }
    (void)memset(small, 1, 1 << 20);
    (void)memset(large, 2, 8 << 20);
    (void)printf("ready\n");
    (void)fflush(stdout);
    if (argc > 1 && strcmp(argv[1], "wait") == 0) {
        for (;;) {
            (void)pause();
        }
    }
    return small[4096] == 1 && large[4096] == 2 ? 0 : 1;
}
