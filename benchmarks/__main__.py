"""Run all benchmarks, or those whose title has the text of --only."""

from __future__ import annotations

import sys

import burst
import coalesced
import many_loops
import native
import processes
import round_trip
import same_loop
import threads
import watched_words
import workers
from _runner import main

FILES = (threads, round_trip, burst, same_loop, many_loops, native, coalesced, processes, watched_words, workers)

if __name__ == "__main__":
    sys.exit(main(*(benchmark for file in FILES for benchmark in file.BENCHMARKS)))
