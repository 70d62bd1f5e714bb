"""Ways to spoil bytes, the same for the same seed. One entry of the system is one test file here.

A new entry (a webhook, a form, another file format) gets a file of its own: take good inputs, spoil
`MANY` of them with one of these, and compare what comes out with what the models say.
"""

from __future__ import annotations

from random import Random

#: Spoiled inputs an entry is given at least.
MANY = 10_000

#: What means something to somebody: CSV, JSON, TOML, UTF-8, terminals.
_ODD = [b'"', b",", b"\r", b"\0", b"\xff", b"\\", b"{", b"}", b"[", b"]", b":", b"-", b"+",
        b"0", b"9", b" ", b"e", b"null", b"true", b"\\ud800", b"\xe5\x91\xbc", b"\xef\xbb\xbf",
        b"\x0b", b"'", b"|", b"=", b"#", b"\t", b"\x85", b"\xe2\x80\xa8", b"1e999",
        b"9" * 30, b""]  # fmt: skip


def spoiled(data: bytes, rng: Random) -> bytes:
    """The bytes with a few of them changed, put in, taken out or doubled, or cut short."""
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.randint(0, 8)
        match rng.randrange(6):
            case 0:
                data = data[:at] + rng.choice(_ODD) + data[at + length :]
            case 1:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 2 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 3:
                data = data[:at] + data[at : at + 40] * rng.randint(0, 3) + data[at + 40 :]
            case 4:
                data = data[:at] + rng.randbytes(length) + data[at:]
            case _:
                data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data
    return data


def spoiled_line(line: bytes, rng: Random) -> bytes:
    """The same, still one line."""
    return spoiled(line, rng).replace(b"\n", b" ")
