#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""stat_proxy.py PORT DELAY_MS: a slow wire. Prints the port that it listens on; what comes there goes on to
127.0.0.1:PORT, and back, each piece after the delay."""
import socket
import sys
import threading
import time


def pump(source, sink, delay):
    try:
        while data := source.recv(1 << 16):
            time.sleep(delay)
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def main():
    port, delay = int(sys.argv[1]), float(sys.argv[2]) / 1000
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", port))
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=pump, args=(near, far, delay), daemon=True).start()
        threading.Thread(target=pump, args=(far, near, delay), daemon=True).start()


main()
