// SPDX-License-Identifier: Apache-2.0
//
// The store: a directory that holds every page of every segment of one dsmd. On tmpfs it is memory, on a disk's file
// system it is bigger. A process crash at any instruction loses nothing that was acknowledged.
//
// Threads: store_read_begin/read/end and store_write are called by any of a fixed number of registered threads at once;
// writes of one segment are serialised inside. Segment create/remove are serialised by the catalog.
#ifndef SERVER_STORE_STORE_H
#define SERVER_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "rpc/failure.h"
#include "rpc/limits.h"
#include "rpc/wire.h"

struct store;
struct store_segment;

enum store_durability { STORE_DURABILITY_PROCESS = 0, STORE_DURABILITY_POWER = 1 };

struct store_options {
    const char *directory;
    uint64_t capacity_bytes; // of pages; fixed when the store is made, may grow at a later open
    enum store_durability durability;
    int threads; // how many may call store_thread_register()
    bool create; // make it when the directory is empty or absent
};

struct store_facts {
    uint8_t store_id[WIRE_ID_BYTES];
    uint64_t incarnation;
    uint64_t capacity_bytes;
    uint64_t reserved_bytes; // promised to segments
    uint64_t stored_bytes;   // in slots in use
    uint64_t headroom_free_bytes;
    uint64_t headroom_waits; // writes that had to wait for readers to pass
    uint64_t base_end;       // above every address range that a segment of this store ever had
    bool clean;              // the last stop was clean
};

// What the catalog keeps with a segment; lives in the first page of the segment's index file, so that a segment and
// its record appear and vanish together.
struct store_segment_record {
    uint64_t id; // never reused
    char name[LIMIT_SEGMENT_NAME_BYTES];
    uint8_t operation[WIRE_ID_BYTES]; // the create's
    uint64_t bytes;
    uint32_t page_bytes;
    uint32_t type;
    uint32_t flags; // of those below
    uint32_t replicas;
    uint64_t base;
    uint64_t family; // of those that share slots: the id of the first; 0: its own
    uint8_t identity[WIRE_DIGEST_BYTES]; // of code
    // Changing part: store_segment_update() replaces it whole.
    uint64_t epoch;
    uint8_t writer[WIRE_ID_BYTES]; // instance that has it open for writing; zeros: none
    char writer_name[LIMIT_HOLDER_NAME_BYTES];
    uint32_t had_readers; // readers were attached when this was last said
    char principal[LIMIT_PRINCIPAL_NAME_BYTES];
    uint64_t moves; // the last step of an image that reached it (image.h)
    bool sealed;    // code that is complete
};
enum { STORE_SEGMENT_NORESERVE = 1, STORE_SEGMENT_EPHEMERAL = 2 };
enum { STORE_SEGMENT_DATA, STORE_SEGMENT_CODE, STORE_SEGMENT_HEAP, STORE_SEGMENT_STACK };

// Takes the OFD lock before anything else is read; checks version, boot id and clean mark, room and memory; rebuilds
// reference counts from the indexes. Errors, each with a sentence: -EBUSY in use, -EINVAL not a store or bad record,
// -EPROTO unknown version, -ENOSPC no room, -ENOMEM too big for memory, -ESTALE host lost power (the store is refused).
int store_open(const struct store_options *options, struct store **store, struct failure *failure);
// Marks it clean (after syncing, where it lies on a disk).
int store_close(struct store **store);
void store_facts(struct store *store, struct store_facts *facts);

// Once per thread that reads or writes; gives it a place in the reclamation of slots.
int store_thread_register(struct store *store);

// -ENOSPC when the size cannot be promised (quotas are the catalog's business), -EMFILE when there are as many as
// half of the descriptors that the process may have. record->id 0: the store gives the next id
// that was never used (see store_segment_record); else -EEXIST when that id may have been used before.
int store_segment_create(struct store *store, const struct store_segment_record *record,
                         struct store_segment **segment);
// A segment that begins with the pages of another and shares their slots until they are written. record->bytes: at least as many, the
// rest is zeros; same page size; id 0. Errors as above; -ENOSPC: its full size, or of a thin one what it names, cannot be promised.
int store_segment_clone(struct store *store, struct store_segment *source,
                        const struct store_segment_record *record, struct store_segment **clone);
// What such a clone would be promised.
uint64_t store_segment_clone_bytes(const struct store_segment *source,
                                   const struct store_segment_record *record);
// Its slots are freed; later use of the pointer by others is kept off by the catalog.
int store_segment_remove(struct store *store, struct store_segment *segment);
int store_segment_update(struct store *store, struct store_segment *segment,
                         const struct store_segment_record *record);
const struct store_segment_record *store_segment_record(const struct store_segment *segment);
uint64_t
store_segment_highest(const struct store_segment *segment); // highest applied version; 0: none
uint64_t store_segment_stored_bytes(const struct store_segment *segment);
// Of a thin segment: what it takes of the capacity, its pages and the blocks of its index; else 0.
uint64_t store_segment_thin_bytes(const struct store_segment *segment);
// By how much the index of a thin segment would grow if these pages were written or discarded.
uint64_t store_segment_index_growth(const struct store_segment *segment, uint64_t page,
                                    uint32_t count);
// Walks the segments found at open (and made since), in no order: NULL starts and ends.
struct store_segment *store_segment_next(struct store *store, struct store_segment *after);

// Reading: between begin and end the pieces stay valid and unchanged (slots are not reused). pieces[i] for the i-th set
// bit of map; a page of zeros has a clear bit. count <= LIMIT_RUN_BYTES / page_bytes. Returns 0, or -EIO with *done
// = pages before the one that failed. begin/end do not nest.
void store_read_begin(struct store *store);
int store_read(struct store *store, struct store_segment *segment, uint64_t page, uint32_t count,
               uint8_t map[WIRE_MAP_BYTES], struct iovec *pieces, uint32_t *done);
void store_read_end(struct store *store);

// Writing: page by page, each visible at once or not at all: data into a fresh slot, then the slot into the index,
// then the version, then it returns (the acknowledgement). Pages whose bit is clear become zero and take no slot.
// A page whose stored version is >= version is left alone and counts as done (a retry, or older than what is there).
// data: compacted pages of the set bits. -ENOSPC (thin segments only), -EIO: *done = pages before the failed one.
// Not between read_begin and read_end.
int store_write(struct store *store, struct store_segment *segment, uint64_t page, uint32_t count,
                uint64_t version, const uint8_t *map, const uint8_t *data, uint32_t *done);
// Pages become zero, keep `version`, give their slots back. Same rules.
int store_discard(struct store *store, struct store_segment *segment, uint64_t page, uint64_t count,
                  uint64_t version);

// Pages lose their backing, and the segment what was promised for them; they have it again, as zeros, after store_allocate, which
// passes over pages that have it already, and promises for all that have none or for none of them (-ENOSPC). Reading
// and writing a page without backing is -EFAULT. The rules of writes for versions, *done and errors.
int store_give_up(struct store *store, struct store_segment *segment, uint64_t page, uint32_t count,
                  uint64_t version, uint32_t *done);
int store_allocate(struct store *store, struct store_segment *segment, uint64_t page,
                   uint32_t count, uint64_t version, uint32_t *done);
uint64_t store_segment_none_pages(const struct store_segment *segment); // without backing
// By how much the promise is less than the segment's size; 0 for a thin one.
uint64_t store_segment_none_bytes(const struct store_segment *segment);
uint64_t store_segment_none_among(const struct store_segment *segment, uint64_t page,
                                  uint32_t count);
// The first run of them at or after `from`; false: there is none.
bool store_segment_next_none(const struct store_segment *segment, uint64_t from, uint64_t *page,
                             uint64_t *count);

// Counts and checks everything: references against indexes, no slot twice, sums. 0 or -EINVAL with a sentence.
int store_check(struct store *store, struct failure *failure);

#endif
