# SPDX-License-Identifier: Apache-2.0
#
# Who has a key and asks, in good form, for what he may not have: the request is refused by a status, the session goes on.
import hashlib
import os

from raw import (ALLOCATE, BOUNDS, CONTROL, DISCARD, EXPIRED, FENCED, GIVE_UP, INVALID, LIMIT, NOT_ALLOWED, NOT_OPEN,
                 NO_SEGMENT, NO_SPACE, OK, OVER_QUOTA, PAGE, READ, TOO_MANY, USED, WRITE, Refused, control_message,
                 encode, fields_of, full_map, varint)
from world import case, expect, told

GROUP = "requests"


def refused(who, text, op="request"):
    return rf'refused a {op} of "{who}" \("raw" at 127\.[\d.]+\): {text}'


def status_is(wanted, status, what=""):
    expect(status == wanted, f"{what}: status {status}, not {wanted}")


def opened(world, key="good", name=None, **attachment):
    lane = world.attach(key, **attachment)
    lane.name = name or f"requests/{os.urandom(8).hex()}"
    lane.id, lane.epoch = lane.create(lane.name)
    return lane


def ask(lane, op, payload=b"", **fields):
    fields = dict(segment=lane.id, epoch=lane.epoch) | fields
    if op not in (READ,):
        fields.setdefault("version", 1)
    return lane.call(op, payload, **fields)[0].status


@case(GROUP, "an interval beyond the segment, at its end, and over it", "BOUNDS",
      refused("good", "the interval is not within the segment, .*: segment \\d+ page 16 count 1 epoch 1", "read"))
def beyond(world):
    with opened(world) as lane:
        for op in (READ, DISCARD, GIVE_UP, ALLOCATE):
            for page, count in ((16, 1), (15, 2), (0, 17), (2**63, 1), (2**64 - 2, 1)):
                status_is(BOUNDS, ask(lane, op, page=page, count=count), f"op {op} {page}+{count}")
        status_is(BOUNDS, ask(lane, WRITE, bytes(PAGE), page=16, count=1, map=full_map(1)), "write")
        status_is(OK, ask(lane, READ, page=15, count=1), "the last page")


@case(GROUP, "data that are not the segment's pages; a run above LIMIT_RUN_BYTES", "INVALID",
      refused("good", "the request has a value that is out of its range: segment", "write"))
def page_sizes(world):
    with world.attach() as lane:
        lane.id, lane.epoch = lane.create("requests/wide", 16 << 20, LIMIT["LIMIT_PAGE_MAX_BYTES"])
        status_is(INVALID, ask(lane, WRITE, bytes(PAGE), count=1, map=full_map(1)), "a small page")
        status_is(INVALID, ask(lane, READ, count=2), "two pages of 1 MiB")
        status_is(OK, ask(lane, READ, count=1), "one page of 1 MiB")


@case(GROUP, "a write, a discard of version 0", "INVALID", refused("good", "the request has a value", "write"))
def version_zero(world):
    with opened(world) as lane:
        status_is(INVALID, ask(lane, WRITE, bytes(PAGE), count=1, map=full_map(1), version=0), "write")
        status_is(INVALID, ask(lane, DISCARD, count=1, version=0), "discard")


@case(GROUP, "epoch 0", "FENCED", refused("good", "the segment has a newer owner: segment \\d+ page 0 count 1 epoch 0", "read"))
def epoch_zero(world):
    with opened(world) as lane:
        status_is(FENCED, ask(lane, READ, count=1, epoch=0), "read")
        status_is(FENCED, ask(lane, WRITE, bytes(PAGE), count=1, map=full_map(1), epoch=0), "write")


@case(GROUP, "the highest epoch", "INVALID", refused("good", "the request has a value .* epoch 18446744073709551615", "read"))
def epoch_max(world):
    with opened(world) as lane:
        status_is(INVALID, ask(lane, READ, count=1, epoch=2**64 - 1), "read")
        status, _ = lane.control(open=[(1, lane.name), (3, 1), (5, 2**64 - 1)])
        expect(status != OK, "an open with an epoch from the future")


@case(GROUP, "a segment that there is not", "NOT_OPEN, NO_SEGMENT", refused("good", "this session has not opened the segment", "read"))
def unknown(world):
    with opened(world) as lane:
        for id in (0, lane.id + 1000, 2**64 - 1):
            status_is(NOT_OPEN, ask(lane, READ, count=1, segment=id), f"segment {id}")
        status_is(NO_SEGMENT, lane.control(open=[(1, "requests/none")])[0], "open by name")
        status_is(NO_SEGMENT, lane.control(open=[(2, 2**64 - 1)])[0], "open by id")
        status_is(NO_SEGMENT, lane.control(delete=[(1, os.urandom(16)), (2, "requests/none")])[0], "delete")


@case(GROUP, "another principal's segment, by every operation there is", "NOT_OPEN, NO_SEGMENT, as if there were none",
      refused("other", "this session has not opened the segment", "read"))
def of_another(world):
    with opened(world) as owner, world.attach("other") as thief:
        ask(owner, WRITE, b"\x5a" * PAGE, count=1, map=full_map(1))
        thief.id, thief.epoch = owner.id, owner.epoch
        for op, payload, map in ((READ, b"", bytes(32)), (WRITE, bytes(PAGE), full_map(1)), (DISCARD, b"", bytes(32)),
                                 (GIVE_UP, b"", bytes(32)), (ALLOCATE, b"", bytes(32))):
            status_is(NOT_OPEN, ask(thief, op, payload, count=1, map=map, version=9), f"op {op}")
        id, operation = owner.id, os.urandom(16)
        for name, body in dict(
                open_name=dict(open=[(1, owner.name)]), open_write=dict(open=[(1, owner.name), (3, 1), (4, 1)]),
                open_id=dict(open=[(2, id), (3, 1)]), delete=dict(delete=[(1, operation), (2, owner.name)]),
                close=dict(close=[(1, id)]), none=dict(none=[(1, id), (2, 1)]), seal=dict(seal=[(1, id), (2, 1)]),
                clone=dict(clone=[(1, operation), (2, id), (3, 1), (4, "requests/theft")]),
                check=dict(image_check=[(1, [(1, id), (2, 1)])]),
                park=dict(image_park=[(1, operation), (2, [(1, id), (2, 1)]), (3, bytes(32)), (4, 1000)])).items():
            status, fields = thief.control(**body)
            expect(status in (NOT_OPEN, NO_SEGMENT), f"{name}: status {status}")
            expect(name == "close" or b"good" not in b"".join(fields.get(1, [])), f"{name}: the answer names the owner")
        status, fields = thief.control(list=[])
        expect(owner.name.encode() not in fields.get(3, [b""])[0], "the list names it")
        head, data = owner.call(READ, segment=owner.id, epoch=owner.epoch, count=1)
        expect(data == b"\x5a" * PAGE, "the page is not what its owner wrote")


@case(GROUP, "a write through an open for reading, and with a key that may only read", "NOT_ALLOWED",
      refused("good", "the key's rights do not allow this", "write"))
def read_only(world):
    with world.attach() as owner:
        name = "requests/read-only"
        id, _ = owner.create(name, flags=0)
        owner.control(close=[(1, id)])
        for key in ("good", "reader"):
            with world.attach(key) as lane:
                status, fields = lane.control(open=[(1, name)])
                status_is(OK, status, f"{key}: open for reading")
                lane.id, lane.epoch = id, fields_of(fields[2][0])[8][0]
                status_is(OK, ask(lane, READ, count=1), f"{key}: read")
                for op in (DISCARD, GIVE_UP, ALLOCATE):
                    status_is(NOT_ALLOWED, ask(lane, op, count=1), f"{key}: op {op}")
                status_is(NOT_ALLOWED, ask(lane, WRITE, bytes(PAGE), count=1, map=full_map(1)), f"{key}: write")
        with world.attach("reader") as lane:
            status_is(NOT_ALLOWED, lane.control(open=[(1, name), (3, 1)])[0], "an open for writing")
        world.settles("readers", lambda: owner.delete(name, id), OK)


@case(GROUP, "create, delete, clone without the right; a capsule without it", "NOT_ALLOWED", refused("good", "This key has no right to create"))
def no_right(world):
    with opened(world) as owner, world.attach("nocreate") as lane, world.attach("small") as small:
        told(NOT_ALLOWED, "no right", of=lambda: lane.create("requests/no"))
        status_is(NOT_ALLOWED, lane.control(delete=[(1, os.urandom(16)), (2, owner.name)])[0], "delete")
        id, epoch = small.create("small/mine", flags=0)
        park = [(1, os.urandom(16)), (2, [(1, id), (2, epoch)]), (3, bytes(32)), (4, 1000)]
        status_is(NOT_ALLOWED, small.control(image_park=park)[0], "park")
        status_is(OK, small.delete("small/mine", id), "delete")
        owner.control(close=[(1, owner.id)])


@case(GROUP, "names outside the key's prefix, and the server's own", "NOT_ALLOWED",
      refused("small", 'The names that this key may use begin with "small/"'))
def prefix(world):
    with world.attach("small") as lane:
        for name in ("large/x", "small", "Small/x", "good/none", "tmp/x"):
            told(NOT_ALLOWED, of=lambda: lane.create(name, flags=0))
        told(NOT_ALLOWED, of=lambda: lane.create("code/" + "0" * 64))


@case(GROUP, 'names with "..", "/" at an end, NUL, 256 bytes, high bytes, control characters, none', "INVALID",
      refused("good", "That is no name for a segment"))
def names(world):
    with world.attach() as lane:
        for name in ("..", "../x", "a/../b", "a/..", ".", "a/./b", "/a", "a/", "a//b", "/", "a" * 256, "a" * 60000,
                     b"\xff\xfe", b"caf\xc3\xa9", "a b", "a\nb", "\x1b[31m", "a\\b", "a*", "", b"a\0b", b"\0"):
            told(INVALID, of=lambda: lane.create(name))
        longest = "n" * (LIMIT["LIMIT_SEGMENT_NAME_BYTES"] - 1)
        id, _ = lane.create(longest, flags=0)
        status_is(OK, lane.delete(longest, id), "delete of the longest name")


@case(GROUP, "sizes, page sizes, types, flags and operation ids that there are not", "INVALID",
      refused("good", "Size, page size, type or flags of the segment are out of range"))
def shapes(world):
    with world.attach() as lane:
        for size, page_bytes, kind, flags in (
                (0, PAGE, 0, 0), (2**64 - 1, PAGE, 0, 0), (LIMIT["LIMIT_SEGMENT_BYTES"] + 1, PAGE, 0, 1), (PAGE, 0, 0, 0),
                (PAGE, 1, 0, 0), (PAGE, 2048, 0, 0), (PAGE, 6144, 0, 0), (PAGE, LIMIT["LIMIT_PAGE_MAX_BYTES"] * 2, 0, 0),
                (PAGE, 2**32 - 1, 0, 0), (PAGE, PAGE, 4, 0), (PAGE, PAGE, 1, 0), (PAGE, PAGE, 2**32 - 1, 0),
                (PAGE, PAGE, 0, 4), (PAGE, PAGE, 0, 2**32 - 1)):
            told(INVALID, of=lambda: lane.create("requests/shape", size, page_bytes, kind=kind, flags=flags))
        for operation in (b"x" * 15, b"x" * 17, b""):
            status, _ = lane.control(create=[(1, operation), (2, "requests/id"), (3, PAGE), (4, PAGE)])
            status_is(INVALID, status, f"an operation id of {len(operation)} bytes")


@case(GROUP, "a page above the quota: reserved, written into a thin segment, by a clone", "OVER_QUOTA",
      refused("small", 'Segment "small/more" needs 69632 bytes, but of the quota of 65536 bytes 0 are used'))
def quota(world):
    with world.attach("small") as lane:
        told(OVER_QUOTA, of=lambda: lane.create("small/more", PAGE * 17))
        lane.id, lane.epoch = lane.create("small/all", 12 * PAGE, flags=0)
        told(OVER_QUOTA, of=lambda: lane.create("small/rest", 5 * PAGE))
        clone = [(1, os.urandom(16)), (2, lane.id), (3, lane.epoch), (4, "small/clone")]
        status_is(OVER_QUOTA, lane.control(clone=clone)[0], "a clone")
        thin, epoch = lane.create("small/thin", 64 * PAGE, flags=1)
        written = 0
        for page in range(8):
            status = ask(lane, WRITE, b"\1" * PAGE, segment=thin, epoch=epoch, page=page, count=1, map=full_map(1))
            written += status == OK
            expect(status in (OK, OVER_QUOTA), f"a write into a thin segment: status {status}")
        expect(0 < written <= 4, f"{written} pages went into what was left of the quota")
        told(OVER_QUOTA, "of the quota of", of=lambda: lane.create("small/more", PAGE))
        for name, id in (("small/all", lane.id), ("small/thin", thin)):
            status_is(OK, lane.delete(name, id), f"delete {name}")
        id, _ = lane.create("small/again", 16 * PAGE, flags=0)  # what was deleted is free again
        status_is(OK, lane.delete("small/again", id), "delete small/again")


@case(GROUP, "more than the store has", "NO_SPACE", refused("good", "The server's store is full"))
def space(world):
    with world.attach() as lane:
        told(NO_SPACE, "store is full", of=lambda: lane.create("requests/full", 1 << 40))


@case(GROUP, "tiny segments without end", "TOO_MANY at LIMIT_SEGMENTS_PER_PRINCIPAL, and at LIMIT_SESSION_SEGMENTS open",
      refused("other", "This process has 256 segments open, the most that is allowed"))
def tiny(world):
    most, open_most = LIMIT["LIMIT_SEGMENTS_PER_PRINCIPAL"], LIMIT["LIMIT_SESSION_SEGMENTS"]
    with world.attach("other") as lane:
        ids = [lane.create(f"tiny/{number}", PAGE, flags=0)[0] for number in range(open_most)]
        told(TOO_MANY, "segments open", of=lambda: lane.create("tiny/open", PAGE))
        for id in ids:
            lane.control(close=[(1, id)])
        for number in range(open_most, most):
            id, _ = lane.create(f"tiny/{number}", PAGE, flags=0)
            lane.control(close=[(1, id)])
        told(TOO_MANY, "the most allowed", of=lambda: lane.create("tiny/more", PAGE))
        for number in range(most):
            status_is(OK, lane.control(delete=[(1, os.urandom(16)), (2, f"tiny/{number}")])[0], f"delete {number}")


@case(GROUP, "thin segments of all the addresses that there are", "TOO_MANY at LIMIT_THIN_BYTES", refused("other", "The NORESERVE segments"))
def thin(world):
    if world.tsan:
        return  # it has other addresses
    with world.attach("other") as lane:
        half = LIMIT["LIMIT_THIN_BYTES"] // 2
        lane.create("thin/a", half, flags=3)
        lane.create("thin/b", half, flags=3)
        told(TOO_MANY, "NORESERVE", of=lambda: lane.create("thin/c", PAGE, flags=3))


def nested(depth):
    message = b""
    for _ in range(depth):
        message = b"\x0a" + varint(len(message)) + message
    return message


@case(GROUP, "control messages that are none: random, cut, nested, of unknown operations, of 10,000 members", "INVALID",
      refused("good", "The control message (is malformed|has no operation)"))
def control(world):
    whole = control_message(create=[(1, bytes(16)), (2, "requests/cut"), (3, PAGE), (4, PAGE)])
    with world.attach() as lane:
        messages = [b"", b"\xff" * 100, os.urandom(1000), whole[:-1], whole + b"\0", whole * 2, b"\xfa\x7f\x02ab",
                    nested(1000), varint(99 << 3 | 2) + b"\0", encode([(11, [(1, [(1, 1)])] * 10000)]),
                    control_message(list=[(1, b"\xff" * 60000)]), b"\x0a\xff\xff\xff\xff\x0f", b"\x0b\x0c",
                    encode([(12, [(2, [(1, 1)])] * 20000)])[:65536]]
        for message in messages:
            status, _ = lane.control_bytes(message)
            expect(status != OK or message[:1] == b"\x2a", f"{message[:20]!r}: status {status}")
        for length in range(len(whole)):
            expect(lane.control_bytes(whole[:length])[0] != OK, f"the first {length} bytes of a create are one")


@case(GROUP, "capsules: a time to live out of its bounds, more members than LIMIT_IMAGE_SEGMENTS, unknown images, wrong tokens",
      "INVALID, NO_SEGMENT, NOT_ALLOWED", refused("good", "A capsule lives for 100 ms to 24 h"))
def capsules(world):
    most = LIMIT["LIMIT_IMAGE_SEGMENTS"]
    with world.attach() as lane:
        heap, stack = (lane.create(f"requests/image-{kind}", kind=kind) for kind in (2, 3))
        whole = [[(1, id), (2, epoch)] for id, epoch in (heap, stack)]
        member, image = whole[0], os.urandom(16)
        token = os.urandom(32)
        digest = hashlib.blake2b(token, digest_size=32).digest()

        def park(members=whole, image=image, digest=digest, life=1000):
            return lane.control(image_park=[(1, image), *((2, one) for one in members), (3, digest), (4, life)])[0]

        for life in (0, LIMIT["LIMIT_CAPSULE_MIN_MS"] - 1, LIMIT["LIMIT_CAPSULE_MAX_MS"] + 1, 2**32 - 1):
            status_is(INVALID, park(life=life), f"a time of {life} ms")
        status_is(INVALID, park(image=b"short"), "a short id")
        status_is(INVALID, park(digest=b"short"), "a short digest")
        for members in ((), [member] * 2, [member] * (most + 1), [[(1, 2**63 + number), (2, 1)] for number in range(most + 1)]):
            expect(park(members) != OK, f"{len(members)} members")
        expect(lane.control(image_commit=[(1, image), (2, token)])[0] != OK, "a commit of what is not parked")
        status_is(OK, park(life=60000), "park")
        for wrong in (os.urandom(32), token[:31], b"", token + b"x"):
            expect(lane.control(image_commit=[(1, image), (2, wrong)])[0] not in (OK, USED), "a wrong token")
        with world.attach("other") as thief:
            expect(thief.control(image_commit=[(1, image), (2, token)])[0] != OK, "another principal's commit")
            expect(thief.control(image_abort=[(1, image), (2, whole[0]), (2, whole[1])])[0] != OK, "another principal's abort")
        status_is(OK, lane.control(image_commit=[(1, image), (2, token)])[0], "commit")
        with world.attach() as second:
            status_is(USED, second.control(image_commit=[(1, image), (2, token)])[0], "a second commit, by another process")
