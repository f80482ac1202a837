# SPDX-License-Identifier: Apache-2.0
#
# Who has a key and abuses what lies between TCP and the records of a gRPC lane: HTTP/2, spoken by hand. Whatever it is,
# the connection ends or stays as small as it was, and dsmd does not grow meanwhile: its memory is watched at every
# moment of a case, since a flood that is forgotten afterwards would have ended a server without room.
import contextlib
import os
import re
import socket
import struct
import threading
import time

from raw import (CLOSE, CONTROL, GRPC, HEADER, LIMIT, OK, PAGE, PING, READ, TAG, WRITE, Ended, Head, Raw, full_map, header,
                 records)
from world import NOT_TAKEN, PATIENCE_S, Failed, Unread, Watched, case, expect

GROUP = "streams"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING_FRAME, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MUCH = r'ended a connection of "good" \("raw" at 127\.[\d.]+\): what came beside its requests is too much, or no HTTP/2 of ours'
BAD = r'ended a connection of "good" \("raw" at 127\.[\d.]+\): what came does not open, or is no request'
FLOOD_BYTES = 24 << 20  # much more than an honest connection leaves unexplained


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    return struct.pack(">I", len(payload) if length is None else length)[1:] + struct.pack(
        ">BBI", kind, flags, stream) + payload


def field(name, value):
    """A literal, not indexed."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


CALL = b"".join(field(*pair) for pair in (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/dsm.Lane/Stream"), (b":authority", b"dsm"),
    (b"te", b"trailers"), (b"content-type", b"application/grpc")))


class Stream(Raw):
    """A gRPC lane: its call is open on stream 1 and has answered a ping."""

    def __init__(self, world, *, settings=b"", attachment=None, **claims):
        super().__init__(world, kind=GRPC, **claims)
        self.windows, self.first_window = [65535, 65535], 65535  # of the connection, of the call: bytes that may be sent
        self.attach(**(attachment or {}))
        self.send(PREFACE + frame(SETTINGS, payload=settings) + frame(HEADERS, END_HEADERS, 1, CALL))
        self.say(self.sending.seal(header(PING)))

    def say(self, message, stream=1, flags=0, prefix=None):
        prefix = struct.pack(">BI", 0, len(message)) if prefix is None else prefix
        self.windows = [window - len(prefix + message) for window in self.windows]
        self.send(frame(DATA, flags, stream, prefix + message))

    def frame(self):
        head = self.receive(9)
        kind, payload = head[3], self.receive(int.from_bytes(head[:3], "big"))
        if kind == WINDOW:
            self.windows[head[8] & 1] += int.from_bytes(payload, "big")
        if kind == SETTINGS:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 4:
                    self.windows[1], self.first_window = self.windows[1] + value - self.first_window, value
        return kind, head[4], payload

    def hear(self):
        """The next message of the call, opened: its header."""
        got = b""
        while True:
            kind, _, payload = self.frame()
            got += payload if kind == DATA else b""
            if len(got) >= 5 and len(got) >= 5 + int.from_bytes(got[1:5], "big"):
                return Head(self.receiving.open(got[5:5 + HEADER + TAG]))

    def say_long(self, message, missing=0):
        """A message of any length, as fast as the server's windows let it; missing: bytes that it has and that do not come."""
        data = struct.pack(">BI", 0, len(message) + missing) + message
        while data:
            size = min(16384, len(data), *self.windows)
            if size <= 0:
                self.frame()
                continue
            self.send(frame(DATA, 0, 1, data[:size]))
            self.windows, data = [window - size for window in self.windows], data[size:]

    def pours(self, data, most=FLOOD_BYTES):
        """Sends this again and again, reading nothing, until the server ends the connection. Bytes that it took."""
        sent, chunk = 0, data * max(1, 65536 // len(data))
        try:
            while sent < most:
                sent += self.socket.send(chunk)
        except (BrokenPipeError, ConnectionResetError):
            return sent
        except TimeoutError:
            raise Failed("it is neither read nor ended")
        self.ends(1 << 30)
        return sent


def stream(world, **claims):
    lane = Stream(world, **claims)
    expect(lane.hear().status == OK, "a ping")
    return lane


def flood(world, data, settings=b"", most=FLOOD_BYTES):
    with stream(world, settings=settings) as lane, Watched(world):
        took = lane.pours(data, most)
        expect(took < most, f"all of {took >> 20} MiB was taken")


def calls(count, first=3):
    return b"".join(frame(HEADERS, END_HEADERS, number, CALL) + frame(RST, 0, number, struct.pack(">I", 8))
                    for number in range(first, first + 2 * count, 2))


@case(GROUP, "rapid reset: calls that are begun and reset without end", "cut", MUCH)
def rapid_reset(world):
    with stream(world) as lane, Watched(world):
        took = lane.pours(calls(20000))
        expect(took < FLOOD_BYTES, "all of it was taken")


@case(GROUP, "rapid reset on many connections at once", "each is cut; memory stays within its bound", MUCH, many=True)
def rapid_resets(world):
    lanes = [stream(world) for _ in range(24)]
    data = calls(20000)
    with Watched(world):
        threads = [threading.Thread(target=lane.pours, args=(data,)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for lane in lanes:
        lane.socket.close()


@case(GROUP, "calls that are begun and left open", "cut", MUCH)
def many_calls(world):
    with stream(world) as lane, Watched(world):
        lane.pours(b"".join(frame(HEADERS, END_HEADERS, number, CALL) for number in range(3, 40000, 2)))


@case(GROUP, "SETTINGS without end", "cut", MUCH)
def settings(world):
    flood(world, frame(SETTINGS, payload=struct.pack(">HI", 4, 65535)))


@case(GROUP, "SETTINGS that change windows and tables back and forth", "cut", MUCH)
def settings_windows(world):
    flood(world, frame(SETTINGS, payload=struct.pack(">HI", 4, 0)) + frame(SETTINGS, payload=struct.pack(
        ">HI", 4, 2**31 - 1)) + frame(SETTINGS, payload=struct.pack(">HI", 1, 0)))


@case(GROUP, "PING without end, answers unread", "cut", MUCH)
def pings(world):
    flood(world, frame(PING_FRAME, payload=bytes(8)))


@case(GROUP, "100 PINGs at once, which gRPC itself ends a connection for; and the client ends as soon as it does", "cut", MUCH,
      many=True)
def few_pings(world):
    def ping(lane):
        lane.send(frame(PING_FRAME, payload=bytes(8)) * 100)
        lane.ends(1 << 16)
        lane.socket.close()

    lanes = [stream(world) for _ in range(24)]
    threads = [threading.Thread(target=ping, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told, due, end = 0, len(lanes), time.monotonic() + PATIENCE_S
    while told < due:
        expect(time.monotonic() < end, f"{due - told} of {due} ends are not told")
        world.fresh_second()
        told += world.log.count(MUCH)
        if told < due:  # how many lines were left out is told with the next one
            ping(stream(world))
            due += 1
    ping(stream(world))


@case(GROUP, "PING acknowledgements that nobody asked for", "cut", MUCH)
def pongs(world):
    flood(world, frame(PING_FRAME, ACK, payload=bytes(8)))


@case(GROUP, "PRIORITY without end", "cut", MUCH)
def priorities(world):
    flood(world, frame(PRIORITY, 0, 1, bytes(5)))


@case(GROUP, "window updates without end", "cut", MUCH)
def windows(world):
    flood(world, frame(WINDOW, 0, 0, struct.pack(">I", 1)))


@case(GROUP, "a window that overflows", "cut", MUCH)
def window_overflow(world):
    flood(world, frame(WINDOW, 0, 1, struct.pack(">I", 2**31 - 1)))


@case(GROUP, "empty DATA frames without end", "cut", MUCH)
def empty_data(world):
    flood(world, frame(DATA, 0, 1))


@case(GROUP, "frames of no known kind", "cut", MUCH)
def unknown_frames(world):
    flood(world, frame(0x77, 0xFF, 1, bytes(16000)))


@case(GROUP, "a header block that never ends", "cut", MUCH)
def continuation(world):
    with stream(world) as lane, Watched(world):
        lane.send(frame(HEADERS, 0, 3, CALL))
        took = lane.pours(frame(CONTINUATION, 0, 3, field(b"x", b"y" * 100) * 100))
        expect(took < FLOOD_BYTES, "all of it was taken")


@case(GROUP, "a header that grows when it is unpacked (an entry of the table, named 16,000 times)", "cut", MUCH)
def table(world):
    block = CALL + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 16000
    with stream(world) as lane, Watched(world):
        took = lane.pours(b"".join(frame(HEADERS, 0, number, block[:16000]) + frame(CONTINUATION, 4, number, block[16000:])
                                   for number in range(3, 400, 2)))
        expect(took < FLOOD_BYTES, "all of it was taken")


@contextlib.contextmanager
def shut_reader(world):
    """A lane that lets no answer in (a window of 0), and a READ that it may say, with an answer of 1 MiB."""
    with stream(world) as lane:
        good_lane = world.attach()
        id, epoch = good_lane.create("streams/read", 1 << 20, flags=0)
        good_lane.call(WRITE, b"\7" * (1 << 20), segment=id, epoch=epoch, count=256, version=1, map=full_map(256))
        good_lane.control(close=[(1, id)])
        lane.say(lane.sending.seal(header(CONTROL, length=len(open_message := b"\x12\x0e\x0a\x0cstreams/read"))) + records(
            lane.sending, open_message))
        expect(lane.hear().status == OK, "open")
        lane.send(frame(SETTINGS, payload=struct.pack(">HI", 4, 0)))
        yield lane, header(READ, segment=id, epoch=epoch, count=256)
        lane.socket.close()
        world.settles("readers", lambda: good_lane.delete("streams/read", id), OK)
        good_lane.socket.close()


@case(GROUP, "answers asked for and never let in (a window of 0)", "no more than LIMIT_LANE_IN_FLIGHT_BYTES wait", None)
def shut_window(world):
    with shut_reader(world) as (lane, read), Watched(world):
        for _ in range(200):
            lane.say(lane.sending.seal(read))
        time.sleep(1)


@case(GROUP, "answers asked for on many connections and never let in (windows of 0)",
      "no more than LIMIT_UNREAD_BYTES wait; who holds most of them is cut", NOT_TAKEN, many=True)
def unread(world):
    with Unread(world) as segment:
        lanes = [stream(world, attachment=dict(instance=segment.instance, lane=1 + number)) for number in range(60)]
        for lane in lanes:
            lane.send(frame(SETTINGS, payload=struct.pack(">HI", 4, 0)))
            for _ in range(4):
                lane.say(lane.sending.seal(header(READ, segment=segment.id, epoch=segment.epoch, count=256)))
        segment.read_beside()
        for lane in lanes:
            lane.socket.close()


@case(GROUP, "a call of another method, and no call at all", "the call fails, the connection goes nowhere", None)
def no_call(world):
    with Raw(world, kind=GRPC) as lane:
        lane.attach()
        lane.send(PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, CALL.replace(b"Stream", b"Strong")))
        time.sleep(0.2)
    with Raw(world, kind=GRPC) as lane:
        lane.attach()
        lane.send(PREFACE + frame(SETTINGS))
        time.sleep(0.2)


@case(GROUP, "no preface of HTTP/2: another one, a byte, a request, another frame than SETTINGS behind it", "gRPC ends it, without a call",
      MUCH, many=True)
def preface(world):
    def says(data):
        with Raw(world, kind=GRPC) as lane:
            lane.attach()
            lane.send(data)
            lane.ends(1 << 16)
        return lane

    for data in (PREFACE.replace(b"2.0", b"1.1") + frame(SETTINGS), b"x", b"GET / HTTP/1.1\r\n\r\n"):
        world.log.wait(MUCH.replace(r"127\.[\d.]+", re.escape(says(data).address)))
    says(PREFACE + frame(PING_FRAME, payload=bytes(8)))


@case(GROUP, "a header block without its end, padded DATA, DATA of another call, a header that is compressed", "cut", MUCH,
      many=True)
def not_ours(world):
    for data in (frame(HEADERS, 0, 3, CALL), frame(DATA, PADDED, 1, b"\1\0\0\0\0\1xx"), frame(DATA, 0, 3, b"\0\0\0\0\1x"),
                 frame(DATA, 0, 1, b"\1\0\0\0\1x")):
        with stream(world) as lane:
            lane.send(data)
            lane.ends(1 << 16)


@case(GROUP, "long messages begun on many connections and never ended, and one ended behind answers that are never let in",
      "no more than LIMIT_UNFINISHED_BYTES are kept; who holds room that others wait for is cut",
      r'ended a connection of "good" \("raw" at 127\.[\d.]+\): what it began did not come', many=True)
def unfinished(world):
    run, instance = LIMIT["LIMIT_RUN_BYTES"], os.urandom(16)

    def begin(lane):
        lane.socket.settimeout(10)
        try:
            lane.say_long(lane.sending.seal(header(WRITE, length=run, count=256, version=1, map=full_map(256)))
                          + bytes(run * 3 // 4), missing=run // 4)
        except (TimeoutError, Ended):
            pass

    lanes, threads = [], []

    def begin_on(count):
        for _ in range(count):
            lanes.append(stream(world))
            threads.append(threading.Thread(target=begin, args=(lanes[-1],)))
            threads[-1].start()
        time.sleep(0.5)

    with Watched(world), shut_reader(world) as (reader, read), world.attach(instance=instance) as keeper:
        for _ in range(LIMIT["LIMIT_LANE_IN_FLIGHT_BYTES"] // run):
            reader.say(reader.sending.seal(read))
        reader.say_long(bytes(20000))  # not taken while so much waits
        reader.send(frame(PING_FRAME, payload=bytes(8)))
        while reader.frame()[0] != PING_FRAME:
            pass  # it has room then
        id, epoch = keeper.create("streams/honest", run)
        with stream(world, attachment=dict(instance=instance, lane=1)) as honest:
            begin_on(28)  # more than there is room for
            writer = threading.Thread(target=honest.say_long, args=(
                honest.sending.seal(header(WRITE, length=run, segment=id, epoch=epoch, count=256, version=1,
                                           map=full_map(256))) + records(honest.sending, b"\x11" * run),))
            writer.start()
            begin_on(28)  # behind it
            writer.join()
            expect(honest.hear().status == OK, "an honest write beside")
        reader.ends(1 << 16)
        for lane in lanes:
            lane.socket.close()
        for thread in threads:
            thread.join()


def says(world, message):
    with stream(world) as lane:
        lane.say(message(lane))
        lane.ends(1 << 16)


@case(GROUP, "a message with a flipped bit, cut, with bytes behind it, empty, without its payload", "cut", BAD, many=True)
def messages(world):
    def flipped(lane):
        sealed = bytearray(lane.sending.seal(header(PING)))
        sealed[50] ^= 4
        return bytes(sealed)

    says(world, flipped)
    says(world, lambda lane: lane.sending.seal(header(PING))[:-1])
    says(world, lambda lane: lane.sending.seal(header(PING)) + b"x")
    says(world, lambda lane: b"")
    says(world, lambda lane: lane.sending.seal(header(WRITE, length=PAGE, count=1, version=1, map=full_map(1))))


@case(GROUP, "a message of 4 GiB", "cut", MUCH)
def long_message(world):
    with stream(world) as lane, Watched(world):
        lane.say(b"x" * 100, prefix=struct.pack(">BI", 0, 2**32 - 1))
        took = lane.pours(frame(DATA, 0, 1, bytes(16000)))
        expect(took < FLOOD_BYTES, "all of it was taken")


@case(GROUP, "plain records instead of HTTP/2", "cut", MUCH)
def no_http2(world):
    with Raw(world, kind=GRPC) as lane:
        lane.attach()
        lane.send(lane.sending.seal(header(PING)) * 3)
        lane.ends(1 << 16)


@case(GROUP, "frames that are too long, on stream 0, of wrong sizes", "cut", MUCH)
def malformed(world):
    for data in (frame(DATA, 0, 1, length=2**24 - 1), frame(DATA, 0, 0, b"x" * 10), frame(RST, 0, 1, b"x"),
                 frame(SETTINGS, 0, 0, b"x" * 5), frame(WINDOW, 0, 1, bytes(4)), frame(PUSH, 4, 1, bytes(20)),
                 frame(HEADERS, END_HEADERS, 2, CALL), frame(CONTINUATION, 4, 1, b""),
                 frame(DATA, PADDED, 1, b"\xff" + b"x" * 10), frame(HEADERS, END_HEADERS, 3, b"\xff\xff\xff\xff\xff\xff")):
        with stream(world) as lane:
            lane.send(data)
            lane.send(b"\xff" * (1 << 18))  # whatever it still waits for
            try:
                lane.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has ended already
            lane.ends(1 << 20)
