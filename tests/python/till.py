"""A till in Python: sends sales over till/1 and waits until they are committed.

Written from protocol/SPEC.md alone, with aioquic for QUIC and the standard library for the rest. It knows nothing of Rust.
"""

import asyncio
import hashlib
import pathlib
import re
import ssl
import struct
import tempfile
import time
from dataclasses import dataclass, field

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

SESSION, SALE = 0, 1  # families
HELLO, CHECK, GOODBYE, WELCOME, ACK, NACK, BYE, CHECKED = 1, 2, 3, 16, 17, 18, 21, 22  # kinds in family 0
WHOLE_EVENT = 0xFFFF
RECEIPT, SKU_CODE, EACH = 1, 2, 1
SECONDS = 30


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def first_eight(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


def frame(family: int, version: int, payload: bytes, count: int = 0, first_seq: int = 0) -> bytes:
    head = struct.pack("<4sBBHIIQI", b"TILL", family, version, 0, len(payload), count, first_seq, 0)
    return head + struct.pack("<I", crc32c(head + payload)) + payload


@dataclass
class Line:
    sku: str
    quantity: int  # 1e-5 pieces
    amount: int  # minor units

    def record(self) -> bytes:
        return struct.pack("<QqqIBBH", first_eight(self.sku.encode()), self.quantity, self.amount, 0, 1, EACH, 0)


@dataclass
class Sale:
    """A sale that was paid in cash."""

    receipt: str
    lines: list[Line]
    at_us: int = field(default_factory=lambda: time.time_ns() // 1_000)
    kind: int = 1
    event_id: bytes = b""

    def due(self) -> int:
        return sum(line.amount for line in self.lines)

    def record(self) -> bytes:
        return struct.pack("<qQIhHHHHBBH", self.at_us, 0, 0, 0, 0, len(self.lines), 0, 0, 1, self.kind, 0)

    def mark(self) -> int:
        sums = 2 * self.due().to_bytes(16, "little", signed=True)  # lines, then tenders
        return first_eight(bytes([SALE, 1]) + self.record() + sums) or 1


def payload_of(sales: list[Sale]) -> bytes:
    records, lines, tenders, refs, texts, words = [], [], [], [], [], []
    for event, sale in enumerate(sales):
        records.append(sale.record())
        lines += [line.record() for line in sale.lines]
        tenders.append(struct.pack("<qBB", sale.due(), 1, 0))
        if sale.event_id:
            refs.append(struct.pack("<HBB16s", event, 1, 0, sale.event_id))
        named = [(WHOLE_EVENT, RECEIPT, sale.receipt)]
        named += [(number, SKU_CODE, line.sku) for number, line in enumerate(sale.lines)]
        for item, kind, word in named:
            words.append(word.encode())
            texts.append(struct.pack("<HHBB", event, item, kind, len(words[-1])))
    text = b"".join(words)
    body, root = b"", b""
    vectors = [records, lines, tenders, [], [], [], [], refs, texts]
    vectors = [(b"".join(vector), len(vector)) for vector in vectors] + [(text, len(text))]
    end = sum(len(data) for data, _ in vectors)
    for data, number in vectors:
        root += struct.pack("<iI", len(body) - end - len(root), number)
        body += data
    return body + root


def sale_frame(sales: list[Sale], first_seq: int) -> bytes:
    return frame(SALE, 1, payload_of(sales), len(sales), first_seq)


class Refused(Exception):
    """The engine ended the stream; `reason` says why."""

    def __init__(self, reason: int, text: str):
        super().__init__(f"{reason}: {text}")
        self.reason = reason


class Till:
    """One terminal on one stream: `async with Till(...) as till: await till.send([...])`.

    `identity` is a PEM file: the authority's certificate, the device's and its key.
    """

    def __init__(self, address: str, identity: str, store: int, number: int, epoch: int = 0, currency: int = 840):
        host, port = address.rsplit(":", 1)
        config = QuicConfiguration(is_client=True, alpn_protocols=["till/1"], verify_mode=ssl.CERT_REQUIRED)
        config.server_name = "tillstream"
        pem = pathlib.Path(identity).read_text("ascii")  # any line ends become \n
        authority, *own = re.findall(r"-----BEGIN (?:.|\n)*?-----END [A-Z ]+-----\n", pem)
        config.load_verify_locations(cadata=authority.encode())
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write("".join(own))
            file.flush()
            config.load_cert_chain(file.name)
        self.connection = connect(host, int(port), configuration=config)
        now = time.time_ns() // 1_000
        self.terminal = store << 32 | number
        # Protocol 1, one family; terminal, epoch, clock; currency; zone not stated.
        self.hello = struct.pack("<HBBBQIqHB", 1, 1, SALE, 1, self.terminal, epoch, now, currency, 0)
        self.refusals: list[tuple[int, int]] = []
        self.committed = 0
        self.over = False  # the engine has said Bye

    async def __aenter__(self) -> "Till":
        client = await self.connection.__aenter__()
        self.reader, self.writer = await client.create_stream()
        self.writer.write(frame(SESSION, HELLO, self.hello))
        try:
            welcome = await self.message(WELCOME)
        except BaseException:
            await self.connection.__aexit__(None, None, None)
            raise
        fields = struct.unpack("<QIIQQIIIqI", welcome)
        terminal, self.epoch, self.latest_epoch, self.next_seq, self.mark = fields[:5]
        assert terminal == self.terminal
        self.flags = fields[9]
        return self

    async def __aexit__(self, *error) -> None:
        if not self.over:
            self.writer.write(frame(SESSION, GOODBYE, b""))
            self.writer.write_eof()
        await self.connection.__aexit__(*error)

    async def send(self, sales: list[Sale], first_seq: int = 0) -> int:
        """Sends the sales in one frame and waits until all are committed. Gives what is committed by then.

        What is known already may get no Ack of its own: an Ack that says nothing new is not sent.
        """
        first_seq = first_seq or self.next_seq
        last = first_seq + len(sales) - 1
        self.writer.write(sale_frame(sales, first_seq))
        self.next_seq = max(self.next_seq, last + 1)
        while self.committed < last:
            await self.message(ACK)
        return self.committed

    async def check(self, marks: list[int], epoch: int, first_seq: int = 1) -> tuple[int, int, int, int]:
        """Gives epoch, first_seq, matched and known of the Checked."""
        ask = struct.pack(f"<IQH{len(marks)}Q", epoch, first_seq, len(marks), *marks)
        self.writer.write(frame(SESSION, CHECK, ask))
        return struct.unpack("<IQHH", await self.message(CHECKED))

    async def message(self, wanted: int) -> bytes:
        """The payload of the next message of a kind. Acks are noted on the way; a Bye is an error."""
        while True:
            head = await asyncio.wait_for(self.reader.readexactly(32), SECONDS)
            magic, family, kind, _, length, _, _, _, checksum = struct.unpack("<4sBBHIIQII", head)
            payload = await asyncio.wait_for(self.reader.readexactly(length), SECONDS)
            assert (magic, family, checksum) == (b"TILL", SESSION, crc32c(head[:28] + payload))
            if kind == ACK:
                self.note(payload)
            if kind == BYE:
                self.over = True
                raise Refused(struct.unpack_from("<H", payload)[0], payload[3:].decode())
            if kind == wanted:
                return payload

    def note(self, ack: bytes) -> None:
        journalled, committed, refused = struct.unpack_from("<QQH", ack)
        assert self.committed <= committed <= journalled, "what is committed never falls"
        assert len(ack) == 18 + 12 * refused
        self.committed = committed
        self.refusals += [struct.unpack_from("<QH", ack, 18 + 12 * n) for n in range(refused)]
