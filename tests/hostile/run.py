# SPDX-License-Identifier: Apache-2.0
#
# run.py GROUP DIRECTORY HOST PORT PID METRICS_PORT: plays a group of hostile cases, or one, GROUP.CASE, on a running dsmd.
# run.py --table: the table of all of them, as in tests/hostile/README.md.
import sys

import records  # each of these registers its cases
import requests
import strangers
import streams
import world


def main():
    if sys.argv[1] == "--table":
        print(world.table())
        return 0
    group, directory, host, port, pid, metrics_port = sys.argv[1:7]
    return world.run(world.World(directory, host, int(port), int(pid), int(metrics_port)), group) > 0


sys.exit(main())
