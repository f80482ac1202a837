// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer: the files of a store, spoiled. A small store is made once: two segments with pages, one of them a clone, and a process
// image. An input is a row of edits: which file, where, how many bytes, the bytes. Then the checksums of headers, records
// and images are put right, when the first byte says so, for who may write the files may do that, too. Opening it ends in a
// sentence, or in a store whose every page can be read and which a catalog can be made from.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/catalog.h"
#include "server/store/codec.h"
#include "server/store/image.h"
#include "server/store/record.h"
#include "tests/fuzz/fuzz_store_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum {
    FILES = 12,
    PAGES = 8,
    PAGE = 4096,
    CAPACITY_BYTES = 1 << 20,
    EDITS = 16,
    EDIT_BYTES = 4, // before its own bytes: file, place (2), length
    SUMS = 32,
    LARGEST_FILE = 64 << 10,
};

static struct model {
    char path[160];
    uint8_t *bytes;
    size_t size; // of the beginning that is kept and edited
    off_t whole;
} files[FILES];
static size_t file_count;
static struct sum {
    size_t file, start, end;
} sums[SUMS];
static size_t sum_count;

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void keep(const char *path)
{
    struct stat facts;
    require(stat(path, &facts) == 0);
    if (S_ISDIR(facts.st_mode)) {
        fuzz_each_file(path, keep);
        return;
    }
    require(file_count < FILES);
    struct model *file = &files[file_count++];
    (void)snprintf(file->path, sizeof file->path, "%s", path);
    file->whole = facts.st_size;
    file->size = facts.st_size < LARGEST_FILE ? (size_t)facts.st_size : LARGEST_FILE;
    file->bytes = malloc(file->size + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    require(file->bytes != NULL && fd >= 0 &&
            read(fd, file->bytes, file->size) == (ssize_t)file->size);
    (void)close(fd);
}

static struct store_segment *segment(struct store *store, const char *name,
                                     struct store_segment *source)
{
    struct store_segment_record record = {
        .bytes = PAGES * PAGE, .page_bytes = PAGE, .replicas = 1, .epoch = 1, .principal = "fuzz"};
    struct store_segment *made = NULL;
    (void)snprintf(record.name, sizeof record.name, "%s", name);
    record.base = LIMIT_BASE_LOW + (source != NULL ? 1ULL << 30 : 0);
    int error = source != NULL ? store_segment_clone(store, source, &record, &made)
                               : store_segment_create(store, &record, &made);
    require(error == 0);
    return made;
}

// Where checksums stand: found by trying, so that nothing here knows the layouts.
static void find_sums(const struct model *file)
{
    static const size_t starts[] = {0, 1024, 4096};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        for (size_t end = starts[i] + 16; end + 8 <= file->size && end < starts[i] + PAGE;
             end += 4) {
            const uint8_t *sum = file->bytes + end;
            uint64_t value = codec_get_u64(&sum);
            if (value != 0 && sum_count < SUMS &&
                value == codec_checksum(file->bytes + starts[i], end - starts[i])) {
                sums[sum_count++] = (struct sum){(size_t)(file - files), starts[i], end};
                break;
            }
        }
    }
}

static void make_model(void)
{
    static uint8_t data[PAGES * PAGE];
    const uint8_t map[WIRE_MAP_BYTES] = {0x6b};
    uint32_t done;
    const char *directory = fuzz_directory();
    struct store *store = fuzz_store_make(directory, CAPACITY_BYTES);
    memset(data, 7, sizeof data);
    struct store_segment *one = segment(store, "one", NULL);
    require(store_write(store, one, 0, PAGES, 1, map, data, &done) == 0);
    struct store_segment *two = segment(store, "two", one);
    require(store_write(store, two, 2, 2, 9, map, data, &done) == 0);
    struct store_image image = {.id = {1},
                                .moves = 1,
                                .state = STORE_IMAGE_PARKED,
                                .expires_ms = UINT64_MAX / 2,
                                .principal = "fuzz",
                                .source_principal = "fuzz",
                                .count = 1};
    image.members[0] = (struct store_image_member){store_segment_record(one)->id, 2, false};
    require(store_image_write(store, &image) == 0);
    require(store_close(&store) == 0);
    fuzz_each_file(directory, keep);
    for (size_t i = 0; i < file_count; i++) {
        find_sums(&files[i]);
    }
    require(sum_count >= 3); // of the header, the segments and the image
}

static void mend_sums(uint8_t (*copies)[LARGEST_FILE])
{
    for (size_t i = 0; i < sum_count; i++) {
        uint8_t *bytes = copies[sums[i].file];
        uint8_t *to = bytes + sums[i].end;
        codec_put_u64(&to, codec_checksum(bytes + sums[i].start, sums[i].end - sums[i].start));
    }
}

static void put_files(const uint8_t *data, size_t bytes)
{
    static uint8_t copies[FILES][LARGEST_FILE];
    bool mend = (data[0] & 1) != 0;
    for (size_t i = 0; i < file_count; i++) {
        memcpy(copies[i], files[i].bytes, files[i].size);
    }
    data++;
    bytes--;
    for (int i = 0; i < EDITS && bytes > EDIT_BYTES; i++) {
        size_t file = data[0] % file_count;
        size_t at = (size_t)(data[1] | data[2] << 8);
        size_t length = data[3];
        data += EDIT_BYTES;
        bytes -= EDIT_BYTES;
        length = length < bytes ? length : bytes;
        for (size_t n = 0; n < length && at + n < files[file].size; n++) {
            copies[file][at + n] = data[n];
        }
        data += length;
        bytes -= length;
    }
    if (mend) {
        mend_sums(copies);
    }
    for (size_t i = 0; i < file_count; i++) {
        int fd = open(files[i].path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        require(fd >= 0 && write(fd, copies[i], files[i].size) == (ssize_t)files[i].size);
        require(ftruncate(fd, files[i].whole) == 0);
        (void)close(fd);
    }
}

static void read_all(struct store *store)
{
    struct store_segment *at = NULL;
    struct iovec pieces[LIMIT_RUN_PAGES];
    while ((at = store_segment_next(store, at)) != NULL) {
        const struct store_segment_record *record = store_segment_record(at);
        uint64_t pages = (record->bytes + record->page_bytes - 1) / record->page_bytes;
        for (uint64_t page = 0; page < pages && page < PAGES; page++) {
            uint8_t map[WIRE_MAP_BYTES] = {0};
            uint32_t done;
            volatile uint8_t last = 0;
            store_read_begin(store);
            int error = store_read(store, at, page, 1, map, pieces, &done);
            if (error == 0 && wire_map_get(map, 0)) {
                last = ((const uint8_t *)pieces[0].iov_base)[record->page_bytes - 1];
            }
            store_read_end(store);
            require(error == 0 || error == -EFAULT || error == -EIO);
            (void)last;
        }
    }
}

static int see_image(void *context, const struct store_image *image)
{
    (void)context;
    require(image->count <= LIMIT_IMAGE_SEGMENTS && image->state < STORE_IMAGE_STATES);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct failure failure = {""};
    if (bytes == 0) {
        return 0;
    }
    if (file_count == 0) {
        make_model();
    }
    put_files(data, bytes);
    const char *directory = files[0].path; // the store's own files lie in it
    char at[sizeof files[0].path];
    (void)snprintf(at, sizeof at, "%.*s", (int)strcspn(directory + 9, "/") + 9, directory);
    struct store *store = fuzz_store_open(at, CAPACITY_BYTES);
    if (store == NULL) {
        return 0;
    }
    struct catalog *catalog = NULL;
    read_all(store);
    (void)store_check(store, &failure);
    (void)store_image_each(store, see_image, NULL, &failure);
    if (catalog_create(store, LIMIT_LEASE_MS, 1, &catalog) == 0) {
        catalog_destroy(&catalog);
    }
    (void)store_close(&store);
    return 0;
}
