"""Park a thread on a word, and print the name of the backend."""

import threading

import aiopark
from aiopark.lowlevel import default_backend

parker = aiopark.ThreadParker(aiopark.Word())
thread = threading.Thread(target=parker.unpark)
thread.start()
parker.park()
thread.join()
print(default_backend().name)
