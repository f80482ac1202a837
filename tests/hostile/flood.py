# SPDX-License-Identifier: Apache-2.0
#
# flood.py KIND HOST PORT SECONDS RATE: what a stranger can pour on a listener, from thousands of addresses (10.66.0.0/16, which the
# namespace calls its own). Prints what it did. KIND:
#   half     RATE connections at once, held silent, each replaced when it is ended
#   garbage  RATE new connections a second, each closed soon after, with 300 bytes of garbage (connect: flood_connect.c)
#   slow     RATE connections that send a byte of a hello in each second
import collections
import os
import resource
import select
import socket
import sys
import time

kind, host, port, seconds, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
MORE_S = 90
begin = time.monotonic()
made = refused = ended = 0


def connect():
    global made, refused
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    one.bind((f"10.66.{made >> 8 & 255}.{made & 255 or 1}", 0))
    try:
        one.connect((host, port))
    except BlockingIOError:
        pass
    except OSError:
        refused += 1
        one.close()
        return None
    made += 1
    return one


def left():
    return begin + seconds - time.monotonic()


def held():
    """Keeps RATE connections, and makes new ones for those that are ended."""
    global ended
    poll, ones, last = select.epoll(), {}, 0
    while left() > 0 or (made < rate and left() > -MORE_S):  # on a busy machine until all were there once
        for _ in range(min(rate - len(ones), 500)):
            one = connect()
            if one is not None:
                ones[one.fileno()] = one
                poll.register(one, select.EPOLLIN | select.EPOLLRDHUP)
        for number, _ in poll.poll(0.02, 500):
            ones.pop(number).close()
            ended += 1
        if kind == "slow" and time.monotonic() - last > 1:
            last = time.monotonic()
            for one in ones.values():
                try:
                    one.send(b"d"[:1])
                except OSError:
                    pass


def stream():
    """RATE new ones a second; the last thousand are kept for the moment that a handshake of TCP takes."""
    global ended
    ones = collections.deque()
    while left() > 0:
        for _ in range(int(rate * (seconds - left())) - made - refused):
            one = connect()
            if one is not None:
                ones.append(one)
            if len(ones) > 1000:
                one = ones.popleft()
                try:
                    one.send(os.urandom(300))
                except OSError:
                    pass
                one.close()
                ended += 1
            if left() <= 0:
                break
        time.sleep(0.002)


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
(held if kind in ("half", "slow") else stream)()
took = time.monotonic() - begin
print(f"{kind}: {made} connections in {took:.1f} s ({made / took:.0f}/s), {ended} ended, {refused} not made")
