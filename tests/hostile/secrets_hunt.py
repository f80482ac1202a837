# SPDX-License-Identifier: Apache-2.0
#
# secrets_hunt.py DIRECTORY HOST PORT PID METRICS_PORT LIBRARY: plants secrets, and searches for them on the wire, in the log, in dsmd's
# memory and in that of a program of the library, and in the program's core. As root. See secrets.sh.
import base64
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

from raw import AES, CHACHA, GRPC, OK, PAGE, READ, SOCK, WRITE, full_map, key_of
from streams import Stream
from world import PATIENCE_S, World, expect

world = World(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
psk = key_of(os.path.join(world.directory, "psk.key"))


class Capture:
    """Every byte on the loopback device."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.2)
        self.packets, self.done = [], False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                self.packets.append(self.socket.recv(1 << 17))
            except TimeoutError:
                if self.done:
                    return

    def end(self):
        self.done = True
        self.thread.join()
        return b"\n".join(self.packets)


def mappings(pid):
    """(first, last, flags, name) of each mapping."""
    found, last = [], None
    for line in open(f"/proc/{pid}/smaps"):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line)
        if head:
            last = [int(head.group(1), 16), int(head.group(2), 16), head.group(3), head.group(4), ""]
            found.append(last)
        elif line.startswith("VmFlags:"):
            last[4] = line.split(":", 1)[1].split()
    return found


def hunt(pid, secrets):
    """Where secrets lie in a process: {name: [mapping]}."""
    found = {name: [] for name in secrets}
    begin = time.monotonic()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for first, last, access, name, flags in mappings(pid):
            unused = access.startswith("---") and last - first > 1 << 20  # what malloc reserves
            program = name.startswith("/") and not name.startswith("/memfd:") and "w" not in access
            if name.startswith(("[v", "/dev/shm", "/tmp")) or unused or program:  # the store's pages are the store's
                continue
            at = first
            while at < last:  # a page that cannot be read (a guard) ends the read short
                try:
                    memory.seek(at)
                    data = memory.read(min(last - at, 64 << 20))
                except OSError:
                    data = b""
                for secret, value in secrets.items():
                    if value in data:
                        found[secret].append((first, last, access, name, flags))
                at += len(data) or 4096
    print(f"searched in {time.monotonic() - begin:.1f} s", flush=True)
    return found


def only_locked(what, places):
    for first, last, access, name, flags in places:
        expect("lo" in flags, f"{what} lies in memory that may be swapped: {first:x}-{last:x} {access} {name} {flags}")
        expect("dd" in flags, f"{what} lies in memory that would go into a core: {first:x}-{last:x} {access} {name} {flags}")


def halves(key):
    """A key as it is, and as it stands in its file."""
    return {"": key, " in base64": base64.b64encode(key)[:40]}


server = key_of(os.path.join(world.directory, "server.key"))
lasting = {name + form: value for name, key in (("the server's key", server), ("the pre-shared key", psk))
           for form, value in halves(key).items()}
capture = Capture()
contents = [b"canary of a page " + os.urandom(12).hex().encode() for _ in range(2)]
name = "good/canary-" + os.urandom(8).hex()
passing = {}  # keys of connections
lanes = []
for kind, suite in ((SOCK, CHACHA), (SOCK, AES)):
    lane = world.attach("good", kind=kind, suite=suite, psk=psk)
    lanes.append(lane)
    passing |= {f"key {number} of connection {len(lanes)}": cipher.key
                for number, cipher in enumerate((lane.sending, lane.receiving))}
stream = Stream(world, psk=psk)
expect(stream.hear().status == OK, "a ping")
lanes.append(stream)
passing |= {"a key of the gRPC lane": stream.sending.key, "the other key of the gRPC lane": stream.receiving.key}
id, epoch = lanes[0].create(name)
page = contents[0].ljust(PAGE, b".")
head, _ = lanes[0].call(WRITE, page, segment=id, epoch=epoch, count=1, version=1, map=full_map(1))
expect(head.status == OK, "write")
head, data = lanes[0].call(READ, segment=id, epoch=epoch, count=1)
expect(data == page, "read")
lanes[1].control(open=[(1, name)])  # refused, with a line in the log

found = hunt(world.pid, lasting | passing)
if not world.sanitized:
    for secret in ["the server's key", "the pre-shared key"] + list(passing):
        expect(found[secret], f"{secret} is nowhere: this search finds nothing")  # an AES key is the first of its round keys
    for secret, places in found.items():
        only_locked(secret, places)
    print(f"{len(lasting | passing)} keys: each where it is used, in {sum(map(len, found.values()))} locked mappings")

lanes[0].close_politely()
for lane in lanes[1:]:
    lane.socket.close()
world.settles("lanes", lambda: world.metric("dsmd_lanes"), 0)
end = time.monotonic() + PATIENCE_S  # a lane is counted no more a little before its memory is wiped
while any((found := hunt(world.pid, passing)).values()) and time.monotonic() < end:
    time.sleep(0.2)
for secret, places in found.items():
    expect(not places, f"{secret} is still there after the close: {places}")
print(f"{len(passing)} keys of connections are nowhere after their close")



class Client:
    """A program of the library, with its own folder for a core."""

    def __init__(self, number):
        self.folder = os.path.join(world.directory, f"client-{number}")
        os.mkdir(self.folder)
        settings = dict(DSM_CONFIG="", DSM_CACHE="1M", DSM_SERVER="%s:%d" % world.server, DSM_SERVER_KEY=base64.b64encode(
            world.server_public).decode(), DSM_KEY_FILE=os.path.join(world.directory, "other.key"),
                        DSM_PSK_FILE=os.path.join(world.directory, "psk.key"))
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "secrets_client.py")
        self.process = subprocess.Popen(
            [sys.executable, "-B", program, sys.argv[6]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self.folder, text=True,
            env=os.environ | settings, preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
        said = self.process.stdout.readline().split()
        expect(len(said) == 2, "the program of the library does not begin")
        self.pid = int(said[0])
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(int(said[1], 16))
            self.page = memory.read(64)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        expect(self.process.stdout.readline() == "done\n", f"the program of the library: {line}")

    def dies(self):
        """What its core holds; nothing when this system writes it elsewhere."""
        self.process.send_signal(signal.SIGABRT)
        self.process.wait()
        cores = [open(os.path.join(self.folder, name), "rb").read() for name in os.listdir(self.folder)]
        return b"".join(cores)


def locked_kib(pid):
    return int(re.search(r"VmLck:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))


mine = {"the client's key" + form: value
        for form, value in halves(key_of(os.path.join(world.directory, "other.key"))).items()} | {
            "the client's pre-shared key" + form: value for form, value in halves(psk).items()}
client = Client(1)
found = hunt(client.pid, mine | {"its page": client.page})
if not world.sanitized:
    expect(found["the client's key"], "the client's key is nowhere in the client: this search finds nothing")
    expect(locked_kib(client.pid) > 0, "the client has locked no memory")
    for secret in mine:
        only_locked(f"client: {secret}", found[secret])
    expect(found["its page"], "the client's page is nowhere in the client")
    for first, last, access, name, flags in found["its page"]:
        expect("dd" in flags, f"its page would go into a core: {first:x}-{last:x} {access} {name} {flags}")
elsewhere = open("/proc/sys/kernel/core_pattern").read()[:1] in ("|", "/")
core = client.dies()
expect(elsewhere or b"DSM_PSK_FILE=" in core, "there is no core to search")
for secret, value in (mine | {"its page": client.page}).items():
    expect(value not in core, f"{secret} is in the client's core")
print(f"client: {len(mine)} secrets only in locked memory; " + (
    "the core is written elsewhere, not searched" if elsewhere else f"none of them, nor its page, in {len(core) >> 10} KiB of core"))
again = Client(2)
again.tell("close")
for secret, places in hunt(again.pid, mine).items():
    expect(not places or world.sanitized, f"client: {secret} is still there after dsm_close(): {places}")
for first, last, access, name, flags in mappings(again.pid):  # whose keys nobody here knows: the connections' own
    if "lo" in flags and not world.sanitized:
        with open(f"/proc/{again.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(first)
            left = sum(byte not in (0, 0xDB) for byte in memory.read(last - first))  # wiped, or as libsodium gave it
        expect(left <= 16, f"client: {left} bytes of {first:x}-{last:x} are not wiped after dsm_close()")  # 16: its canary
world.settles("lanes", lambda: world.metric("dsmd_lanes"), 0)
found = hunt(world.pid, mine)
for secret in ("the client's key", "the client's key in base64"):
    expect(not found[secret], f"{secret} is in dsmd: {found[secret]}")
print("client: nothing is left after dsm_close(), neither here nor in dsmd")
again.process.kill()

wire = capture.end()
expect(b"dsm-lane" in wire, "nothing was captured")
everything = {"a page": contents[0], "a page of the client's": client.page, **lasting, **passing, **mine}
for secret, value in {"the segment's name": name.encode(), **everything}.items():
    expect(value not in wire, f"{secret} is on the wire")
print(f"nothing in {len(wire) >> 10} KiB on the wire")
log = open(world.log.path, "rb").read()
expect(b"refused" in log or b"lane" in log, "the log is empty")
for secret, value in everything.items():
    expect(value not in log and value.hex().encode() not in log and base64.b64encode(value)[:20] not in log,
           f"{secret} is in the log")
print("nothing in the log")
