"""Park on the main thread until Ctrl-C; "forever" or with a "timeout", as the argument says."""

import signal
import sys

import aiopark

signal.signal(signal.SIGINT, signal.default_int_handler)
parker = aiopark.ThreadParker()
print("ready", flush=True)
try:
    if sys.argv[1] == "forever":
        parker.park()
    else:
        parker.park_timeout(100)
except KeyboardInterrupt:
    print("interrupted", flush=True)
parker.unpark()
print(parker.park_timeout(0), flush=True)
