// SPDX-License-Identifier: Apache-2.0
//
// See oracle.h. Contents are those of the programs that check themselves (tests/programs/checked_page.c), with the stamp as
// version.
#include "tests/simulator/oracle.h"

#include <stdlib.h>
#include <string.h>

#include "tests/programs/checked_page.h"
#include "tests/simulator/virtual_time.h"

struct oracle *oracle_make(uint64_t segment, unsigned owner)
{
    struct oracle *oracle = calloc(1, sizeof *oracle);
    if (oracle == NULL) {
        vt_fail("no memory");
    }
    oracle->segment = segment;
    oracle->owner = owner;
    for (int i = 0; i < ORACLE_PAGES; i++) {
        oracle->pages[i].zero[0] = true;
    }
    return oracle;
}

uint32_t oracle_begin(struct oracle *oracle, uint64_t page, unsigned writer, bool zero)
{
    struct oracle_page *p = &oracle->pages[page];
    uint32_t stamp = ++p->last;
    if (stamp >= ORACLE_STAMPS) {
        vt_fail("a page has more than %d versions", ORACLE_STAMPS);
    }
    p->writer[stamp] = (uint8_t)writer;
    p->zero[stamp] = zero;
    if (writer == oracle->owner) {
        p->latest = stamp;
    }
    return stamp;
}

void oracle_acknowledge(struct oracle *oracle, uint64_t page, unsigned writer, uint32_t stamp)
{
    struct oracle_page *p = &oracle->pages[page];
    if (writer == oracle->owner && stamp > p->floor) {
        p->floor = stamp;
    }
}

void oracle_contents(const struct oracle *oracle, uint64_t page, uint32_t stamp, void *to)
{
    const struct oracle_page *p = &oracle->pages[page];
    if (p->zero[stamp]) {
        memset(to, 0, ORACLE_PAGE);
        return;
    }
    const struct checked_identity identity = {oracle->segment, page, stamp, p->writer[stamp]};
    checked_page_write(to, ORACLE_PAGE, &identity);
}

static bool may_hold(const struct oracle *oracle, const struct oracle_page *p, uint32_t stamp)
{
    return stamp == p->floor ||
           (stamp > p->floor && stamp <= p->latest && p->writer[stamp] == oracle->owner);
}

// Of zeros: the latest version that is zeros and that the page may hold.
static uint32_t stamp_of(const struct oracle *oracle, const struct oracle_page *p,
                         const uint64_t *words)
{
    uint32_t stamp = (uint32_t)words[2];
    if (words[2] != 0) {
        return stamp;
    }
    for (stamp = p->latest; stamp > p->floor; stamp--) {
        if (p->zero[stamp] && may_hold(oracle, p, stamp)) {
            break;
        }
    }
    return stamp;
}

void oracle_expect(struct oracle *oracle, uint64_t page, uint32_t stamp, const void *contents,
                   const char *who)
{
    const struct oracle_page *p = &oracle->pages[page];
    const struct checked_identity identity = {oracle->segment, page, p->zero[stamp] ? 0 : stamp,
                                              p->writer[stamp]};
    struct checked_mismatch wrong;
    if (checked_page_verify(contents, ORACLE_PAGE, &identity, &wrong) != 0) {
        vt_fail("%s reads page %llu: its %s is %#llx instead of %#llx (version %u)", who,
                (unsigned long long)page, wrong.field, (unsigned long long)wrong.found,
                (unsigned long long)wrong.expected, stamp);
    }
}

uint32_t oracle_read(struct oracle *oracle, uint64_t page, const void *contents, const char *who)
{
    const struct oracle_page *p = &oracle->pages[page];
    uint32_t stamp = stamp_of(oracle, p, contents);
    if (stamp > p->last || !may_hold(oracle, p, stamp)) {
        vt_fail("%s reads page %llu: version %u of writer %u, but %u was acknowledged to writer "
                "%u, which began %u at last",
                who, (unsigned long long)page, stamp, stamp < ORACLE_STAMPS ? p->writer[stamp] : 0,
                p->floor, oracle->owner, p->latest);
    }
    oracle_expect(oracle, page, stamp, contents, who);
    return stamp;
}

void oracle_settle(struct oracle *oracle, uint64_t page, uint32_t stamp)
{
    oracle->pages[page].floor = oracle->pages[page].latest = stamp;
}

void oracle_hand_over(struct oracle *oracle, unsigned owner)
{
    oracle->owner = owner;
}
