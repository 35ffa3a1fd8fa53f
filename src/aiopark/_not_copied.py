"""Objects that no copy and no pickle can stand for."""

from typing import ClassVar, Never, SupportsIndex


class NotCopied:
    """Refuses `copy`, `deepcopy` and `pickle`, as `threading.Lock` does: nobody would wake a copy."""

    __slots__ = ()
    _instead: ClassVar[str]

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Never:
        kind = type(self).__name__
        raise TypeError(
            f"cannot copy or pickle {kind!r}: a copy would be another {kind}, that nobody wakes; {self._instead}"
        )
