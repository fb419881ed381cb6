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
CLOSED = 1  # flag of a Welcome
CHECK_MARKS_MAX = 512
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


@dataclass
class Outbox:
    """What a device keeps: the events of its epoch under their numbers, from 1 on. This one sends whole frames of sales."""

    epoch: int = 0
    sales: list[Sale] = field(default_factory=list)
    committed: int = 0
    sent: int = 0  # the last one that this process has sent
    there: int | None = None  # the last one in another history of this epoch
    dead: list[Sale] = field(default_factory=list)

    def same_history(self, till: "Till") -> bool:
        n = till.next_seq - 1
        if till.flags & CLOSED or n < self.committed or n > len(self.sales):
            return False
        if n == 0:
            return True
        sale = self.sales[n - 1]
        if sale.mark() != till.mark:
            return False
        return n <= self.committed + 1 or n <= self.sent or not sale.event_id

    async def compare(self, till: "Till") -> bool:
        """Begins the epoch that is granted. False: all that the server has was found, and the own one goes on."""
        start, is_plain = self.committed + 1, True
        for epoch in range(self.epoch or 1, min(till.latest_epoch, till.epoch - 1) + 1):
            seq = start if epoch == self.epoch else 1
            while start <= len(self.sales):
                digests = [sale.mark() for sale in self.sales[start - 1:start + CHECK_MARKS_MAX - 1]]
                _, _, matched, known = await till.check(digests, epoch, seq)
                refused = [start + number - seq for number, _ in till.refusals]
                self.dead += [self.sales[number - 1] for number in refused]
                is_plain = is_plain and self.there not in refused
                till.refusals.clear()
                start, seq = start + matched, seq + matched
                if matched == len(digests):
                    continue
                is_own = epoch == self.epoch == till.latest_epoch and self.there is not None and start == self.there + 1
                if is_own and matched == known and is_plain:
                    self.sent, self.there = self.there, None
                    return False
                if epoch != self.epoch or matched < known or self.there is None or start > self.there:
                    break
                self.dead.append(self.sales[start - 1])
                start, seq, is_plain = start + 1, seq + 1, False
        self.epoch, self.sales = till.epoch, self.sales[start - 1:]
        self.committed, self.sent, self.there = 0, 0, None
        return True

    async def deliver(self, reach) -> None:
        """Sends what is not committed. `reach(epoch)` gives a till to open a stream with."""
        while True:
            asked = 0 if self.there is not None else self.epoch
            async with reach(asked) as till:
                if asked == 0:
                    if not await self.compare(till):
                        continue
                elif not self.same_history(till):
                    self.there = till.next_seq - 1
                    continue
                waiting = self.sales[self.committed:]
                if waiting:
                    self.sent = len(self.sales)
                    await till.send(waiting, self.committed + 1)
                    self.dead += [self.sales[seq - 1] for seq, _ in till.refusals]
                    self.committed = len(self.sales)
                return


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

    async def check(self, digests: list[int], epoch: int, first_seq: int = 1) -> tuple[int, int, int, int]:
        """Gives epoch, first_seq, matched and known of the Checked."""
        ask = struct.pack(f"<IQH{len(digests)}Q", epoch, first_seq, len(digests), *digests)
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
