# SPDX-License-Identifier: Apache-2.0
#
# The world of the hostile cases: one running dsmd, its log, its numbers, and a good session beside every case. A case
# is a function with a line of the table: what is bad, how it is refused, what the log must say of it. The runner plays
# a group of them on one dsmd, and after each one the log has the line, the good session has its pages, and dsmd is the
# same process; at the end nothing is left of them: no connection, no descriptor, no memory.
import itertools
import os
import re
import sys
import threading
import time
import urllib.request

from raw import LIMIT, OK, PAGE, READ, WRITE, Raw, Refused, full_map, key_of, public_of

CASES = []
BUDGET_PER_S = 5  # lines that the log lets through of strangers, and of clients
PATIENCE_S = 30  # for a machine that is busy
GROWTH_BYTES = 32 << 20
NOT_TAKEN = r'ended a connection of "good" \("raw" at 127\.[\d.]+\): what it began did not come, or its answers were not taken'


class Failed(AssertionError):
    pass


def expect(condition, text):
    if not condition:
        raise Failed(text)


def case(group, bad, refused, log=None, many=False):
    """log: a pattern; ADDRESS in it is any of the case. many: its lines come faster than the log takes them."""

    def register(function):
        CASES.append(dict(group=group, bad=bad, refused=refused, log=log, many=many, play=function,
                          name=f"{group}.{function.__name__}"))
        return function

    return register


class Log:
    def __init__(self, path):
        self.path, self.at, self.rest = path, os.path.getsize(path), ""
        self.second, self.said = 0, 0  # lines in the present second

    def read(self):
        with open(self.path, errors="replace") as file:
            file.seek(self.at)
            text = self.rest + file.read()
            self.at = file.tell()
        lines = text.split("\n")
        self.rest = lines.pop()
        if self.second != int(time.monotonic()):
            self.second, self.said = int(time.monotonic()), 0
        self.said += len(lines)
        return lines

    def count(self, pattern):
        """How many lines like this there were since, with those that were left out."""
        left_out = r"(\d+) more lines like the next were left out"
        lines = self.read()
        return sum(re.search(pattern, line) is not None for line in lines) + sum(
            int(match.group(1)) for match in (re.search(left_out, line) for line in lines) if match)

    def wait(self, pattern, seconds=PATIENCE_S):
        end, seen = time.monotonic() + seconds, []
        while time.monotonic() < end:
            for line in self.read():
                seen.append(line)
                if re.search(pattern, line):
                    return line
            time.sleep(0.01)
        raise Failed(f"the log does not say /{pattern}/ but:\n  " + "\n  ".join(seen[-8:] or ["nothing"]))


class World:
    def __init__(self, directory, host, port, pid, metrics_port):
        self.directory, self.server, self.pid, self.metrics_port = directory, (host, port), pid, metrics_port
        self.keys = {}
        for name in os.listdir(directory):
            if name.endswith(".key") and name != "server.key":
                self.keys[name[:-4]] = key_of(os.path.join(directory, name))
        self.server_public = key_of(os.path.join(directory, "server.key.pub"))
        self.log = Log(os.path.join(directory, "dsmd.log"))
        self.addresses = itertools.count(1)
        self.tsan = "libtsan" in open(f"/proc/{pid}/maps").read()
        self.sanitized = re.search("lib[at]san", open(f"/proc/{pid}/maps").read()) is not None

    def address(self):
        number = next(self.addresses)
        return f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"

    def connect(self, **claims):
        return Raw(self, **claims)

    def attach(self, key="good", *, kind=None, suite=None, psk=bytes(32), source=None, window=None, **attachment):
        claims = {name: value for name, value in (("kind", kind), ("suite", suite), ("source", source), ("window", window)) if value}
        return Raw(self, key=key, psk=psk, **claims).attach(**attachment)

    def mark(self, name):
        open(os.path.join(self.directory, name), "w").close()

    def fresh_second(self):
        """Until the log's budget is whole again."""
        time.sleep(1.01 - time.monotonic() % 1)

    def metric(self, sample):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=PATIENCE_S) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(sample + " "):
                    return float(line.rsplit(" ", 1)[1])
        return 0.0

    def open_files(self):
        names = []
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                names.append(os.readlink(f"/proc/{self.pid}/fd/{number}"))
            except FileNotFoundError:
                pass  # closed meanwhile
        return sorted(names)

    def connections(self):
        """Of this program, which comes from addresses of its own, as far as dsmd has not let them go."""
        rows = []
        for name in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(name) as table:
                rows += [line.split() for line in list(table)[1:]]
        here = re.compile(rf"[0-9A-F]+:{self.server[1]:04X}$")
        ours = re.compile(r"(0{16}FFFF0000)?(?!0100007F)[0-9A-F]{6}7F:")
        return sum(here.match(row[1]) is not None and ours.match(row[2]) is not None and row[9] != "0" for row in rows)

    def settles(self, what, get, most, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while (have := get()) > most:
            expect(time.monotonic() < end, f"{what}: {have}, more than {most}")
            time.sleep(0.1)
        return have

    def descriptors(self):
        """Without the store's files of slots: one for each size of page that was ever used, and they stay."""
        return sum("/slots-" not in name for name in self.open_files())

    def memory(self):
        """Without the pages of the store, which are a file's."""
        text = open(f"/proc/{self.pid}/status").read()
        return int(re.search(r"RssAnon:\s+(\d+)", text).group(1)) << 10

    def alive(self):
        try:
            return open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except FileNotFoundError:
            return False


class Good:
    """A session that does no wrong: each of its pages says which one it is and which write it was."""

    PAGES = 16

    def __init__(self, world):
        self.lane = world.attach("good", holder="good")
        self.id, self.epoch = self.lane.create("good/pages", self.PAGES * PAGE, flags=0)
        self.version = 0
        self.last = {}
        self.connections = world.connections()
        expect(self.connections > 0, "no connection where the table of them is read")

    def content(self, page):
        return b"".join(b"%8d%8d" % (page, self.last[page]) for _ in range(PAGE // 16))

    def check(self):
        self.version += 1
        page = self.version % self.PAGES
        self.last[page] = self.version
        head, _ = self.lane.call(WRITE, self.content(page), segment=self.id, epoch=self.epoch, page=page, count=1,
                                 version=self.version, map=full_map(1))
        expect(head.status == OK, f"the good session's write: status {head.status}")
        for page in self.last:
            head, data = self.lane.call(READ, segment=self.id, epoch=self.epoch, page=page, count=1)
            expect(head.status == OK and data == self.content(page), f"the good session's page {page} is not what it wrote")


class Watched:
    """dsmd's memory at its highest while something goes on."""

    def __init__(self, world):
        self.world, self.done = world, threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.done.is_set():
            self.highest = max(self.highest, self.world.memory())
            time.sleep(0.002)

    def __enter__(self):
        self.before = self.highest = self.world.memory()
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.done.set()
        self.thread.join()
        self.grown = self.highest - self.before
        print(f"        grown by {self.grown >> 10} KiB at most")
        if kind is None and not self.world.sanitized:
            expect(self.grown <= GROWTH_BYTES, f"dsmd has grown by {self.grown >> 20} MiB")


class Unread:
    """A segment of 1 MiB for those who ask for it and do not take it; a good client beside them does."""

    SIZE = 1 << 20
    numbers = itertools.count(1)

    def __init__(self, world):
        self.world, self.instance, self.watched = world, os.urandom(16), Watched(world)
        self.lane = world.attach(instance=self.instance)
        self.id, self.epoch = self.lane.create(f"unread/{next(self.numbers)}", self.SIZE)
        self.content = os.urandom(PAGE) * (self.SIZE // PAGE)
        self.lane.call(WRITE, self.content, segment=self.id, epoch=self.epoch, count=256, version=1, map=full_map(256))

    def __enter__(self):
        self.watched.__enter__()
        return self

    def __exit__(self, *error):
        self.watched.__exit__(*error)
        self.lane.socket.close()

    def read_beside(self):
        """For a while, and until dsmd has ended who takes nothing."""
        end = time.monotonic() + 1
        while time.monotonic() < end:
            head, data = self.lane.call(READ, segment=self.id, epoch=self.epoch, count=256)
            expect(head.status == OK and data == self.content, "what an honest reader beside has")


def told(status, text="", *, of):
    """Runs `of`, which must be refused so."""
    try:
        of()
    except Refused as refusal:
        expect(refusal.status == status and text in refusal.text, f"refused otherwise: {refusal}")
        return
    raise Failed("was not refused")


def play(world, good, one):
    world.settles("connections of the case before", world.connections, good.connections)
    world.log.read()
    if one["many"] or world.log.said > BUDGET_PER_S - 2:
        world.fresh_second()
    one["play"](world)
    line = world.log.wait(one["log"]) if one["log"] else ""
    expect(world.alive(), "dsmd has ended")
    good.check()
    return line


def run(world, group):
    good = Good(world)
    good.check()
    chosen = [one for one in CASES if group in (one["group"], one["name"])]
    expect(chosen, f"no group and no case {group}")
    descriptors, memory = world.descriptors(), world.memory()
    world.mark("beside.go")
    failures = 0
    for one in chosen:
        begin = time.monotonic()
        try:
            line = play(world, good, one)
            print(f"ok    {one['name']:44} {time.monotonic() - begin:5.2f} s  {line}", flush=True)
        except Exception as error:  # the others are played all the same
            failures += 1
            print(f"FAILED {one['name']}: {type(error).__name__}: {error}", flush=True)
    world.mark("beside.stop")
    world.settles("connections left", lambda: world.metric("dsmd_lanes"), 1, 2 * PATIENCE_S)
    try:
        world.settles("descriptors left", world.descriptors, descriptors)
    except Failed:
        print("\n".join(world.open_files()))
        raise
    grown = world.memory() - memory
    print(f"{len(chosen)} cases, {failures} failed; dsmd has grown by {grown >> 10} KiB")
    expect(world.sanitized or grown <= GROWTH_BYTES, f"dsmd has grown by {grown >> 20} MiB")
    return failures


def table():
    rows = ["| bad input | refused by | the log says | case |", "|---|---|---|---|"]
    for one in CASES:
        log = f"`{one['log']}`".replace("|", "\\|") if one["log"] else "nothing"
        rows.append(f"| {one['bad']} | {one['refused']} | {log} | `{one['name']}` |")
    return "\n".join(rows)
