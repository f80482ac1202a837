// SPDX-License-Identifier: Apache-2.0
//
// An image that goes to another principal: its segments leave the one's quota and limits and enter the other's, all of them or none.
// While it is in a capsule it is charged to its source. Nothing of it is in flight and nobody has it open, so the sums of its segments
// stand still meanwhile.
//
// Locks: C; T for the sums.
#include "server/image_steps.h"

#include <string.h>

static const struct store_segment_record *record_of(const struct catalog_segment *segment)
{
    return store_segment_record(segment->store);
}

static enum wire_status over_quota(struct failure *failure, const struct catalog_account *account,
                                   uint64_t bytes)
{
    return catalog_say(failure, WIRE_OVER_QUOTA,
                       "The image needs %llu bytes of the quota of \"%s\", which has less left.",
                       (unsigned long long)bytes, account->principal);
}

struct image_charge { // what an image's segments take of an account
    uint64_t reserved, thin, thin_sizes;
    uint32_t segments;
};

static struct image_charge charge_of(const struct catalog *catalog,
                                     const struct catalog_image *image)
{
    struct image_charge sum = {0};
    for (uint32_t i = 0; i < image->file.count; i++) {
        const struct catalog_segment *segment = image_segment(catalog, image, i);
        if (segment == NULL || image->file.members[i].code) {
            continue;
        }
        const struct store_segment_record *record = record_of(segment);
        sum.segments++;
        sum.thin += segment->thin_counted;
        sum.thin_sizes += segment->thin ? record->bytes : 0;
        sum.reserved += segment->thin ? 0 : record->bytes - segment->none_counted;
    }
    return sum;
}

// Charges, or gives back: sign -1. The segments stay where they are.
static void charge_account(struct catalog_account *account, const struct image_charge *charge,
                           int sign)
{
    uint64_t by = sign < 0 ? UINT64_MAX : 1;
    (void)pthread_mutex_lock(&account->lock);
    account->reserved_bytes += by * charge->reserved;
    account->thin_bytes += by * charge->thin;
    (void)pthread_mutex_unlock(&account->lock);
    account->thin_sizes += by * charge->thin_sizes;
    account->segments += (uint32_t)by * charge->segments;
}

enum wire_status image_check_room(const struct catalog *catalog, const struct catalog_image *image,
                                  const struct catalog_session *session, struct failure *failure)
{
    const struct image_charge sum = charge_of(catalog, image);
    const struct image_charge *charge = &sum;
    struct catalog_account *account = session->account;
    uint64_t need = charge->reserved + charge->thin;
    if (account->segments + charge->segments > LIMIT_SEGMENTS_PER_PRINCIPAL ||
        charge->thin_sizes > LIMIT_THIN_BYTES ||
        account->thin_sizes > LIMIT_THIN_BYTES - charge->thin_sizes) {
        return catalog_say(failure, WIRE_TOO_MANY, "\"%s\" has as many segments as are allowed.",
                           account->principal);
    }
    (void)pthread_mutex_lock(&account->lock);
    uint64_t used = account->reserved_bytes + account->thin_bytes + account->pending_bytes;
    bool fits = used <= account->quota_bytes && need <= account->quota_bytes - used;
    (void)pthread_mutex_unlock(&account->lock);
    return fits ? WIRE_OK : over_quota(failure, account, need);
}

void image_change_account(const struct catalog *catalog, const struct catalog_image *image,
                          const struct catalog_session *session)
{
    const struct image_charge sum = charge_of(catalog, image);
    const struct image_charge *charge = &sum;
    bool given_back = false;
    for (uint32_t i = 0; i < image->file.count; i++) {
        struct catalog_segment *segment = image_segment(catalog, image, i);
        if (segment == NULL || image->file.members[i].code) {
            continue;
        }
        if (!given_back) {
            charge_account(segment->account, charge, -1);
            given_back = true;
        }
        segment->account = session->account;
    }
    charge_account(session->account, charge, 1);
}
