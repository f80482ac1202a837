#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""task_steps.py WHAT ROUNDS: a task moves, and at each step of the move something goes wrong. Of the two ends (task_steps) one
stops at the step, by $DSM_MIGRATE_FAILPOINT; then, as WHAT says,

    kill      that end is killed (SIGKILL)
    server    dsmd is killed and started again, and the end goes on
    cut       every connection is cut, and the end goes on
    answer    the end goes on; what it asks arrives, and the connection is cut before the answer
    decided   dsmd dies by itself at its own steps of a park, a commit and an abort
    error     the step fails

and afterwards exactly one has the image, what was acknowledged is right, and who has it goes on: the source until it parked
the image, then the capsule, whoever opens that, and after the commit the destination. hops: so many moves (STEPS_HOPS) without trouble,
after which dsmd has what it had.

From the environment: STEPS_WORK (a folder with server.key, client.key, authorized), STEPS_STORE, STEPS_BIN, STEPS_PROGRAM, STEPS_SOURCE.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

WORK, STORE = os.environ["STEPS_WORK"], os.environ["STEPS_STORE"]
BIN, PROGRAM = os.environ["STEPS_BIN"], os.environ["STEPS_PROGRAM"]
SECONDS = 60  # for one process


def steps():
    """The steps as the library declares them: (name, may it fail)."""
    with open(os.environ["STEPS_SOURCE"], encoding="ascii") as header:
        found = re.findall(r'X\([A-Z_]+, "([a-z.]+)", ([01])\)', header.read())
    assert len(found) >= 12, found
    return [(name, may_fail == "1") for name, may_fail in found]


class Relay:
    """Between clients and dsmd: it can cut, and it can lose answers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.target, self.losing = None, False
        self.pairs, self.lock = set(), threading.Lock()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            pair = (near, far)
            with self.lock:
                self.pairs.add(pair)
            threading.Thread(target=self.pump, args=(near, far, pair, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, pair, True), daemon=True).start()

    def pump(self, source, sink, pair, answers):
        try:
            while data := source.recv(1 << 16):
                if answers and self.losing:
                    self.losing = False
                    self.cut()
                    return
                sink.sendall(data)
        except OSError:
            pass
        self.end(pair)

    def end(self, pair):
        with self.lock:
            self.pairs.discard(pair)
        for end in pair:
            try:
                end.shutdown(socket.SHUT_RDWR)  # wakes whoever reads it
                end.close()
            except OSError:
                pass

    def cut(self):
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            self.end(pair)


class Server:
    def __init__(self):
        self.process, self.port = None, 0
        self.log = open(f"{WORK}/dsmd.log", "ab")

    def start(self, failpoint=""):
        reader, writer = os.pipe()
        environment = dict(os.environ, DSM_FAILPOINT=failpoint, DSM_CONFIG="")
        command = [f"{BIN}/dsmd", "--listen", f"127.0.0.1:{self.port}", "--store", STORE, "--key", f"{WORK}/server.key",
                   "--authorized", f"{WORK}/authorized", "--config", "", "--lease-ms", "300", "--ready-fd", str(writer)]
        self.process = subprocess.Popen(command, pass_fds=[writer], env=environment, stdout=self.log, stderr=self.log)
        os.close(writer)
        with os.fdopen(reader) as ready:
            line = ready.readline()
        assert line, "dsmd did not start"
        self.port = int(line.split()[1])

    def again(self):
        self.process.kill()
        self.process.wait()
        self.start()

    def figures(self):
        """What must be the same after many hops."""
        environment = dict(os.environ, DSM_SERVER=f"127.0.0.1:{self.port}", DSM_CONFIG="",
                           DSM_KEY_FILE=f"{WORK}/client.key", DSM_SERVER_KEY=open(f"{WORK}/server.key.pub").read().strip())
        said = subprocess.run([f"{BIN}/dsmctl", "stat", "--json"], env=environment, check=True, capture_output=True)
        stat = json.loads(said.stdout)
        images = len([name for name in os.listdir(f"{STORE}/images")]) if os.path.isdir(f"{STORE}/images") else 0
        kept = {key: stat[key] for key in ("reserved_bytes", "stored_bytes", "charged_bytes", "segments")}
        segments = subprocess.run([f"{BIN}/dsmctl", "segments", "--json"], env=environment, check=True, capture_output=True)
        return dict(kept, images=images, list=[{k: v for k, v in s.items() if k in ("name", "stored_bytes", "reserved_bytes")}
                                               for s in json.loads(segments.stdout)])


server, relay = Server(), Relay()


class Process:
    """One end, with what it says."""

    def __init__(self, role, failpoint="", life=60, **more):
        environment = dict(os.environ, DSM_SERVER=f"127.0.0.1:{relay.port}", DSM_CONFIG="", DSM_KEY_FILE=f"{WORK}/client.key",
                           DSM_SERVER_KEY=open(f"{WORK}/server.key.pub").read().strip(), DSM_MIGRATE_FAILPOINT=failpoint,
                           STEPS_KEY=f"{WORK}/there", TASK_PUBLIC_KEY=f"{WORK}/there.pub", STEPS_CAPSULE=f"{WORK}/capsule",
                           STEPS_LIFE=str(life), **more)
        self.role, self.failpoint = role, failpoint
        self.process = subprocess.Popen([PROGRAM, role], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        self.stopped = False
        self.watch = threading.Timer(SECONDS, self.process.kill)
        self.watch.daemon = True
        self.watch.start()

    def wait_stop(self):
        """True: it stopped at its step; False: it ended before."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return False

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def line(self):
        return self.process.stdout.readline().strip()

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.watch.cancel()

    def end(self, expected):
        """Ends well, and what it said has that word."""
        said = self.process.stdout.read()
        self.process.wait()
        self.watch.cancel()
        if self.process.returncode != 0 or expected not in said.split():
            fail(f"{self.role} {self.failpoint}: exit {self.process.returncode}, said {said!r}, not {expected}")


now = [""]  # the case


def fail(text):
    print("FAILED:", now[0], text, flush=True)
    sys.exit(1)


def role_of(step):
    return "back" if step.startswith("abort") else "self"


# ---- what goes wrong


def kill_source(step):
    """Who was to go on cannot always: the capsule, when it was out; else the principal gets what was acknowledged."""
    role = "back" if step.startswith("abort") else "source"
    source = Process(role, f"{step}:stop:1", life=1 if step in ("encap.parked", "abort.begin") else 60)
    if step.startswith("finish"):
        assert source.line() == "GIVEN"
        source.tell("finish")
    if not source.wait_stop():
        fail(f"{step}: the source did not come there")
    source.kill()
    if step.startswith("finish") or step == "encap.given":
        Process("destination").end("ENDED")
    else:
        Process("recover").end("RECOVERED")


def kill_destination(step):
    source = Process("source")
    assert source.line() == "GIVEN"
    destination = Process("destination", f"{step}:stop:1")
    if not destination.wait_stop():
        fail(f"{step}: the destination did not come there")
    destination.kill()
    if step in ("deencap.opened", "deencap.mapped", "deencap.commit"):
        if step == "deencap.commit":  # the capsule is good still
            Process("destination").end("ENDED")
            source.tell("abort")
            source.end("LEFT")
        else:  # and so is the source
            source.tell("abort")
            source.end("ENDED")
            Process("destination").end("REFUSED")
        return
    source.tell("abort")  # too late: it is the destination's
    source.end("LEFT")
    Process("destination").end("REFUSED")
    Process("recover").end("RECOVERED")


def kill(step, _):
    (kill_destination if step.startswith("deencap") else kill_source)(step)


def survive(what):
    def case(step, _):
        process = Process(role_of(step), f"{step}:stop:1")
        if not process.wait_stop():
            fail(f"{step}: it did not come there: {process.process.stdout.read()}")
        if what == "server":
            server.again()
            relay.target = server.port
        elif what == "cut":
            relay.cut()
        else:
            relay.losing = True
        process.go_on()
        process.end("ENDED")
        relay.losing = False

    return case


def error(step, may_fail):
    if may_fail:
        Process("failing", f"{step}:error:1").end("ENDED")


def decided(point, _):
    """dsmd dies within the request, at its n-th image; a watch starts it again."""
    name, count, role = point
    server.process.kill()
    server.process.wait()
    server.start(f"{name}:kill:{count}")
    relay.target = server.port
    process = Process(role)
    server.process.wait()
    server.start()
    relay.target = server.port
    process.end("ENDED")


def hops(count):
    process = Process("hops", STEPS_HOPS=str(count))
    assert process.line() == "BEFORE"
    before = server.figures()
    process.tell("go")
    process.watch.cancel()
    begun = time.monotonic()
    assert process.line() == "AFTER", process.process.stdout.read()
    seconds = time.monotonic() - begun
    after = server.figures()
    process.tell("go")
    process.end("ENDED")
    print(f"{count} hops in {seconds:.1f} s; before {before}, after {after}")
    if before != after:
        fail("dsmd has something else than before")


def main():
    what, rounds = sys.argv[1], int(sys.argv[2])
    server.start()
    relay.target = server.port
    cases = steps()
    if what == "hops":
        hops(rounds)
        rounds = 0
    if what == "decided":
        cases = [((f"image.{at}", count, role), True) for at in ("begin", "file", "rename")
                 for count, role in ((1, "self"), (2, "self"), (2, "back"))]
    run = {"kill": kill, "error": error, "decided": decided}.get(what) or survive(what)
    for turn in range(rounds):
        begun = time.monotonic()
        for step, may_fail in cases:
            now[0] = f"{what} at {step}:"
            run(step, may_fail)
        print(f"round {turn + 1}: {len(cases)} steps, {time.monotonic() - begun:.1f} s", flush=True)
    server.process.terminate()
    if server.process.wait() != 0:
        fail("dsmd does not end well")
    # Every slot is counted, and every count has its slots.
    if subprocess.run([f"{BIN}/dsmctl", "check", STORE], check=False, stdout=subprocess.DEVNULL).returncode != 0:
        fail("the store is damaged")


main()
