# SPDX-License-Identifier: Apache-2.0
#
# Who has no key, or lies in the handshake: what does not open is dropped without an answer, what opens but may not come
# in is told why.
import os
import socket
import time

from raw import (AES, CHACHA, GRPC, HEADER, INVALID, LIMIT, LOW_ORDER, MESSAGE_2, NOT_ALLOWED, OLD_VERSION, SOCK,
                 STALE_GENERATION, TAG, TOO_MANY, UNAUTHORIZED, WRONG_CLUSTER, WRONG_SERVER, Cipher, Ended, public_of)
from world import case, expect, told

BROKEN = r"dropped 127\.[\d.]+: the handshake failed"
GROUP = "strangers"


def says(world, data, half_close=False):
    """These bytes and nothing else: no answer."""
    with world.connect() as one:
        one.send(data)
        if half_close:
            one.socket.shutdown(socket.SHUT_WR)
        one.ends()


@case(GROUP, "garbage", "dropped without an answer", BROKEN)
def garbage(world):
    says(world, os.urandom(300))


@case(GROUP, "an HTTP request", "dropped at its first byte", BROKEN)
def http(world):
    says(world, b"G")
    says(world, b"GET / HTTP/1.1\r\nHost: dsmd\r\n\r\n")


@case(GROUP, "HTTP/2 without a handshake", "dropped without an answer", BROKEN)
def http2(world):
    says(world, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")


@case(GROUP, "a TLS hello", "dropped at its first byte", BROKEN)
def tls(world):
    says(world, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(505))


def flips(world, first, last, every=1):
    with world.connect() as one:
        whole = one.message_1()
        one.socket.close()
    for bit in range(first, last, every):
        wrong = bytearray(whole)
        wrong[bit // 8] ^= 1 << bit % 8
        says(world, bytes(wrong))


@case(GROUP, "every bit of the hello flipped", "dropped without an answer", BROKEN, many=True)
def hello_bits(world):
    flips(world, 0, 160 * 8)


@case(GROUP, "every bit of message 1 flipped", "dropped without an answer", BROKEN, many=True)
def message_1_bits(world):
    flips(world, 160 * 8, 256 * 8)


@case(GROUP, "hello and message 1 cut at every byte", "dropped without an answer", BROKEN, many=True)
def cut(world):
    with world.connect() as one:
        whole = one.message_1()
    for count in range(len(whole)):
        says(world, whole[:count], half_close=True)


def attach_changed(world, change):
    """A whole handshake up to a wrong ATTACH: no answer to it."""
    with world.connect() as one:
        one.shake()
        one.send(change(one.attachment()))
        one.socket.shutdown(socket.SHUT_WR)
        one.ends()


@case(GROUP, "a bit of every byte of the sealed ATTACH flipped", "dropped without an answer", BROKEN, many=True)
def attach_bits(world):
    for at in range(HEADER + TAG + 160 + TAG):
        attach_changed(world, lambda sealed: sealed[:at] + bytes([sealed[at] ^ 1 << at % 8]) + sealed[at + 1:])


@case(GROUP, "the sealed ATTACH cut at every eighth byte", "dropped without an answer", BROKEN, many=True)
def attach_cut(world):
    for count in range(0, HEADER + TAG + 160 + TAG, 8):
        attach_changed(world, lambda sealed: sealed[:count])


@case(GROUP, "another prologue than the hello: each of its fields", "dropped without an answer", BROKEN, many=True)
def prologue(world):
    for claims in (dict(role=2), dict(kind=GRPC), dict(cluster="other"), dict(server="other"), dict(version=2)):
        with world.connect(**claims) as other, world.connect() as one:
            one.send(one.message_1(prologue=other.hello))
            one.ends()


@case(GROUP, "a suite that is not the hello's, or none", "dropped without an answer", BROKEN, many=True)
def suite(world):
    for said, used in ((AES, CHACHA), (CHACHA, AES), (0, CHACHA), (3, CHACHA), (255, AES)):
        with world.connect(suite=said) as one:
            one.send(one.message_1(suite=used))
            one.ends()


@case(GROUP, "another pre-shared key", "cannot open message 2; its ATTACH is dropped", BROKEN)
def psk(world):
    with world.connect(psk=b"\1" * 32) as one:
        one.send(one.message_1())
        one.receive(MESSAGE_2 + HEADER + TAG)  # sealed with what we do not have
        one.sending = Cipher(CHACHA, os.urandom(32))
        one.send(one.attachment())
        one.ends()


@case(GROUP, "made for another server's key", "dropped without an answer", BROKEN)
def server_key(world):
    with world.connect(server_public=public_of(os.urandom(32))) as one:
        one.send(one.message_1())
        one.ends()


def low_order(world, token):
    for point in LOW_ORDER:
        with world.connect() as one:
            one.send(one.message_1(**{token: point}))
            one.ends()


@case(GROUP, "an ephemeral key of low order, with the secret that it leads to", "dropped without an answer", BROKEN,
      many=True)
def low_order_ephemeral(world):
    low_order(world, "e")


@case(GROUP, "a static key of low order, with the secret that it leads to", "dropped without an answer", BROKEN,
      many=True)
def low_order_static(world):
    low_order(world, "s")


@case(GROUP, "message 1 replayed", "gets no further: no session, no lane", BROKEN)
def replay(world):
    kept = world.connect()
    message = kept.message_1()
    kept.socket.close()
    sessions = 'dsmd_principal_sessions{principal="good"}'  # its own: the program beside comes and goes
    before = world.metric(sessions)
    expect(before >= 1, "the good session is not counted")
    for _ in range(3):
        with world.connect() as one:
            one.send(message)
            one.receive(MESSAGE_2 + HEADER + TAG)
            time.sleep(0.15)  # longer than a page of metrics is kept
            expect(world.metric(sessions) == before, "a replay has a session")
            one.send(os.urandom(HEADER + TAG + 160 + TAG))
            one.ends()
    time.sleep(0.15)
    expect(world.metric(sessions) == before, "a replay has left a session")


@case(GROUP, "the server's own message 2 and verdict sent back", "dropped without an answer", BROKEN)
def reflection(world):
    with world.connect() as one:
        one.send(one.message_1())
        answer = one.receive(MESSAGE_2 + HEADER + TAG)
        one.send(answer + answer[MESSAGE_2:] * 2)
        one.ends()


@case(GROUP, "the ATTACH of another connection", "dropped without an answer", BROKEN)
def attach_of_another(world):
    with world.connect() as one, world.connect() as other:
        one.shake()
        other.shake()
        one.send(other.attachment())
        one.ends()


@case(GROUP, "bytes before it is its turn", "dropped without an answer", BROKEN)
def too_early(world):
    with world.connect() as one:
        one.send(one.message_1() + bytes(64))
        one.ends()


@case(GROUP, "a hello with a version of 0, a role, a kind of lane, reserved bytes or names that there are not",
      "dropped without an answer", BROKEN, many=True)
def hello_fields(world):
    for claims in (dict(version=0), dict(role=0), dict(role=4), dict(kind=0), dict(kind=3), dict(reserved=b"\1" * 19),
                   dict(cluster=""), dict(cluster="a/b"), dict(cluster=b"a\0b"), dict(cluster=b"\xff\xfe"),
                   dict(cluster="x" * 64), dict(server="x" * 64), dict(server="a b"), dict(server=b"x\n"), dict(magic=b"dsm-Lane")):
        with world.connect(**claims) as one:
            one.send(one.message_1())
            one.ends()


@case(GROUP, "a version from the future", "told: OLD_VERSION", r"refused 127\.[\d.]+: This server speaks version 1, not 2:")
def version(world):
    for number in (65535, 2):
        with world.connect(version=number) as one:
            told(OLD_VERSION, "speaks version 1", of=one.shake)
            one.ends()


@case(GROUP, "a key that is not authorized", "told: UNAUTHORIZED",
      r"refused 127\.[\d.]+: This key is not in the server's authorized file")
def unauthorized(world):
    with world.connect(key="stranger") as one:
        told(UNAUTHORIZED, "authorized file", of=one.shake)
        one.ends()


@case(GROUP, "another cluster", "told: WRONG_CLUSTER", r'refused 127\.[\d.]+: This server belongs to cluster "default", not "x"')
def cluster(world):
    with world.connect(cluster="x") as one:
        told(WRONG_CLUSTER, "belongs to cluster", of=one.shake)
        one.ends()


@case(GROUP, "another server's name", "told: WRONG_SERVER", r'refused 127\.[\d.]+: This server is "dsmd", not "y"')
def server_name(world):
    with world.connect(server="y") as one:
        told(WRONG_SERVER, 'is "dsmd"', of=one.shake)
        one.ends()


@case(GROUP, "an ATTACH with a lane of 64, a holder that is no text, reserved bytes", "dropped without an answer", BROKEN,
      many=True)
def attach_fields(world):
    for claims in (dict(lane=LIMIT["LIMIT_LANES_PER_SESSION"]), dict(lane=2**32 - 1), dict(holder=b"\x1b[31m"),
                   dict(holder=b"a\0b"), dict(holder="h" * 96), dict(reserved=b"\1" * 36)):
        with world.connect() as one:
            one.shake()
            one.send(one.attachment(**claims))
            one.ends()


@case(GROUP, "a lane of generation 0", "told: INVALID", r"refused a lane of 127\.[\d.]+: Lane or generation is out of range")
def generation_zero(world):
    told(INVALID, "out of range", of=lambda: world.attach(generation=0))


@case(GROUP, "a lane no newer than the one that is there", "told: STALE_GENERATION",
      r"refused a lane of 127\.[\d.]+: a newer connection has taken this lane's place")
def generation_old(world):
    instance = os.urandom(16)
    with world.attach(instance=instance, generation=2**64 - 1):
        told(STALE_GENERATION, of=lambda: world.attach(instance=instance, generation=2**64 - 1))
        told(STALE_GENERATION, of=lambda: world.attach(instance=instance, generation=1))


@case(GROUP, "another key's session", "told: NOT_ALLOWED", r"refused a lane of 127\.[\d.]+: This session belongs to another key")
def session_of_another(world):
    instance = os.urandom(16)
    with world.attach(instance=instance):
        told(NOT_ALLOWED, "another key", of=lambda: world.attach("small", instance=instance, lane=1))


@case(GROUP, "more connections than the key may have", "told: TOO_MANY", r"refused a lane of 127\.[\d.]+: a limit on")
def connections(world):
    lanes = [world.attach("few") for _ in range(3)]  # connections=3
    told(TOO_MANY, of=lambda: world.attach("few"))
    for lane in lanes:
        expect(lane.ping() == 0, "a lane within the limit does not answer")
        lane.close_politely()


@case(GROUP, "more failures of an address than it may have", "its connections are closed unread",
      r"dropped 127\.[\d.]+: too many failed handshakes", many=True)
def failures(world):
    address, begin = world.address(), time.monotonic()
    sample = 'dsmd_handshakes_refused_total{reason="too_many_failures"}'
    before = world.metric(sample)
    while time.monotonic() < begin + 3.3:  # into a second whose lines are not used up
        with world.connect(source=address) as one:
            one.send(b"x" * 256)
            one.ends()
    time.sleep(0.2)
    expect(world.metric(sample) > before, "every failure was looked at")
    with world.connect() as other:  # another address is none the worse
        other.attach()


@case(GROUP, "silence; one byte; all but the last byte", "dropped after LIMIT_HANDSHAKE_MS",
      r"dropped 127\.[\d.]+: no handshake within its time")
def silence(world):
    begin = time.monotonic()
    with world.connect() as mute, world.connect() as slow, world.connect() as nearly, world.connect() as shaken:
        slow.send(b"d")
        nearly.send(nearly.message_1()[:-1])
        shaken.shake()
        for one in (mute, slow, nearly, shaken):
            one.ends()
        took = (time.monotonic() - begin) * 1000
        expect(took >= LIMIT["LIMIT_HANDSHAKE_MS"] - 100, f"dropped after {took:.0f} ms")
