# SPDX-License-Identifier: Apache-2.0
#
# tenants.py DIRECTORY HOST PORT PID METRICS_PORT SECONDS MOST: a hostile principal beside an honest one, for so long. The hostile one
# has several processes, all the connections of its key, and asks for ten times its quota: it creates, writes, clones, gives up and
# deletes without end, reads all that it is given, and tries the other's segments. It must never get more than its quota, never a page
# that it has not written itself, and the honest one must have every page as it wrote it. MOST: how often the honest one's p99 may be what
# it is without it, as medians of rounds in turn; 0: whatever it is. Without it as many processes compute as it has: here all have the
# processors in common, which a hostile client on a host of its own does not take from anybody.
import os
import statistics
import sys
import time

from raw import (BUSY, DISCARD, EXISTS, GIVE_UP, NOT_OPEN, NO_SEGMENT, NO_SPACE, OK, OVER_QUOTA, PAGE, READ, TOO_MANY, WRITE,
                 Refused, full_map)
from world import Good, World, expect

world = World(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
seconds, most = float(sys.argv[6]), float(sys.argv[7])
QUOTA = 1 << 20
PROCESSES, LANES, TURNS = 2, 8, 60  # turns: at least, however slow the machine is


def own(data, mark):
    """Only zeros and what this process has written."""
    return all(data[at:at + 16] in (bytes(16), mark) for at in range(0, len(data), 16))


def attack(number, honest_id):
    """Until the time is over: (refusals, pages read)."""
    mark = b"hostile %8d" % number
    end, turn, refusals, pages = time.monotonic() + seconds, 0, 0, 0
    lanes = [world.attach("greedy", holder="greedy") for _ in range(LANES)]
    while turn < TURNS or time.monotonic() < end:
        lane = lanes[turn % LANES]
        turn += 1
        name = f"greedy/{number}-{turn}"
        try:
            id, epoch = lane.create(name, QUOTA * 10 if turn % 3 == 0 else QUOTA // 4, flags=turn % 2)
        except Refused as refusal:
            expect(refusal.status in (OVER_QUOTA, TOO_MANY), str(refusal))
            refusals += 1
            continue
        for page in range(0, 96, 32):
            head, data = lane.call(READ, segment=id, epoch=epoch, page=page, count=32)
            expect(head.status == OK and data == b"", f"a new segment has something in it: {data[:64]!r}")
            head, _ = lane.call(WRITE, mark * (16 * PAGE // 16), segment=id, epoch=epoch, page=page, count=16,
                                version=1, map=full_map(16))
            refusals += head.status == OVER_QUOTA
            expect(head.status in (OK, OVER_QUOTA), f"write: status {head.status}")
            head, data = lane.call(READ, segment=id, epoch=epoch, page=page, count=32)
            expect(head.status == OK and own(data, mark), "a page of somebody else")
            pages += 64
            if page == 32:
                break  # the segment has no more pages, unless it is a large one
        lane.control(clone=[(1, os.urandom(16)), (2, id), (3, epoch), (4, name + "-clone")])
        lane.call(GIVE_UP, segment=id, epoch=epoch, page=0, count=8, version=2)
        for op in (READ, DISCARD):
            head, data = lane.call(op, segment=honest_id, epoch=1, count=1, version=99)
            expect(head.status == NOT_OPEN and data == b"", "the other's segment")
        expect(lane.control(open=[(2, honest_id), (3, 1), (4, 1)])[0] == NO_SEGMENT, "an open of the other's segment")
        lane.delete(name, id)
        status = lane.control(open=[(1, name + "-clone")])[0]
        lane.delete(name + "-clone", id + 1) if status == OK else None
    return refusals, pages


def child(number, honest_id):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.nice(5)
            print(f"hostile process {number}: %d refusals, %d pages read" % attack(number, honest_id), flush=True)
            status = 0
        except BaseException as error:
            print(f"hostile process {number}: {type(error).__name__}: {error}", flush=True)
        os._exit(status)
    return pid


def burn(end):
    """What an attacker costs the machine that both are on here, without dsmd: a process that only computes."""
    pid = os.fork()
    if pid == 0:
        os.nice(5)
        while time.monotonic() < end:
            pass
        os._exit(0)
    return pid


def honest(good, goes_on):
    """Works as long as that: (p99 of its turns in ms, how many, the most that the hostile one was charged)."""
    took, highest = [], 0
    while goes_on():
        for _ in range(20):
            begin = time.monotonic()
            good.check()
            took.append(time.monotonic() - begin)
        highest = max(highest, world.metric('dsmd_principal_charged_bytes{principal="greedy"}'))
    took.sort()
    return took[len(took) * 99 // 100] * 1e3, len(took), highest


def ended(pids):
    """Whether the first of them has; then all of them are waited for."""
    if os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return False
    statuses.extend(os.waitpid(pid, 0)[1] for pid in pids)
    return True


def a_round(good, pids):
    time.sleep(0.2)
    return honest(good, lambda: not ended(pids))


good = Good(world)
rounds = 5 if most else 1
seconds /= rounds
statuses, alone, beside = [], [], []
for number in range(rounds):  # in turn, so that what else goes on here meets both
    alone.append(a_round(good, [burn(time.monotonic() + seconds) for _ in range(PROCESSES)]))
    beside.append(a_round(good, [child(number * PROCESSES + one, good.id) for one in range(PROCESSES)]))
    print("p99 of the honest one in ms: %.2f of %d beside processes that only compute, %.2f of %d beside the hostile ones" % (
        alone[-1][:2] + beside[-1][:2]), flush=True)
good.check()
before, during = (statistics.median(one[0] for one in ones) for ones in (alone, beside))
charged = max(one[2] for one in beside)
print(f"medians of {rounds} rounds: {before:.2f} ms and {during:.2f} ms, {during / before:.2f} times; "
      f"{charged / QUOTA:.2f} of the quota were charged at most")
expect(statuses == [0] * PROCESSES * 2 * rounds, "a hostile process saw what it must not")
expect(charged <= QUOTA, f"{charged:.0f} bytes were charged")
refused = world.metric('dsmd_requests_total{op="control",status="over_quota"}')
expect(refused > 0, "nothing was refused")
expect(most == 0 or during <= most * before, "the honest one's p99")
