# SPDX-License-Identifier: Apache-2.0
#
# A client of dsmd that can say every wrong thing. It is written from the specification of Noise and from the layouts of
# the wire alone and shares nothing with rpc/ but the numbers of limits.h: Noise_IKpsk2 with its own tokens, records,
# headers, control messages. What a field holds is never checked here; that is the server's business.
import base64
import hashlib
import hmac
import os
import re
import socket
import struct
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
AES, CHACHA = 1, 2  # suites
SOCK, GRPC = 1, 2  # kinds of lanes
CLIENT, TOOL = 1, 2  # roles
ATTACH, READ, WRITE, DISCARD, CONTROL, PING, CLOSE, GIVE_UP, ALLOCATE = range(1, 10)
ANSWER = 0x8000
(OK, FENCED, NO_SEGMENT, NOT_OPEN, BOUNDS, NO_SPACE, OVER_QUOTA, NOT_ALLOWED, STORE_ERROR, BUSY, EXISTS, INVALID,
 TOO_MANY, DRAINING, UNAUTHORIZED, WRONG_CLUSTER, WRONG_SERVER, OLD_VERSION, STALE_GENERATION, EXPIRED, USED) = range(21)
HELLO, MESSAGE_1, MESSAGE_2, HEADER, ATTACH_BYTES, ATTACHED_BYTES, TAG, MAP = 160, 96, 48, 96, 160, 256, 16, 32
PAGE = 4096
NO_HINT = 2**64 - 1
# Public keys whose product with anything is zero (RFC 7748, section 6.1, and their other spellings below 2^255).
P = 2**255 - 19
LOW_ORDER = [point.to_bytes(32, "little") for point in (
    0, 1, P - 1, P, P + 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823)]


def limits():
    """The numbers of limits.h."""
    text = re.sub(r"//[^\n]*", "", open(os.path.join(ROOT, "rpc", "limits.h")).read())
    known = {}
    for name, value in re.findall(r"\b(LIMIT_\w+)\s*=\s*([^,}]+)", text) + re.findall(
            r"#define (LIMIT_\w+) ([^\n]+)", text):
        known[name] = eval(re.sub(r"(?<=\d)(ULL|LL)", "", value).replace("/", "//"), {}, known)  # the last one counts
    return known


LIMIT = limits()


class Refused(Exception):
    """The server told a reason."""

    def __init__(self, status, text):
        super().__init__(f"status {status}: {text}")
        self.status, self.text = status, text


class Ended(Exception):
    """The server ended the connection without a word."""


def mix(*parts):
    return hashlib.blake2b(b"".join(parts)).digest()


def hkdf(key, data, count):
    secret, out, last = hmac.new(key, data, hashlib.blake2b).digest(), [], b""
    for number in range(1, count + 1):
        last = hmac.new(secret, last + bytes([number]), hashlib.blake2b).digest()
        out.append(last)
    return out


def public_of(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def exchange(private, public):
    """Zeros where the other point is of low order: who sends such a point knows the secret."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return bytes(32)


class Cipher:
    def __init__(self, suite, key):
        self.suite, self.key, self.nonce = suite, key, 0
        self.aead = AESGCM(key) if suite == AES else ChaCha20Poly1305(key)

    def iv(self):
        self.nonce += 1
        return bytes(4) + (self.nonce - 1).to_bytes(8, "big" if self.suite == AES else "little")

    def seal(self, plain, ad=b""):
        return self.aead.encrypt(self.iv(), plain, ad)

    def open(self, sealed, ad=b""):
        return self.aead.decrypt(self.iv(), sealed, ad)


class Symmetric:
    """The running hash and the chaining key."""

    def __init__(self, suite, prologue, server_public):
        name = b"Noise_IKpsk2_25519_" + (b"AESGCM" if suite == AES else b"ChaChaPoly") + b"_BLAKE2b"
        self.suite, self.hash, self.cipher = suite, name.ljust(64, b"\0"), None
        self.chain = self.hash
        self.mix_hash(prologue)
        self.mix_hash(server_public)

    def mix_hash(self, data):
        self.hash = mix(self.hash, data)

    def mix_key(self, data):
        self.chain, key = hkdf(self.chain, data, 2)
        self.cipher = Cipher(self.suite, key[:32])

    def mix_psk(self, psk):
        self.chain, between, key = hkdf(self.chain, psk, 3)
        self.mix_hash(between)
        self.cipher = Cipher(self.suite, key[:32])

    def token_e(self, public):
        self.mix_hash(public)
        self.mix_key(public)

    def encrypt(self, plain):
        sealed = self.cipher.seal(plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed):
        plain = self.cipher.open(sealed, self.hash)
        self.mix_hash(sealed)
        return plain

    def split(self):
        return [Cipher(self.suite, key[:32]) for key in hkdf(self.chain, b"", 2)]


def initiate(suite, prologue, server_public, private, *, e=None, s=None):
    """Message 1, and what message 2 needs. e, s: public keys to claim instead of our own."""
    ephemeral = os.urandom(32)
    state = Symmetric(suite, prologue, server_public)
    e = e or public_of(ephemeral)
    state.token_e(e)
    state.mix_key(bytes(32) if e in LOW_ORDER else exchange(ephemeral, server_public))
    static = state.encrypt(s or public_of(private))
    state.mix_key(bytes(32) if s in LOW_ORDER else exchange(private, server_public))
    return e + static + state.encrypt(b""), (state, ephemeral)


def complete(started, private, psk, message):
    """Opens message 2: (sending, receiving)."""
    state, ephemeral = started
    remote = message[:32]
    state.token_e(remote)
    state.mix_key(exchange(ephemeral, remote))
    state.mix_key(exchange(private, remote))
    state.mix_psk(psk)
    state.decrypt(message[32:])
    return state.split()


def respond(suite, prologue, private, psk, message, *, e=None):
    """The server's part: (message 2, receiving, sending)."""
    state = Symmetric(suite, prologue, public_of(private))
    remote = message[:32]
    state.token_e(remote)
    state.mix_key(exchange(private, remote))
    static = state.decrypt(message[32:80])
    state.mix_key(exchange(private, static))
    state.decrypt(message[80:])
    ephemeral = os.urandom(32)
    e = e or public_of(ephemeral)
    state.token_e(e)
    state.mix_key(exchange(ephemeral, remote))
    state.mix_key(exchange(ephemeral, static))
    state.mix_psk(psk)
    message = e + state.encrypt(b"")
    return (message, *state.split())


def key_of(path):
    """The private key of a key file, or the public one of its .pub."""
    return base64.b64decode(open(path).read().split()[0])


def name_field(name, room):
    return (name if isinstance(name, bytes) else name.encode()).ljust(room, b"\0")[:room]


def hello(*, magic=b"dsm-lane", version=1, suite=CHACHA, role=CLIENT, kind=SOCK, reserved=bytes(19), cluster="default",
          server=""):
    return (magic + struct.pack("<HBBB", version, suite, role, kind) + reserved
            + name_field(cluster, LIMIT["LIMIT_CLUSTER_NAME_BYTES"]) + name_field(server, LIMIT["LIMIT_SERVER_NAME_BYTES"]))


def header(op, *, status=0, length=0, request=1, segment=0, epoch=0, page=0, count=0, done=0, version=0, hint=NO_HINT,
           map=bytes(MAP)):
    return struct.pack("<HHIQQQQIIQQ", op, status, length, request, segment, epoch, page, count, done, version,
                       hint) + map


class Head:
    """A header that came."""

    def __init__(self, plain):
        (self.op, self.status, self.length, self.request, self.segment, self.epoch, self.page, self.count, self.done,
         self.version, self.times) = struct.unpack_from("<HHIQQQQIIQQ", plain)
        self.map = plain[64:]


def attach_record(*, instance=None, generation=1, lane=0, holder="raw", reserved=bytes(36)):
    return (instance or os.urandom(16)) + struct.pack("<QI", generation, lane) + name_field(
        holder, LIMIT["LIMIT_HOLDER_NAME_BYTES"]) + reserved


def full_map(count):
    return ((1 << count) - 1).to_bytes(MAP, "little")


def records(cipher, payload):
    size = LIMIT["LIMIT_RECORD_DATA_BYTES"]
    return b"".join(cipher.seal(payload[at:at + size]) for at in range(0, len(payload), size))


class Raw:
    """One connection. Nothing happens by itself: a test calls step by step, or attach() for all of them."""

    def __init__(self, world, *, key="good", psk=bytes(32), server_public=None, source=None, timeout=30, window=None, **claims):
        self.world, self.private, self.psk = world, world.keys[key], psk
        self.server_public = server_public or world.server_public
        self.suite = claims.get("suite", CHACHA)
        self.hello = hello(**claims)
        self.address = source or world.address()
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if window:  # bytes that this end lets in, about
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.bind((self.address, 0))
        self.socket.connect(world.server)
        self.requests = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended: whoever reads next sees it

    def receive(self, count):
        got = b""
        while len(got) < count:
            try:
                more = self.socket.recv(count - len(got))
            except ConnectionResetError:
                more = b""
            if not more:
                raise Ended(f"{len(got)} of {count} bytes")
            got += more
        return got

    def ends(self, most=0):
        """What comes until the server ends the connection, which it must."""
        got = b""
        try:
            while more := self.socket.recv(65536):
                got += more
        except ConnectionResetError:
            pass
        if len(got) > most:
            raise AssertionError(f"{len(got)} bytes in answer")
        return got

    def message_1(self, *, suite=None, prologue=None, **claims):
        message, self.started = initiate(suite or self.suite, prologue or self.hello, self.server_public, self.private,
                                         **claims)
        return self.hello + message

    def open_header(self, sealed):
        return Head(self.receiving.open(sealed))

    def verdict(self):
        """Message 2 and what it says: raises when that is a refusal."""
        self.sending, self.receiving = complete(self.started, self.private, self.psk, self.receive(MESSAGE_2))
        return self.answered()

    def answered(self):
        head = self.open_header(self.receive(HEADER + TAG))
        record = self.receiving.open(self.receive(head.length + TAG)) if head.length else b""
        if head.status != OK:
            raise Refused(head.status, record[32:224].rstrip(b"\0").decode())
        return record

    def shake(self):
        self.send(self.message_1())
        self.verdict()

    def attachment(self, **claims):
        return self.sending.seal(header(ATTACH, length=ATTACH_BYTES, request=0, hint=0)) + self.sending.seal(
            attach_record(**claims))

    def attach(self, **claims):
        self.shake()
        self.send(self.attachment(**claims))
        self.answered()
        return self

    def request(self, op, payload=b"", **fields):
        self.requests += 1
        fields.setdefault("request", self.requests)
        fields.setdefault("length", len(payload))
        self.send(self.sending.seal(header(op, **fields)) + records(self.sending, payload))

    def answer(self):
        head = self.open_header(self.receive(HEADER + TAG))
        payload, left = b"", head.length
        while left:
            size = min(left, LIMIT["LIMIT_RECORD_DATA_BYTES"])
            payload += self.receiving.open(self.receive(size + TAG))
            left -= size
        return head, payload

    def call(self, op, payload=b"", **fields):
        self.request(op, payload, **fields)
        return self.answer()

    def control(self, **body):
        """A control message of one operation: (status, answer's fields)."""
        return self.control_bytes(control_message(**body))

    def control_bytes(self, message):
        head, payload = self.call(CONTROL, message)
        return head.status, fields_of(payload)

    def ping(self):
        return self.call(PING)[0].status

    def create(self, name, size=16 * PAGE, page_bytes=PAGE, *, operation=None, kind=0, flags=2):
        """A segment, ephemeral unless told otherwise: (id, epoch), or the refusal."""
        status, fields = self.control(create=[(1, operation or os.urandom(16)), (2, name), (3, size), (4, page_bytes),
                                              (5, kind), (6, flags)])
        if status != OK:
            raise Refused(status, fields.get(1, [b""])[0].decode(errors="replace"))
        info = fields_of(fields[2][0])
        return info[1][0], info[8][0]

    def delete(self, name, id):
        self.control(close=[(1, id)])
        return self.control(delete=[(1, os.urandom(16)), (2, name)])[0]

    def close_politely(self):
        self.request(CLOSE)
        self.socket.close()


# Control messages, by the numbers of dsm.proto.
BODY = dict(create=1, open=2, close=3, delete=4, list=5, stat=6, none=7, clone=8, code=9, seal=10, image_check=11,
            image_park=12, image_commit=13, image_abort=14)


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(fields):
    out = b""
    for number, value in fields:
        if isinstance(value, list):
            value = encode(value)
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes):
            if value:
                out += varint(number << 3 | 2) + varint(len(value)) + value
        elif value:
            out += varint(number << 3) + varint(value)
    return out


def control_message(**body):
    ((name, fields),) = body.items()
    inner = encode(fields)
    return varint(BODY[name] << 3 | 2) + varint(len(inner)) + inner


def fields_of(message):
    """{number: [values]} of a protobuf message of varints and bytes."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            value = number()
        else:
            size = number()
            value = message[at:at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found
