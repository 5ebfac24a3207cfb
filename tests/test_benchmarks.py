"""The benchmarks run, on every implementation alike, and their tables and pictures can be drawn."""

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import memory, network, operations, outside, plot, report, run
from benchmarks.implementations import load
from benchmarks.measure import Figure, measure, measure_contention, sample
from benchmarks.operations import OPERATIONS


@pytest.fixture(params=["asyncio", "aioxide"])
def implementation(request):
    return load(request.param)


@pytest.fixture(autouse=True)
def small_trees(monkeypatch):
    monkeypatch.setattr(operations, "LEVELS", 2)


@pytest.mark.parametrize("key", OPERATIONS)
def test_operation(implementation, key):
    taken = sample(implementation, OPERATIONS[key], 100)
    assert taken.operations >= 100
    assert taken.nanoseconds > 0


@pytest.mark.parametrize("key", outside.CASES)
def test_outside(implementation, key):
    with outside.answering() as peers:
        assert outside.ask(implementation.name, key, peers, window=0.01) > 0


@pytest.mark.parametrize("case", memory.CASES)
def test_memory(implementation, case):
    assert 50 < memory.ask(implementation.name, case, 50_000)["bytes"] < 3000


@pytest.mark.parametrize("server", sorted({case.server for case in network.CASES}))
def test_servers_start(server):
    with network.served("asyncio", server) as (where, _):
        assert where.partition(":")[0] == ("tls" if server.startswith("tls_") else where.partition(":")[0])
        assert where.startswith(("tcp:", "tls:", "udp:", "unix:"))


def test_a_goal_in_microseconds():
    figures = {"aioxide": {"median": 12.0, "rate": 80_000}, "asyncio": {"median": 90.0, "rate": 10_000}}
    row = {"key": "sendfile", "title": "sendfile", "goal": None, "most": 20, "figures": figures}
    assert network.cells(row, ["asyncio", "aioxide"])[-2:] == ["at most 20", ""]
    row["most"] = 10
    assert network.cells(row, ["asyncio", "aioxide"])[-1] == "short"
    row["key"] = "accept"
    assert list(network.remarks([row], ["asyncio", "aioxide"])) == [
        "connections per second (sendfile): asyncio 10,000, aioxide 80,000"
    ]


def test_rounds_are_interleaved():
    order = []

    class Recorder:
        def __init__(self, name):
            self.name, self.aio = name, None

        def new_event_loop(self):
            order.append(self.name)
            return load("asyncio").new_event_loop()

    async def quick(aio, n):
        return operations.Sample(1000, n)

    figures = measure([Recorder("a"), Recorder("b")], operations.Operation("k", "t", quick, fixed=10), 3, 0.0)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert figures["a"].samples == [100.0] * 3


def test_contention():
    wakes, shares = measure_contention([load("asyncio")], 1, 0.05, one_core=False)
    assert wakes["asyncio"].median > 0
    assert shares["asyncio"].median > 0


def document():
    rows = [
        run.as_row(
            "sleep0", "await sleep(0)", 5, {"asyncio": Figure([900.0, 1000.0, 1100.0]), "aioxide": Figure([100.0])}
        ),
        run.as_row(
            "lock",
            "Lock & key",
            2.5,
            {"asyncio": Figure([100.0]), "uvloop": Figure([90.0]), "aioxide": Figure([110.0])},
        ),
    ]
    return {"python": "3.11.7", "versions": {"asyncio": "3.11.7", "uvloop": "1", "aioxide": "0.1"}, "rows": rows}


def test_table():
    rows = document()["rows"]
    names = ["asyncio", "aioxide"]
    assert run.cells(rows[0], names) == ["await sleep(0)", "1,000", "100", "100-100", "10.0x", "", "5x uvloop", ""]
    assert run.cells(rows[1], names)[-1] == "SLOWER than asyncio"
    lines = report.table(run.header(names), [run.cells(row, names) for row in rows]).splitlines()
    assert len(lines) == 4
    assert plot.markdown(document()).count("\n") == 3


@pytest.mark.parametrize(("key", "versus", "short"), [("tcp_1k", "uvloop", ""), ("tls_1k", "the better", "short")])
def test_goals_of_the_network(key, versus, short):
    """Without TLS against uvloop; with TLS against asyncio, if that takes less."""
    case = next(case for case in network.CASES if case.key == key)
    figures = {name: {"median": cpu, "rate": 1} for name, cpu in {"asyncio": 15, "uvloop": 30, "aioxide": 10}.items()}
    row = {"title": case.title, "goal": 2, "versus": case.versus, "most": None, "figures": figures}
    names = ["asyncio", "uvloop", "aioxide"]
    assert network.cells(row, names)[1:] == ["15.00", "30.00", "10.00", "1", "1.5x", "3.0x", f"2x {versus}", short]


def test_picture():
    picture = ElementTree.fromstring(plot.svg(document()))
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "Lock & key" in texts
    assert "10.0x" in texts
