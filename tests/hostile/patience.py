# SPDX-License-Identifier: Apache-2.0
#
# patience.py LIBRARY ROLE [STOP]: a program of the library for patience.sh and limits.sh. ROLE:
#   open    opens a session and says how that went
#   create  makes a segment
#   close   closes the session
#   idle    makes a segment and does nothing for 12 s
#   writer  opens the segment of idle for writing
#   stack   says how large the signal stack of dsm_thread_init() is
# STOP: the number of a process that is stopped before; or MARK=VALUE: its own dsmd, which has this in its environment.
# Exit 1 with the library's words when the last call fails.
import ctypes
import os
import signal
import sys
import time

library, libc = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(None)
role, session, segment = sys.argv[2], ctypes.c_void_p(), ctypes.c_void_p()


class Detail(ctypes.Structure):
    _fields_ = [("error", ctypes.c_int), ("page", ctypes.c_uint64), ("segment", ctypes.c_char * 256), ("server", ctypes.c_char * 280),
                ("text", ctypes.c_char * 320)]


class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def create():
    return library.dsm_segment_create(session, b"patience", ctypes.c_uint64(1 << 20), 4096, 0, ctypes.byref(segment))


def stack():
    have = Stack()
    error = library.dsm_thread_init() or libc.sigaltstack(None, ctypes.byref(have))
    print(have.size)
    return error


def idle():
    error = create()
    time.sleep(12)
    return error


def contents(pid, name):
    try:
        return open(f"/proc/{pid}/{name}", "rb").read()
    except OSError:
        return b""


def process(stop):
    if "=" not in stop:
        return int(stop)
    (pid,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and b"--embedded" in contents(pid, "cmdline")
              and stop.encode() in contents(pid, "environ")]
    return pid


ROLES = dict(open=lambda: 0, create=create, close=lambda: library.dsm_close(session), idle=idle, stack=stack,
             writer=lambda: library.dsm_segment_open(session, b"patience", 1, ctypes.byref(segment)))
pid = None
error = library.dsm_open(None, ctypes.byref(session))
try:
    if error == 0:
        if len(sys.argv) > 3:
            pid = process(sys.argv[3])
            os.kill(pid, signal.SIGSTOP)
        error = ROLES[role]()
finally:
    if pid is not None:
        os.kill(pid, signal.SIGCONT)
library.dsm_error.restype = ctypes.POINTER(Detail)
print(library.dsm_error().contents.text.decode() if error else "done", flush=True)
os._exit(error != 0)
