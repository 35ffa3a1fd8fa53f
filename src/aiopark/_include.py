"""Where the C header is."""

from pathlib import Path


def get_include() -> str:
    """Give the folder of `aiopark.h`, for the compiler's `-I`.

    May be called from any thread. Does not block.

    Returns:
        An absolute path.

    Example:
        >>> import pathlib, aiopark
        >>> (pathlib.Path(aiopark.get_include()) / "aiopark.h").is_file()
        True
    """
    return str(Path(__file__).parent / "include")
