# SPDX-License-Identifier: Apache-2.0
#
# secrets_client.py LIBRARY: a program of the library whose memory secrets_hunt.py searches. It makes a segment, fills a page of it where
# it lies, and says its number and where that is; then it does a step for each line that it is told: "close" ends the session.
import ctypes
import os
import sys

library = ctypes.CDLL(sys.argv[1])
library.dsm_segment_base.restype = ctypes.c_void_p
session, segment = ctypes.c_void_p(), ctypes.c_void_p()


class Interval(ctypes.Structure):
    _fields_ = [("page", ctypes.c_uint64), ("count", ctypes.c_uint64)]


def done(error):
    if error != 0:
        sys.exit(f"error {error}")


done(library.dsm_open(None, ctypes.byref(session)))
done(library.dsm_segment_create(session, b"canary-%d" % os.getpid(), ctypes.c_uint64(1 << 20), 4096, 0, ctypes.byref(segment)))
base = library.dsm_segment_base(segment)
page = (ctypes.c_char * 4096).from_address(base)
page[0] = b"x"  # so that it is here, for the kernel to write into
with open("/dev/urandom", "rb", buffering=0) as noise:
    noise.readinto(page)
done(library.dsm_clean(segment, Interval(0, 1), None))
print(os.getpid(), hex(base), flush=True)
for line in sys.stdin:
    if line == "close\n":
        done(library.dsm_segment_close(segment))
        done(library.dsm_close(session))
    print("done", flush=True)
