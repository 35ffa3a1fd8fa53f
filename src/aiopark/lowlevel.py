"""What builders need: wait and wake on the address of a word, one class a kernel."""

from aiopark._cell import fence
from aiopark._os import Backend, Futex, Portable, Ulock, WaitAddress, default_backend, refused_backends

__all__ = ["Backend", "Futex", "Portable", "Ulock", "WaitAddress", "default_backend", "fence", "refused_backends"]
