# SPDX-License-Identifier: Apache-2.0
#
# strangers.py PORT PID: does to /metrics of process PID what strangers can, and fails when that harms more than
# themselves. A good scrape is answered beside each of them; descriptors, threads and memory stay within their bounds.
import os
import re
import resource
import socket
import sys
import threading
import time

port, pid = int(sys.argv[1]), sys.argv[2]
GOOD = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
# Bounds of metrics/http.c, with what else may be open for a moment.
MOST_DESCRIPTORS, MOST_BYTES, CONNECTION_S = 32, 24 << 20, 10
SLACK_S = 8  # of a busy machine


def connect():
    one = socket.create_connection(("127.0.0.1", port), timeout=10)
    one.settimeout(10)
    return one


def all_of(one):
    got = b""
    try:
        while more := one.recv(65536):
            got += more
    except OSError:  # reset, since there was more to read
        pass
    return got


def say(data):
    with connect() as one:
        try:
            one.sendall(data)
        except OSError:
            pass
        return all_of(one)


def status(answer):
    found = re.match(rb"HTTP/1\.[01] (\d+) ", answer)
    return int(found.group(1)) if found else 0


def count(what):
    return len(os.listdir(f"/proc/{pid}/{what}"))


def threads_are(wanted):  # dsmd's own; gRPC names its, which come when a session needs them, a moment after they begin
    end = time.monotonic() + SLACK_S
    while own_threads() != wanted and time.monotonic() < end:
        time.sleep(0.05)
    return own_threads() == wanted


def own_threads():
    own = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            own += open(f"/proc/{pid}/task/{task}/comm").read() == "dsmd\n"
        except OSError:
            pass  # it has ended
    return own


def resident():  # without the pages of the store, which a session is writing
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


def good_scrape(beside):
    begin = time.monotonic()
    answer = say(GOOD)
    took = time.monotonic() - begin
    if status(answer) != 200 or b"_build_info{" not in answer or took > SLACK_S:
        fail(f"a good scrape beside {beside}: status {status(answer)}, {len(answer)} bytes, {took:.1f} s")


def fail(text):
    print("FAILED:", text)
    sys.exit(1)


def expect(name, answer, *allowed):
    if status(answer) not in allowed:
        fail(f"{name}: answered {answer[:60]!r}")
    good_scrape(name)


def within_bounds(name):
    if count("fd") - descriptors > MOST_DESCRIPTORS:
        fail(f"{name}: {count('fd') - descriptors} more descriptors")
    if not threads_are(threads):
        fail(f"{name}: {own_threads()} threads, not {threads}")
    if not sanitized and resident() - memory > MOST_BYTES:
        fail(f"{name}: {(resident() - memory) >> 10} KiB more memory")
    print(f"{time.monotonic() - start:4.1f} s  {name}: +{count('fd') - descriptors} descriptors, +{(resident() - memory) >> 10} KiB")


def methods():
    for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH", b"get", b"G" * 900):
        expect(f"method {method[:8]!r}", say(method + b" /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), 405)
    expect("a body", say(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100000), 405)
    expect("another page", say(b"GET /metrics/../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"), 404)
    expect("an escaped page", say(b"GET /%2e%2e/%00metrics HTTP/1.1\r\nHost: x\r\n\r\n"), 404)
    head = say(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    if status(head) != 200 or not head.endswith(b"\r\n\r\n"):
        fail(f"HEAD: {head[-60:]!r}")


def malformed():
    for name, data in (
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
        ("NULs", bytes(5000)),
        ("a long path", b"GET /" + b"a" * 1000000 + b" HTTP/1.1\r\n\r\n"),
        ("a huge header", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1000000 + b"\r\n\r\n"),
        ("many headers", b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100000 + b"\r\n"),
        ("no host", b"GET /metrics HTTP/1.1\r\n\r\n"),
        ("two lengths", b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("a bad length", b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
        ("a bad chunk", b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ("version 9", b"GET /metrics HTTP/9.9\r\nHost: x\r\n\r\n"),
    ):
        one = connect()
        try:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if len(all_of(one)) > 100000:
            fail(f"{name}: a long answer")
        one.close()
        good_scrape(name)


def pipelining():
    answer = say(GOOD * 500)
    if answer.count(b"HTTP/1.1 200") > 1:
        fail(f"{answer.count(b'HTTP/1.1 200')} answers on one connection")
    good_scrape("pipelining")


def loop():
    begin = cpu()
    for _ in range(300):
        if status(say(GOOD)) != 200:
            fail("a scrape in a loop was not answered")
    print(f"300 scrapes in a row: {cpu() - begin:.2f} s of processor")


def cpu():
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thousand():
    ones = []
    for number in range(1000):
        ones.append(connect())
        if number % 3 == 1:
            ones[-1].send(b"GET /met")
        elif number % 3 == 2:
            ones[-1].send(GOOD)  # and reads nothing
        if number % 250 == 249:
            good_scrape(f"{number + 1} connections")
            within_bounds(f"{number + 1} connections")
    for one in ones:
        one.close()
    good_scrape("their end")


slow_ended = []


def slow():
    ones = [connect() for _ in range(6)]
    request = iter(b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"a" * 1000)  # a byte a round, none left out
    begin = time.monotonic()
    ended = {}
    while len(ended) < len(ones):
        byte = bytes([next(request)])
        now = time.monotonic() - begin
        if now > CONNECTION_S + SLACK_S:
            fail(f"{len(ones) - len(ended)} slow ones are still there after {now:.0f} s")
        for number, one in enumerate(ones):
            if number in ended:
                continue
            one.setblocking(False)
            try:
                if number % 2 == 0:
                    one.send(byte)
                if one.recv(4096) == b"":
                    ended[number] = now
            except BlockingIOError:
                pass
            except OSError:
                ended[number] = now
        time.sleep(0.25)
    good_scrape("slow ones")
    if min(ended.values()) < CONNECTION_S - 2:
        fail(f"one was ended after {min(ended.values()):.1f} s")
    print(f"slow ones were ended after {min(ended.values()):.1f} to {max(ended.values()):.1f} s")
    slow_ended.append(True)


resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
sanitized = re.search("lib[at]san", open(f"/proc/{pid}/maps").read()) is not None  # which keeps what is freed
good_scrape("nobody")
time.sleep(0.2)
start = time.monotonic()
descriptors, threads, memory = count("fd"), min(own_threads() for _ in range(20) if not time.sleep(0.05)), resident()
beside = threading.Thread(target=slow)  # needs time, and few connections
beside.start()
for what in (methods, malformed, pipelining, loop, thousand):
    if what is thousand:
        beside.join()  # it would not survive that
        if not slow_ended:
            fail("slow ones")
    what()
    within_bounds(what.__name__)
end = time.monotonic() + SLACK_S
while count("fd") > descriptors + 2:  # those of the session come and go
    if time.monotonic() > end:
        fail(f"{count('fd') - descriptors} descriptors are left")
    time.sleep(0.05)
