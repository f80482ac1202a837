# SPDX-License-Identifier: Apache-2.0
#
# memory.py write|read DIRECTORY HOST PORT PID: for memory.sh. write: a session writes 1 MiB at a time until dsmd has ended, and notes what was
# acknowledged. read: the session comes again; every page that was acknowledged is as written, and the rest is so or was never there.
import os
import sys

from raw import OK, PAGE, READ, WRITE, Ended, fields_of, full_map
from world import World, expect

RUN, NAME, SIZE = 256, "memory/pages", 128 << 20
role, directory, host, port, pid = sys.argv[1:6]
world = World(directory, host, int(port), int(pid), 0)
note, instance = os.path.join(directory, "acknowledged"), b"memory".ljust(16, b"\1")


def content(page):
    return b"%16d" % page * (PAGE // 16)


def write():
    lane = world.attach(instance=instance)
    id, epoch = lane.create(NAME, SIZE, flags=0)
    acknowledged = 0
    try:
        for first in range(0, SIZE // PAGE, RUN):
            run = b"".join(content(page) for page in range(first, first + RUN))
            head, _ = lane.call(WRITE, run, segment=id, epoch=epoch, page=first, count=RUN, version=1 + first // RUN, map=full_map(RUN))
            expect(head.status == OK, f"a write: status {head.status}")
            acknowledged = first + RUN
    except Ended:
        pass
    expect(0 < acknowledged < SIZE // PAGE, f"{acknowledged} pages were acknowledged")
    with open(note, "w") as file:
        print(acknowledged, file=file)


def read():
    lane = world.attach(instance=instance, generation=2)
    status, answer = lane.control(open=[(1, NAME), (3, 1)])
    expect(status == OK, f"open: status {status}: {answer}")
    info = fields_of(answer[2][0])
    acknowledged = int(open(note).read())
    for first in range(0, acknowledged + RUN, RUN):
        head, data = lane.call(READ, segment=info[1][0], epoch=info[8][0], page=first, count=RUN)
        expect(head.status == OK, f"a read: status {head.status}")
        there = int.from_bytes(head.map, "little")
        for page in range(first, first + RUN):
            if there >> (page - first) & 1:
                expect(data[:PAGE] == content(page), f"page {page} is not what was written")
                data = data[PAGE:]
            else:
                expect(page >= acknowledged, f"page {page} was acknowledged and is lost")
    print(f"{acknowledged} pages were acknowledged, and are there")


dict(write=write, read=read)[role]()
