// SPDX-License-Identifier: Apache-2.0
//
// capsule_make KEY.pub FILE [EXPIRES_MS]: writes a capsule for that key, for tests of what shows and opens capsules.
// capsule_make --seeds DIRECTORY: bodies and whole capsules, each behind the byte by which fuzz_capsule chooses.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/capsule_rig.h"

static int write_capsule(const char *key_path, const char *path, const char *expires)
{
    char text[KEYFILE_TEXT_BYTES] = "";
    uint8_t key[NOISE_KEY_BYTES];
    FILE *file = fopen(key_path, "re");
    if (file == NULL || fgets(text, sizeof text, file) == NULL || keyfile_decode(text, key) != 0) {
        return 1;
    }
    (void)fclose(file);
    struct capsule *capsule = capsule_sample(key);
    struct failure failure = {""};
    struct capsule_descriptor descriptor = {
        open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), INT64_MAX};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    if (expires != NULL) {
        capsule->facts.expires_ms = strtoull(expires, NULL, 10);
    }
    int error = capsule_write(capsule, &stream, &failure);
    if (error != 0) {
        (void)fprintf(stderr, "%s\n", failure.text);
    }
    (void)close(descriptor.fd);
    capsule_destroy(&capsule);
    return error != 0;
}

static void write_seed(const char *directory, const char *name, int kind, const uint8_t *bytes,
                       size_t count)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    if (file == NULL || fputc(kind, file) < 0 || fwrite(bytes, 1, count, file) != count ||
        fclose(file) != 0) {
        abort();
    }
}

static int write_seeds(const char *directory)
{
    struct key_identity *identity = capsule_destination();
    struct capsule *capsule = capsule_sample(identity->public_key);
    struct capsule_memory memory = {0};
    struct capsule_stream stream = capsule_memory_stream(&memory);
    (void)mkdir(directory, 0700);
    for (uint32_t segments = 5; segments >= 3; segments--) {
        char name[32];
        capsule->segment_count = segments;
        memory.used = 0;
        size_t bytes = (size_t)capsule_body_bytes(capsule);
        uint8_t *body = malloc(bytes);
        if (body == NULL || capsule_write(capsule, &stream, NULL) != 0) {
            abort();
        }
        capsule_body_encode(capsule, body);
        (void)snprintf(name, sizeof name, "body-%u", segments);
        write_seed(directory, name, 0, body, bytes);
        (void)snprintf(name, sizeof name, "capsule-%u", segments);
        write_seed(directory, name, 1, memory.bytes, memory.used);
        free(body);
    }
    capsule->segment_count = 5;
    capsule_destroy(&capsule);
    free(memory.bytes);
    key_identity_destroy(&identity);
    return 0;
}

int main(int argc, char **argv)
{
    if (noise_init() != 0) {
        return 1;
    }
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        return write_seeds(argv[2]);
    }
    return argc == 3 || argc == 4 ? write_capsule(argv[1], argv[2], argv[3]) : 2;
}
