"""A gas day runs from 06:00 to 06:00 and belongs to the day of its start."""

from __future__ import annotations

from datetime import datetime

from trial_files import ENERGY, PARIS, Trial


def test_recorded_gas_days_are_released_up_to_the_day_before_the_last_mark(trial: Trial) -> None:
    trial.policy["inputs"] = {"energy": ENERGY | {"assign": "start"}}
    starts = [datetime(2024, 1, day, 6, tzinfo=PARIS).isoformat() for day in (1, 2, 3)]
    trial.put(
        "energy", [(home[0], point, start, 1000) for point, home in trial.homes.items() for start in starts]
    )
    assert trial.run() == 0
    released = {row["window_start"][:10] for row in trial.rows("releases")}
    assert released == {"2024-01-01", "2024-01-02", "2024-01-03"}
