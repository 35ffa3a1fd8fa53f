"""What finalizers may call, after the interpreter has set the globals of all modules to None, as it does at its end.

On free-threaded builds the last finalizers run after that; here it is done by hand, so that every build shows it. At
its true end the interpreter says so (`sys.is_finalizing`), and then `close` does nothing.
"""

from __future__ import annotations

import sys

import aiopark
from aiopark._base_parker import BaseParker

BaseParker._is_finalizing = aiopark.Word._is_finalizing = staticmethod(lambda: True)

word, other = aiopark.Word(), aiopark.Word()
parkers = aiopark.Parker(), aiopark.ThreadParker(), aiopark.Parker(other), aiopark.ThreadParker(word)
handles = [each.unpark_lock() for each in (word, *parkers)]
taken = aiopark.ThreadParker()

for name, module in list(sys.modules.items()):
    if name.partition(".")[0] == "aiopark":
        for key in list(vars(module)):
            if not key.startswith("__"):
                vars(module)[key] = None

for handle in handles:
    handle.unpark()
for each in (word, *parkers):
    each.unpark()
    each.unpark_lock().unpark()
word.store(2)
assert word.load() == 2
word.wake()
word.wake(1)
for each in (*parkers, word, other):
    each.close()
