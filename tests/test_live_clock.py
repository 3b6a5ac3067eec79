"""The clock of a live source: sound that comes early, late, in bursts or not at all keeps its place in time."""

from __future__ import annotations

import types

import numpy as np
import pytest

from kmtalk.live import sources
from kmtalk.live.sources import SampleBuffer, SourceReport, timed_blocks


class Clock:
    """Time that passes when one waits."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Arriving(SampleBuffer):
    """Samples that arrive at given times of a clock: (time, number of samples) each."""

    def __init__(self, clock, arrivals):
        super().__init__()
        self.clock, self.arrivals = clock, [(clock.now + t, n) for t, n in arrivals][::-1]

    def _arrive(self):
        while self.arrivals and self.arrivals[-1][0] <= self.clock.now:
            self.put(np.ones(self.arrivals.pop()[1], np.float32))
            if not self.arrivals:
                self.end()

    def take(self, count, timeout):
        limit = self.clock.now + timeout
        while True:
            self._arrive()
            if self._count >= count or self._ended:
                return super().take(count, 0.0)
            if self.arrivals[-1][0] > limit:
                self.clock.now = limit
                return np.zeros(0, np.float32)
            self.clock.now = self.arrivals[-1][0]

    def __len__(self):
        self._arrive()
        return self._count


def simulate(monkeypatch, arrivals, captures=True, rate=16_000, busy=0.0):
    """The errors of the stream's time against the clock after each block, and the report.

    After each second, whoever takes the blocks is `busy` for some seconds.
    """
    clock = Clock()
    monkeypatch.setattr(sources, "time", clock)
    source = types.SimpleNamespace(rate=rate, captures=captures, buffer=Arriving(clock, arrivals))
    report, fed, errors = SourceReport(), 0, []
    for block, begin in timed_blocks(source, report):
        fed += len(block)
        errors.append(fed / rate - (clock.now - begin))
        if busy and fed % rate < len(block):
            clock.now += busy
    total = report.seconds + report.missing
    assert fed == pytest.approx(total * rate, abs=1)
    assert report.seconds + report.dropped == pytest.approx(sum(n for _, n in arrivals) / rate, abs=0.02)
    return np.array(errors), report


@pytest.mark.parametrize("captures", [True, False])
@pytest.mark.parametrize("drift", [0.01, -0.01, 1e-4, 0.0])
def test_a_source_whose_clock_drifts_stays_with_ours(monkeypatch, captures, drift):
    """Over minutes, blocks of 10 ms; a drift of 1 % is far above that of any sound card."""
    seconds = 300
    arrivals = [(i * 0.01 / (1 + drift), 160) for i in range(int(seconds * 100 * (1 + drift)))]
    errors, report = simulate(monkeypatch, arrivals, captures)
    assert np.abs(errors).max() < 0.15
    if captures:
        assert report.missing == pytest.approx(max(0, -drift * seconds), abs=0.15)
        assert report.dropped == pytest.approx(max(0, drift * seconds), abs=0.15)
    assert report.seconds > 0.98 * seconds


@pytest.mark.parametrize("block", [0.01, 0.085, 0.256, 0.5])
def test_sound_that_comes_in_long_messages_is_all_used(monkeypatch, block):
    """Browsers send up to 256 ms at a time; each is on its way for 0 ms to 40 ms."""
    rng = np.random.default_rng(0)
    arrivals = [((i + 1) * block + rng.uniform(0, 0.04), int(block * 16_000)) for i in range(int(60 / block))]
    errors, report = simulate(monkeypatch, arrivals)
    assert report.missing < 0.1 and report.dropped < 0.1
    assert errors.max() < block + 0.1 and errors.min() > -0.15


def test_late_and_lost_messages_keep_the_place_in_time(monkeypatch):
    every = [(i * 0.02, 320) for i in range(1000)]
    lost = every[:200] + every[250:]  # a second
    errors, report = simulate(monkeypatch, lost)
    assert report.missing == pytest.approx(1.0, abs=0.05) and report.dropped < 0.05
    assert errors.max() < 0.15
    late = [(max(t, 5.0), n) if 4.0 <= t < 5.0 else (t, n) for t, n in every]  # a second comes in a burst
    errors, report = simulate(monkeypatch, late)
    assert report.missing == pytest.approx(1.0, abs=0.1) and report.dropped == pytest.approx(1.0, abs=0.1)
    assert errors.max() < 0.15


def test_no_sound_is_lost_while_the_machine_is_busy(monkeypatch):
    """The sound of the time in which nobody took any waits, and is caught up with."""
    _, report = simulate(monkeypatch, [(i * 0.01, 160) for i in range(1000)], busy=0.3)
    assert report.dropped == 0 and report.missing == 0 and report.seconds == pytest.approx(10.0, abs=0.02)


def test_a_message_longer_than_a_second_does_not_delay_the_face_for_good(monkeypatch):
    arrivals = [(0.0, 8 * 16_000)] + [(1.0 + i * 0.01, 160) for i in range(2000)]
    errors, report = simulate(monkeypatch, arrivals)
    assert errors.max() < 1.2 and report.dropped > 6
