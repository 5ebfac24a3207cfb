"""That the soak (tests/ecosystem/soak) would notice: its books, and its eye for growth. The hour itself is ``make soak``."""

import random
from pathlib import Path

import pytest

from tests.ecosystem.soak.ledger import GRACE, Journal, Ledger, Windows
from tests.ecosystem.soak.trend import growth


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def books(*begun: int) -> tuple[Ledger, Clock]:
    clock = Clock()
    return Ledger(Windows(clock), set(begun).__contains__), clock


def test_a_right_answer_is_no_fault() -> None:
    ledger, clock = books(1)
    ledger.counts["asked"] += 1
    ledger.answered(1, clock() - 1, 200, b"yes", b"yes", writes=True)
    ledger.check_sum()
    ledger.check_table({1})
    assert (ledger.faults, list(ledger.latencies), ledger.counts["answered"]) == ([], [1.0], 1)


@pytest.mark.parametrize(("status", "body"), [(200, b"no"), (500, b"yes"), (503, b"yes")])
def test_a_wrong_answer_is_a_fault(status: int, body: bytes) -> None:
    ledger, clock = books(1)
    ledger.answered(1, clock(), status, body, b"yes", writes=False)
    assert len(ledger.faults) == 1


def test_a_database_that_is_restarted_may_be_away_and_shortly_after() -> None:
    ledger, clock = books(1)
    with ledger.windows.open("redis"):
        clock.now += 1
    clock.now += GRACE
    ledger.answered(1, clock(), 503, b"", b"yes", writes=False)
    assert ledger.faults == []
    clock.now += 1
    ledger.answered(1, clock(), 503, b"", b"yes", writes=False)
    assert len(ledger.faults) == 1


def test_what_was_begun_with_must_be_answered_even_during_a_restart() -> None:
    ledger, clock = books(1)
    with ledger.windows.open("service"):
        assert not ledger.ended(1, clock(), EOFError())
        assert ledger.counts["lost"] == 1
        # the other one may be asked again
        assert ledger.ended(2, clock(), EOFError())
    clock.now += GRACE + 1
    assert not ledger.ended(3, clock(), EOFError())
    assert len(ledger.faults) == 2


def test_a_request_without_an_end_is_a_fault() -> None:
    ledger, _clock = books()
    ledger.counts["asked"] += 2
    ledger.cut(1, writes=False)
    ledger.check_sum()
    assert len(ledger.faults) == 1


def test_the_table_has_what_was_answered_and_nothing_strange() -> None:
    ledger, clock = books()
    ledger.answered(1, clock(), 200, b"", b"", writes=True)
    ledger.cut(2, writes=True)
    ledger.check_table({1})
    ledger.check_table({1, 2})
    assert ledger.faults == []
    ledger.check_table({2})
    assert "not in the table" in ledger.faults.pop()
    ledger.check_table({1, 3})
    assert "of no write" in ledger.faults.pop()


def test_the_journal_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with path.open("wb", buffering=0) as written:
        journal = Journal(path)
        assert 1 not in journal
        written.write(b"1\n22\n")
        assert 1 in journal
        assert 22 in journal
        assert 2 not in journal
        journal.close()


def test_a_leak_is_seen_through_the_noise_and_noise_is_no_leak() -> None:
    chance = random.Random(1)
    times = [10.0 * n for n in range(360)]
    noise = [chance.gauss(0, 5) + (200 if n % 50 == 49 else 0) for n in range(360)]
    assert abs(growth(times, noise)) < 3
    leak = [value + 0.05 * n for n, value in enumerate(noise)]
    assert growth(times, leak) == pytest.approx(0.05 * 270, rel=0.3)
    # what only fills up in the beginning does not grow
    full = [value + min(n, 60) * 10 for n, value in enumerate(noise)]
    assert abs(growth(times, full)) < 3
    with pytest.raises(ValueError, match="too few"):
        growth(times[:8], noise[:8])
