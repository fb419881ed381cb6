"""A till in Python: sends sales over till/1 and waits until they are committed.

Written from protocol/SPEC.md alone, with aioquic for QUIC and the standard library for the rest. It knows nothing of Rust.
"""

import asyncio
import hashlib
import ssl
import struct
import tempfile
import time
from dataclasses import dataclass, field

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

MAGIC = b"TILL"
SESSION, SALE = 0, 1  # families
HELLO, GOODBYE, WELCOME, ACK, NACK, BYE = 1, 3, 16, 17, 18, 21  # messages of family 0
WHOLE_EVENT = 0xFFFF
TEXT_RECEIPT, TEXT_SKU_CODE = 1, 2
LINE_SALE, SALE_SALE, TENDER_CASH = 1, 1, 1


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), reflected, as in SPEC.md."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sku_id(code: str) -> int:
    return int.from_bytes(hashlib.sha256(code.encode()).digest()[:8], "little")


def frame(family: int, version: int, payload: bytes, count: int = 0, first_seq: int = 0) -> bytes:
    head = struct.pack("<4sBBHIIQI", MAGIC, family, version, 0, len(payload), count, first_seq, 0)
    return head + struct.pack("<I", crc32c(head + payload)) + payload


@dataclass
class Line:
    sku: str
    quantity: int  # 1e-5 units
    amount: int  # minor units


@dataclass
class Sale:
    receipt: str
    lines: list[Line]
    at_us: int = field(default_factory=lambda: int(time.time() * 1_000_000))


def archive(vectors: list[tuple[bytes, int]]) -> bytes:
    """Lays out a batch: the vectors' bytes first, the root with one (offset, length) per vector last."""
    body, starts = b"", []
    for data, _ in vectors:
        starts.append(len(body))
        body += data
    root_at, root = len(body), b""
    for index, (start, (_, count)) in enumerate(zip(starts, vectors)):
        pointer_at = root_at + 8 * index
        root += struct.pack("<iI", start - pointer_at, count)
    return body + root


def sale_batch(sales: list[Sale]) -> bytes:
    heads, lines, tenders, texts, text = b"", b"", b"", b"", b""
    line_count = text_count = 0
    for event, sale in enumerate(sales):
        due = sum(line.amount for line in sale.lines)
        heads += struct.pack(
            "<qQIhHHHHBBH", sale.at_us, 0, 0, 0, 0, len(sale.lines), 0, 0, 1, SALE_SALE, 0
        )
        tenders += struct.pack("<qBB", due, TENDER_CASH, 0)
        words = [(WHOLE_EVENT, TEXT_RECEIPT, sale.receipt)]
        for number, line in enumerate(sale.lines):
            lines += struct.pack(
                "<QqqIBBH", sku_id(line.sku), line.quantity, line.amount, 0, LINE_SALE, 1, 0
            )
            words.append((number, TEXT_SKU_CODE, line.sku))
        line_count += len(sale.lines)
        for item, kind, word in words:
            data = word.encode()
            texts += struct.pack("<HHBB", event, item, kind, len(data))
            text += data
            text_count += 1
    nothing = (b"", 0)
    return archive([
        (heads, len(sales)), (lines, line_count), (tenders, len(sales)), nothing, nothing, nothing,
        nothing, nothing, (texts, text_count), (text, len(text)),
    ])


class Refused(Exception):
    """The engine ended the stream and said why."""


class Till:
    """One terminal on one stream. Use as `async with Till(...) as till: await till.send([...])`."""

    def __init__(self, address: str, identity: str, store: int, number: int, currency: int = 840):
        self.host, port = address.rsplit(":", 1)
        self.port, self.terminal, self.currency = int(port), store << 32 | number, currency
        self.configuration = QuicConfiguration(is_client=True, alpn_protocols=["till/1"])
        self.configuration.server_name = "tillstream"
        self.configuration.verify_mode = ssl.CERT_REQUIRED
        self._trust(open(identity, encoding="ascii").read())
        self.refusals: list[tuple[int, int]] = []
        self.over = False  # the engine has said Bye

    def _trust(self, pem: str) -> None:
        pem = pem.replace("\r\n", "\n")
        blocks = pem.replace("-----BEGIN", "\0-----BEGIN").split("\0")[1:]
        authority, certificate = [block for block in blocks if "CERTIFICATE" in block][:2]
        key = next(block for block in blocks if "PRIVATE KEY" in block)
        self.configuration.load_verify_locations(cadata=authority.encode())
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(certificate + key)
            file.flush()
            self.configuration.load_cert_chain(file.name)

    async def __aenter__(self) -> "Till":
        self.connection = connect(self.host, self.port, configuration=self.configuration)
        client = await self.connection.__aenter__()
        self.reader, self.writer = await client.create_stream()
        hello = struct.pack("<HBBB", 1, 1, SALE, 1)
        hello += struct.pack("<QIq", self.terminal, 0, int(time.time() * 1_000_000))
        hello += struct.pack("<HB", self.currency, 0)
        self.writer.write(frame(SESSION, HELLO, hello))
        _, welcome = await self._message(WELCOME)
        _, self.epoch, _, self.next_seq = struct.unpack_from("<QIIQ", welcome)
        return self

    async def __aexit__(self, *error) -> None:
        if not self.over:
            self.writer.write(frame(SESSION, GOODBYE, b""))
        await self.connection.__aexit__(*error)

    async def send(self, sales: list[Sale]) -> int:
        """Sends the sales in one frame and waits until all are committed. Gives the last sequence number."""
        last = self.next_seq + len(sales) - 1
        self.writer.write(frame(SALE, 1, sale_batch(sales), len(sales), self.next_seq))
        self.next_seq = last + 1
        committed = 0
        while committed < last:
            _, ack = await self._message(ACK)
            _, committed, refused = struct.unpack_from("<QQH", ack)
            self.refusals += [struct.unpack_from("<QH", ack, 18 + 12 * n) for n in range(refused)]
        return last

    async def _message(self, wanted: int) -> tuple[int, bytes]:
        while True:
            head = await asyncio.wait_for(self.reader.readexactly(32), 30)
            magic, _, kind, _, length, _, _, _, crc = struct.unpack("<4sBBHIIQII", head)
            payload = await self.reader.readexactly(length)
            assert magic == MAGIC and crc == crc32c(head[:28] + payload), "the engine sent a broken frame"
            if kind == BYE:
                self.over = True
                raise Refused(struct.unpack_from("<H", payload)[0], payload[3:].decode())
            if kind == wanted:
                return kind, payload
