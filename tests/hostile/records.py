# SPDX-License-Identifier: Apache-2.0
#
# Who has a key and sends records that do not open, or headers that no client sends: the connection ends with a reset,
# and nothing of the request is done. Over direct lanes here; over gRPC lanes in streams.py.
import os
import socket
import struct

from raw import (ALLOCATE, ANSWER, ATTACH, CLOSE, CONTROL, DISCARD, HEADER, LIMIT, OK, PAGE, PING, READ, TAG, WRITE,
                 Cipher, Ended, full_map, header, records)
from world import NOT_TAKEN, Failed, Unread, case, expect

GROUP = "records"
BAD = r'ended a connection of "good" \("raw" at 127\.[\d.]+\): what came does not open, or is no request'


def cuts(lane):
    """The connection ends, and with a reset: not one byte more of an answer."""
    try:
        got = lane.socket.recv(1)
    except ConnectionResetError:
        return
    expect(got == b"", "an answer to a bad record")


def sends(world, data_of):
    with world.attach() as lane:
        lane.send(data_of(lane))
        cuts(lane)


def ping(lane):
    return lane.sending.seal(header(PING))


@case(GROUP, "a record replayed", "connection reset", BAD)
def replayed(world):
    with world.attach() as lane:
        sealed = ping(lane)
        lane.send(sealed)
        expect(lane.answer()[0].status == OK, "the first one is not answered")
        lane.send(sealed)
        cuts(lane)


@case(GROUP, "a record dropped", "connection reset", BAD)
def dropped(world):
    def skip(lane):
        ping(lane)
        return ping(lane)

    sends(world, skip)


@case(GROUP, "records in another order", "connection reset", BAD)
def reordered(world):
    def swap(lane):
        first = ping(lane)
        return ping(lane) + first

    sends(world, swap)


@case(GROUP, "a record of another session", "connection reset", BAD)
def of_another_session(world):
    with world.attach() as other:
        sends(world, lambda lane: ping(other))


@case(GROUP, "an answer of the server sent back", "connection reset", BAD)
def reflected(world):
    with world.attach() as lane:
        lane.send(ping(lane))
        lane.send(lane.receive(HEADER + TAG))
        cuts(lane)


@case(GROUP, "a header sealed with another key", "connection reset", BAD)
def another_key(world):
    sends(world, lambda lane: Cipher(lane.suite, os.urandom(32)).seal(header(PING)))


@case(GROUP, "a bit of every byte of a sealed header flipped", "connection reset", BAD, many=True)
def header_bits(world):
    for at in range(HEADER + TAG):
        def flip(lane):
            sealed = bytearray(ping(lane))
            sealed[at] ^= 1 << at % 8
            return bytes(sealed)

        sends(world, flip)


def prepared(world):
    """A lane with a segment of 16 pages that it has opened for writing."""
    lane = world.attach()
    lane.id, lane.epoch = lane.create(f"records/{os.urandom(8).hex()}")
    return lane


@case(GROUP, "a bit flipped anywhere in a payload", "connection reset; the page is as it was", BAD, many=True)
def payload_bits(world):
    with prepared(world) as keeper:
        for at in list(range(0, PAGE + TAG, 512)) + [PAGE, PAGE + TAG - 1]:
            with world.attach(instance=(instance := os.urandom(16))) as lane:
                id, epoch = lane.create(f"records/{os.urandom(8).hex()}")
                lane.send(lane.sending.seal(header(WRITE, length=PAGE, segment=id, epoch=epoch, count=1, version=1,
                                                   map=full_map(1))))
                sealed = bytearray(records(lane.sending, b"\xee" * PAGE))
                sealed[at] ^= 1
                lane.send(bytes(sealed))
                cuts(lane)
                with world.attach(instance=instance, generation=2) as again:
                    head, data = again.call(READ, segment=id, epoch=epoch, count=1)
                    expect(head.status == OK and data == b"" and head.map == bytes(32), "some of it was written")
        expect(keeper.ping() == OK, "another lane of the key came to harm")


@case(GROUP, "a payload whose second record is the first one again", "connection reset", BAD)
def payload_replayed(world):
    with prepared(world) as lane:
        size = LIMIT["LIMIT_RECORD_DATA_BYTES"]
        count = 2 * size // PAGE
        lane.send(lane.sending.seal(header(WRITE, length=2 * size, segment=lane.id, epoch=lane.epoch, count=count,
                                           version=1, map=full_map(count))))
        lane.send(lane.sending.seal(bytes(size)) * 2)
        cuts(lane)


@case(GROUP, "a request cut at every fourth byte", "the connection ends; nothing is written", None)
def cut(world):
    with world.attach(instance=(instance := os.urandom(16))) as keeper:
        id, epoch = keeper.create("records/cut")
        generation = 1
        for count in range(0, HEADER + TAG + PAGE + TAG, 97):
            generation += 1
            with world.attach(instance=instance, lane=1, generation=generation) as lane:
                whole = lane.sending.seal(header(WRITE, length=PAGE, segment=id, epoch=epoch, count=1, version=1,
                                                 map=full_map(1))) + records(lane.sending, b"\xee" * PAGE)
                lane.send(whole[:count])
                lane.socket.shutdown(socket.SHUT_WR)
                cuts(lane)
        head, data = keeper.call(READ, segment=id, epoch=epoch, count=1)
        expect(head.status == OK and data == b"", "some of it was written")


def request(world, op, payload=b"", **fields):
    with prepared(world) as lane:
        fields = dict(segment=lane.id, epoch=lane.epoch) | fields
        lane.request(op, payload, **fields)
        cuts(lane)


RUN = LIMIT["LIMIT_RUN_BYTES"]


@case(GROUP, "lengths that no request has: 1, 15, a page and a byte, above a run, 2^31, 2^32 - 1", "connection reset",
      BAD, many=True)
def lengths(world):
    for length in (1, 15, PAGE - 1, PAGE + 1, RUN + 1, RUN + PAGE, 2**31, 2**32 - 1):
        request(world, WRITE, count=1, version=1, map=full_map(1), length=length)
    request(world, WRITE, count=1, version=1, map=full_map(1), length=0)  # a page, and no data
    request(world, WRITE, bytes(PAGE), count=1, version=1)  # data, and no page
    for op in (READ, DISCARD, PING, CLOSE):
        request(world, op, bytes(16), count=1, version=1)


@case(GROUP, "a control message above LIMIT_CONTROL_BYTES", "connection reset", BAD)
def control_length(world):
    most = LIMIT["LIMIT_CONTROL_BYTES"]
    with prepared(world) as lane:
        expect(lane.call(CONTROL, b"\xff" * most)[0].status != OK, "a control message of the limit's size is done")
        lane.request(CONTROL, bytes(most + 1))
        cuts(lane)


@case(GROUP, "operations that are none, answers, an ATTACH", "connection reset", BAD, many=True)
def operations(world):
    for op in (0, ATTACH, ALLOCATE + 1, 0x7FFF, READ | ANSWER, WRITE | ANSWER, 0xFFFF):
        request(world, op)


@case(GROUP, "an interval of no page, of more than a run has, and one that wraps", "connection reset", BAD, many=True)
def intervals(world):
    most = LIMIT["LIMIT_RUN_PAGES"]
    for op in (READ, DISCARD):
        for page, count in ((0, 0), (0, most + 1), (0, 2**32 - 1), (2**64 - 1, 1), (2**64 - 8, 16)):
            request(world, op, page=page, count=count, version=1)
    request(world, ALLOCATE, count=LIMIT["LIMIT_RESERVE_PAGES"] + 1, version=1)
    request(world, ALLOCATE, count=0, version=1)


@case(GROUP, "bits in the map beyond the interval, a status or pages done in a request", "connection reset", BAD, many=True)
def stray(world):
    request(world, WRITE, bytes(PAGE), count=1, version=1, map=bytes([0x80]) + bytes(31))
    request(world, READ, count=1, map=full_map(1))
    request(world, PING, map=b"\xff" * 32)
    request(world, READ, count=1, status=1)
    request(world, READ, count=1, status=60000)
    request(world, READ, count=1, done=1)


@case(GROUP, "bytes behind a CLOSE", "nobody reads them", None)
def behind_close(world):
    with prepared(world) as lane:
        lane.request(CLOSE)
        lane.request(WRITE, bytes(PAGE), segment=lane.id, epoch=lane.epoch, count=1, version=1, map=full_map(1))
        cuts(lane)


@case(GROUP, "a request begun and not gone on with, while others wait for its buffer", "cut after a while",
      r'ended a connection of "good" \("raw" at 127\.[\d.]+\): what it began did not come', many=True)
def stalled(world):
    lanes = [prepared(world) for _ in range(16)]  # all the buffers that there are
    size = LIMIT["LIMIT_RUN_BYTES"]
    for lane in lanes:
        lane.send(lane.sending.seal(header(WRITE, length=size, segment=lane.id, epoch=lane.epoch, count=256, version=1,
                                           map=full_map(256))))
    with prepared(world) as honest:
        page = b"\x11" * (9 * PAGE)
        head, _ = honest.call(WRITE, page, segment=honest.id, epoch=honest.epoch, count=9, version=1, map=full_map(9))
        expect(head.status == OK, f"an honest write beside: status {head.status}")
    for lane in lanes:
        lane.socket.close()


@case(GROUP, "answers asked for on many connections and never read",
      "no more than LIMIT_UNREAD_BYTES are kept; who holds most of them is cut", NOT_TAKEN, many=True)
def unread(world):
    with Unread(world) as segment, Unread(world) as another:
        lanes = []
        for one in (segment, another):
            for number in range(60):
                lane = world.attach(instance=one.instance, lane=1 + number, window=4096)
                lanes.append(lane)
                for _ in range(4):
                    lane.request(READ, segment=one.id, epoch=one.epoch, count=256)
        segment.read_beside()
        for lane in lanes:
            lane.socket.close()
