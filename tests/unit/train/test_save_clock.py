"""When the clock, or the end of an epoch, asks for a save."""

from __future__ import annotations

from trainer.train.save_clock import RETRY_SECONDS, SaveClock, due_by_epochs


def test_a_save_is_due_an_interval_after_the_one_before() -> None:
    clock = SaveClock(600.0, 0.0)
    assert not clock.due(599.0)
    assert clock.due(600.0)
    clock.began(700.0)
    assert not clock.due(1299.0)
    assert clock.due(1300.0)


def test_without_an_interval_none_is_ever_due() -> None:
    assert not SaveClock(0.0, 0.0).due(1e9)


def test_a_failed_save_is_tried_again_soon_whatever_the_interval() -> None:
    for every_seconds in (0.0, 600.0):
        clock = SaveClock(every_seconds, 0.0)
        clock.failed(100.0)
        assert not clock.due(100.0 + RETRY_SECONDS - 1)
        assert clock.due(100.0 + RETRY_SECONDS)
        clock.began(100.0 + RETRY_SECONDS)
        assert not clock.due(100.0 + RETRY_SECONDS + 1)


def test_a_failure_does_not_put_off_a_save_that_is_due_sooner() -> None:
    clock = SaveClock(10.0, 0.0)
    clock.failed(5.0)
    assert clock.due(10.0)


def test_a_save_at_the_end_of_each_epoch_and_none_beside_it() -> None:
    samples = 49
    due = [step for step in range(1, 4000) if due_by_epochs((step - 1) / samples, step / samples, 1.0)]
    assert due == list(range(samples, 4000, samples))
    assert not due_by_epochs(0.9, 1.1, 0.0)
