"""Starts an engine, sends sales from Python and asks the engine what was sold."""

import asyncio
import json
import os
import pathlib
import re
import struct
import subprocess
import time
import urllib.request
from dataclasses import replace

import pytest
from till import NACK, Line, Outbox, Refused, Sale, Till, crc32c, first_eight, payload_of, sale_frame
from till import frame as frame_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The engine that is tried; TILLSTREAM names another one.
TILLSTREAM = os.environ.get("TILLSTREAM", ROOT / "target/release/tillstream")
SPEC = (ROOT / "protocol/SPEC.md").read_text("utf-8")
MILK, BREAD = Line("4006381333931", 200_000, 258), Line("BREAD", 100_000, 342)
NOON_US = 1_795_254_594_000_000


class Engine:
    def __init__(self, data: pathlib.Path):
        self.data, self.process = data, None

    def start(self):
        ready = self.data / "ready.json"
        ready.unlink(missing_ok=True)
        self.process = subprocess.Popen([
            TILLSTREAM, "serve", "--dev", "--data", self.data / "data",
            "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ready-file", ready,
        ])
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert self.process.poll() is None, "the engine ended before it accepted"
            assert time.monotonic() < deadline, "the engine did not accept within a minute"
            time.sleep(0.02)
        self.said = json.loads(ready.read_text())

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0, "the engine did not drain in good order"

    def crash(self):
        self.process.kill()
        self.process.wait(60)

    def till(self, store, number=1, **more):
        return Till(self.said["quic"], self.said["identity"], store, number, **more)

    def ask(self, path):
        with urllib.request.urlopen(self.said["admin"].rstrip("/") + path, timeout=30) as answer:
            return json.load(answer)["rows"]

    def sold(self, store):
        """Transactions, lines and net amount of a store."""
        rows = self.ask(f"/api/v1/sales?by=store&store={store}")
        return [(row["transactions"], row["lines"], row["net_minor"]) for row in rows]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = Engine(tmp_path_factory.mktemp("engine"))
    try:
        engine.start()
        yield engine
        engine.stop()
    finally:
        if engine.process is not None and engine.process.poll() is None:
            engine.crash()


def dump(name):
    """The bytes of a frame that the specification shows."""
    block = re.search(rf"```hex {re.escape(name)}\n(.*?)```", SPEC, re.S).group(1)
    return bytes.fromhex("".join(re.findall(r"(?m)^[0-9a-f]{4}  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  |$)", block)))


def test_the_specification_and_python_agree_on_sums_and_bytes():
    assert crc32c(b"123456789") == 0xE3069283
    assert first_eight(b"MILK") == 0x259A0B0C0F262F38
    small, full = dump("sale.v1.small"), dump("sale.v1.full")
    for shown in small, full:
        length, = struct.unpack_from("<I", shown, 8)
        checksum, = struct.unpack_from("<I", shown, 28)
        assert (len(shown), crc32c(shown[:28] + shown[32:])) == (32 + length, checksum)
    hashed, mark = re.search(r"`sale\.v1\.small` \| `([0-9a-f]+)` \| `0x([0-9a-f]+)`", SPEC).groups()
    assert first_eight(bytes.fromhex(hashed)) == int(mark, 16)


def test_the_layout_of_a_payload_is_that_of_the_specification():
    payload = payload_of([Sale("R", [MILK], NOON_US, event_id=bytes(16))])
    # 34 sale, 32 line, 10 tender, 20 reference, 2 * 6 texts, 14 text, 10 * 8 root
    assert len(payload) == 34 + 32 + 10 + 20 + 12 + 14 + 80
    root = [struct.unpack_from("<iI", payload, len(payload) - 80 + 8 * n) for n in range(10)]
    starts = [len(payload) - 80 + 8 * n + pointer for n, (pointer, _) in enumerate(root)]
    assert starts == [0, 34, 66, 76, 76, 76, 76, 76, 96, 108]
    assert [number for _, number in root] == [1, 1, 1, 0, 0, 0, 0, 1, 2, 14]
    assert payload[108:122] == b"R4006381333931"


def test_a_sale_from_python_is_there_once(engine):
    async def sell():
        async with engine.till(7, 3) as till:
            assert (till.epoch, till.latest_epoch, till.next_seq, till.mark) == (1, 1, 1, 0)
            sold = [Sale("PY-1", [MILK, BREAD]), Sale("PY-2", [BREAD])]
            assert await till.send(sold) == 2
            assert till.refusals == []

    asyncio.run(sell())
    assert engine.sold(7) == [(2, 3, 942)]
    skus = {row["sku"]: row["quantity"] for row in engine.ask("/api/v1/sales?by=sku&store=7")}
    assert skus == {"4006381333931": "2", "BREAD": "2"}
    levels = {row["sku"]: row["quantity"] for row in engine.ask("/api/v1/stock?store=7")}
    assert levels == {"4006381333931": "-2", "BREAD": "-2"}
    receipt, = engine.ask("/api/v1/transactions?receipt=PY-1")
    assert (receipt["store"], receipt["terminal"], receipt["seq"], len(receipt["lines"])) == (7, 3, 1, 2)


def test_a_frame_that_is_sent_again_is_a_duplicate_and_acknowledged(engine):
    async def sell():
        first, second, third = (Sale(f"D-{n}", [BREAD]) for n in (1, 2, 3))
        async with engine.till(8) as till:
            assert await till.send([first, second]) == 2
            assert await till.send([first, second], first_seq=1) == 2
            # A frame that begins with what is known and goes on with what is not.
            assert await till.send([second, third], first_seq=2) == 3
        async with engine.till(8, epoch=1) as till:
            assert (till.epoch, till.latest_epoch, till.next_seq, till.flags) == (1, 1, 4, 0)
            assert till.mark == third.mark()
            assert await till.send([first, second, third], first_seq=1) == 3

    asyncio.run(sell())
    assert engine.sold(8) == [(3, 3, 3 * 342)]


def test_a_gap_gets_a_nack_and_nothing_is_taken_before_the_expected_one(engine):
    async def sell():
        sales = [Sale(f"G-{n}", [BREAD]) for n in range(1, 5)]
        async with engine.till(9) as till:
            await till.send(sales[:1])
            till.writer.write(sale_frame(sales[2:3], 3))
            assert await till.message(NACK) == struct.pack("<Q", 2)
            till.writer.write(sale_frame(sales[3:], 4))
            assert await till.send(sales[1:], first_seq=2) == 4

    asyncio.run(sell())
    assert engine.sold(9) == [(4, 4, 4 * 342)]


def broken(offset):
    """A good frame with one bit turned."""
    frame = bytearray(sale_frame([Sale("X-1", [BREAD])], 1))
    frame[offset] ^= 1
    return bytes(frame)


@pytest.mark.parametrize(("frame", "reason"), [
    (broken(28), 2),  # the checksum itself
    (broken(60), 2),  # the payload
    (broken(0), 1),  # magic
    (broken(6), 5),  # flags
    (broken(5), 4),  # version
    (broken(24), 5),  # reserved
    (broken(18), 2),  # first_seq, still in range
    (b"TILL" + bytes(28), 2),  # a session message: its kind is looked at last
    (frame_of(0, 99, b""), 6),  # one of a kind that there is not
    (frame_of(2, 1, b"x", 1, 1), 4),  # a family that there is not
    (frame_of(1, 1, b"", 1025, 1), 3),  # more events than a frame may have
    (frame_of(1, 1, b"", 1, 0), 5),  # no sequence number
], ids=[
        "checksum", "payload", "magic", "flags", "version", "reserved", "first_seq", "blank",
        "kind", "family", "count", "zero"])
def test_a_broken_frame_gets_a_bye_and_leaves_nothing(engine, frame, reason):
    async def send_garbage():
        async with engine.till(10) as till:
            till.writer.write(frame)
            with pytest.raises(Refused) as refused:
                await till.send([Sale("X-2", [BREAD])])
            assert refused.value.reason == reason

    asyncio.run(send_garbage())
    assert engine.sold(10) == []


def test_a_check_agrees_with_marks_computed_here(engine):
    async def compare():
        sales = [Sale(f"C-{n}", [MILK, BREAD], NOON_US + n) for n in range(5)]
        digests = [sale.mark() for sale in sales]
        async with engine.till(11) as till:
            await till.send(sales)
            assert await till.check(digests, 1) == (1, 1, 5, 5)
            assert await till.check([*digests[:3], digests[3] ^ 1, digests[4]], 1) == (1, 1, 3, 5)
            assert await till.check(digests[2:], 1, first_seq=3) == (1, 3, 3, 3)
            assert await till.check([*digests, 77], 1) == (1, 1, 5, 5)
            assert await till.check([0] * 5, 1) == (1, 1, 0, 5)
            assert await till.check(digests, 2) == (2, 1, 0, 0)
        async with engine.till(11) as till:
            # Another epoch, which is not real yet: the one before is still open and can be compared.
            assert (till.epoch, till.latest_epoch, till.next_seq) == (2, 1, 1)
            assert await till.check(digests, 1) == (1, 1, 5, 5)

    asyncio.run(compare())


def test_a_refused_event_uses_up_its_number_and_is_listed(engine):
    async def sell():
        async with engine.till(12) as till:
            good, bad, also_good = Sale("F-1", [BREAD]), Sale("F-2", [BREAD], kind=99), Sale("F-3", [BREAD])
            assert await till.send([good, bad, also_good]) == 3
            assert till.refusals == [(2, 101)]
            # A refused event is compared like any other, and named again where it is equal.
            assert await till.check([good.mark(), 1, also_good.mark()], 1) == (1, 1, 1, 3)
            till.refusals.clear()
            assert await till.check([sale.mark() for sale in (good, bad, also_good)], 1) == (1, 1, 3, 3)
            assert till.refusals == [(2, 101)]
        async with engine.till(12, epoch=1) as till:
            assert (till.next_seq, till.mark) == (4, also_good.mark())
            # What is sent again is known, and what was refused of it is told again.
            assert await till.send([good, bad, also_good], first_seq=1) == 3
            assert till.refusals == [(2, 101)]

    asyncio.run(sell())
    assert engine.sold(12) == [(2, 2, 684)]


def test_one_event_id_takes_effect_once_over_all_terminals(engine):
    async def sell():
        sale = Sale("E-1", [BREAD], NOON_US, event_id=b"sixteen bytes id")
        other = Sale("E-1", [MILK], NOON_US, event_id=b"sixteen bytes id")
        for number in 1, 2:
            async with engine.till(13, number) as till:
                assert await till.send([sale, sale, other]) == 3
                assert till.refusals == []

    asyncio.run(sell())
    assert engine.sold(13) == [(1, 1, 342)]


def test_an_older_life_is_closed_once_a_newer_one_has_an_event(engine):
    async def sell():
        async with engine.till(14) as till:
            await till.send([Sale("O-1", [BREAD])])
        async with engine.till(14) as till:
            assert (till.epoch, till.next_seq) == (2, 1)
            await till.send([Sale("O-2", [BREAD])])
        async with engine.till(14, epoch=1) as till:
            assert (till.epoch, till.latest_epoch, till.next_seq, till.flags & 1) == (1, 2, 2, 1)
            with pytest.raises(Refused) as refused:
                await till.send([Sale("O-3", [BREAD])])
            assert refused.value.reason == 23

    asyncio.run(sell())
    assert engine.sold(14) == [(2, 2, 684)]


def test_a_later_session_of_a_terminal_takes_the_place_of_an_earlier_one(engine):
    async def sell():
        async with engine.till(15) as early:
            await early.send([Sale("S-1", [BREAD])])
            async with engine.till(15, epoch=1) as late:
                with pytest.raises(Refused) as refused:
                    await early.send([Sale("S-2", [MILK])])
                assert refused.value.reason == 29
                await late.send([Sale("S-2", [BREAD])])

    asyncio.run(sell())
    assert engine.sold(15) == [(2, 2, 684)]


def test_what_was_acknowledged_outlives_a_crash_and_a_resend(engine):
    sales = [Sale(f"K-{n}", [BREAD], NOON_US + n) for n in range(3)]

    async def sell():
        async with engine.till(16) as till:
            await till.send(sales)

    async def again():
        async with engine.till(16, epoch=1) as till:
            assert (till.next_seq, till.mark) == (4, sales[2].mark())
            assert await till.check([sale.mark() for sale in sales], 1) == (1, 1, 3, 3)
            assert await till.send(sales, first_seq=1) == 3

    asyncio.run(sell())
    engine.crash()
    engine.start()
    asyncio.run(again())
    assert engine.sold(16) == [(3, 3, 3 * 342)]


def test_an_outbox_put_back_from_an_image_loses_and_doubles_nothing(engine):
    sales = [Sale(f"I-{n}", [BREAD], NOON_US + n) for n in range(6)]

    def reach(epoch):
        return engine.till(17, epoch=epoch)

    async def sell():
        outbox = Outbox(sales=sales[:2])
        await outbox.deliver(reach)
        assert (outbox.epoch, outbox.committed) == (1, 2)
        outbox.sales.append(sales[2])
        image = replace(outbox, sales=list(outbox.sales), sent=0)
        outbox.sales.append(sales[3])
        await outbox.deliver(reach)
        assert (outbox.epoch, outbox.committed) == (1, 4)
        # The image knows nothing of the fourth sale, and has one that nobody knows.
        image.sales.append(sales[4])
        back_again = replace(image, sales=list(image.sales))
        await image.deliver(reach)
        assert (image.epoch, image.sales, image.committed, image.dead) == (2, [sales[4]], 1, [])
        # Put back once more, it finds its sales in both epochs.
        back_again.sales.append(sales[5])
        await back_again.deliver(reach)
        assert (back_again.epoch, back_again.sales, back_again.dead) == (3, [sales[5]], [])

    asyncio.run(sell())
    assert engine.sold(17) == [(6, 6, 6 * 342)]
