"""Starts an engine, sends sales from Python and asks the engine what was sold."""

import asyncio
import json
import pathlib
import subprocess
import time
import urllib.request

import pytest
from till import Line, Refused, Sale, Till, crc32c

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    data = tmp_path_factory.mktemp("engine")
    ready = data / "ready.json"
    process = subprocess.Popen([
        ROOT / "target/release/tillstream", "serve", "--dev", "--data", data / "data",
        "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ready-file", ready,
    ])
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, "the engine ended before it accepted"
            assert time.monotonic() < deadline, "the engine did not accept within a minute"
            time.sleep(0.02)
        yield json.loads(ready.read_text())
    finally:
        process.terminate()
        assert process.wait(60) == 0, "the engine did not drain in good order"


def ask(engine, path):
    with urllib.request.urlopen(engine["admin"].rstrip("/") + path) as answer:
        return json.load(answer)["rows"]


def test_checksum_is_the_one_of_the_specification():
    assert crc32c(b"123456789") == 0xE3069283


def test_a_sale_from_python_is_there_once(engine):
    async def sell():
        async with Till(engine["quic"], engine["identity"], store=7, number=3) as till:
            milk = Line("4006381333931", 200_000, 258)
            bread = Line("BREAD", 100_000, 342)
            last = await till.send([Sale("PY-1", [milk, bread]), Sale("PY-2", [bread])])
            assert (last, till.refusals) == (2, [])

    asyncio.run(sell())
    total, = ask(engine, "/api/v1/sales?by=store&store=7")
    assert (total["store"], total["transactions"], total["lines"], total["net_minor"]) == (7, 2, 3, 942)
    skus = {row["sku"]: row["quantity"] for row in ask(engine, "/api/v1/sales?by=sku&store=7")}
    assert skus == {"4006381333931": "2", "BREAD": "2"}
    levels = {row["sku"]: row["quantity"] for row in ask(engine, "/api/v1/stock?store=7")}
    assert levels == {"4006381333931": "-2", "BREAD": "-2"}
    receipt, = ask(engine, "/api/v1/transactions?receipt=PY-1")
    assert (receipt["store"], receipt["terminal"], receipt["seq"], len(receipt["lines"])) == (7, 3, 1, 2)


def test_a_frame_with_a_wrong_checksum_is_refused_with_a_reason(engine):
    async def send_garbage():
        async with Till(engine["quic"], engine["identity"], store=7, number=4) as till:
            till.writer.write(b"TILL" + bytes(28))
            with pytest.raises(Refused):
                await till.send([Sale("PY-3", [Line("BREAD", 100_000, 1)])])

    asyncio.run(send_garbage())
    assert [row["net_minor"] for row in ask(engine, "/api/v1/sales?by=store&store=7")] == [942]
