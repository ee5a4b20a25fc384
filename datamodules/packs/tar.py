"""The blocks of a tar file: what `tarfile` writes (POSIX ustar), but a header in microseconds, and read at any offset.

Of a pack's members only regular files with names of at most 100 ASCII characters.
"""

import tarfile

BLOCK = 512
END = bytes(2 * BLOCK)  # of an archive
MOST = 8**11 - 1  # bytes of a member

_TEMPLATE = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
_ZEROS, _CHECKSUM = slice(124, 136), slice(148, 156)
_BASE = sum(_TEMPLATE[:124]) + sum(_TEMPLATE[136:148]) + 8 * 32 + sum(_TEMPLATE[156:])
_PADDING = [bytes(count) for count in range(BLOCK)]


def header(name: str, size: int) -> bytes:
    """The block before a member's bytes. Raises ValueError for one that is too large."""
    if size > MOST:
        raise ValueError(f"{name}: {size} bytes are more than a tar file's header can say (8 GiB)")
    block = bytearray(_TEMPLATE)
    encoded, digits = name.encode("ascii"), b"%011o\0" % size
    block[: len(encoded)] = encoded
    block[_ZEROS] = digits
    block[_CHECKSUM] = b"%06o\0 " % (_BASE + sum(encoded) + sum(digits))
    return bytes(block)


def padding(size: int) -> bytes:
    """What follows a member's bytes."""
    return _PADDING[-size % BLOCK]


def read_header(block: bytes) -> tuple[str, int] | None:
    """(name, size) of a member; None where these bytes are no header of a regular file."""
    try:
        checksum = block[_CHECKSUM]
        if len(block) < BLOCK or block[156:157] not in b"0\0":
            return None
        if int(checksum.rstrip(b"\0 "), 8) != sum(block) - sum(checksum) + 8 * 32:
            return None
        return block[:100].rstrip(b"\0").decode("ascii"), int(block[124:136].rstrip(b"\0 "), 8)
    except ValueError:
        return None
