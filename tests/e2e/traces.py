"""Makes recorded runs: trace files and their runs.csv, small enough to be judged by the hundred."""

import csv
import datetime
import random

START = datetime.datetime(2026, 1, 5, tzinfo=datetime.timezone.utc)
SENSORS = ("Pressure", "Temperature", "Flow")

# Enough of a history, and rules that look back far enough, that every context's verdict hangs on many others.
CHARTS = """\
charts:
  - name: pressure.mean
    equation: mean(Pressure)
    limits: {method: shewhart, sigma: 3, history: 20, min_history: 3}
    rules: [limits, western_electric, nelson_3]
  - name: temperature.max
    equation: max(Temperature, step 2)
    limits: {method: shewhart, sigma: 3, history: 10, min_history: 3}
    rules: [limits, ewma: {lambda: 0.2, limit: 2.7}]
  - name: flow.over.pressure
    equation: mean(Flow) / std(Pressure)
    limits: {method: shewhart, sigma: 3, history: 20, min_history: 3}
    rules: [limits, cusum: {k: 0.5, h: 5}]
"""


def stamp(moment):
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_trace(path, begin, samples, seed, shift=0.0):
    noise = random.Random(seed)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("time", "step", *SENSORS))
        for i in range(samples):
            rows.writerow((stamp(begin + datetime.timedelta(seconds=i)), 1 if i < samples // 2 else 2,
                           f"{1227 + shift + noise.gauss(0, 3):.2f}", f"{60 + shift + noise.gauss(0, 0.5):.3f}",
                           f"{750 + noise.gauss(0, 2):.1f}"))


def write_runs(folder, chambers, runs, samples=30, seed=1, order=None, prefix="c"):
    """`runs` runs in each of `chambers` chambers, four chambers to a tool. Returns their ids in event order; runs.csv
    lists them so too, or shuffled by `order` (a random.Random)."""
    folder.mkdir(parents=True)
    rows = []
    for run in range(runs):
        for chamber in range(chambers):
            name = f"{prefix}{run:03}-{chamber:02}"
            begin = START + datetime.timedelta(minutes=10 * run, seconds=chamber)
            shift = 12.0 if (run + chamber) % 11 == 7 else 0.0  # a fault now and then: alarms are part of the way
            write_trace(folder / f"{name}.csv", begin, samples, f"{seed}-{name}", shift)
            rows.append((name, f"ETCH-{chamber // 4 + 1}", f"PM{chamber % 4 + 1}", "ETCH_A", f"lot{run // 5}", run % 25))
    names = [row[0] for row in rows]
    if order:
        order.shuffle(rows)
    with open(folder / "runs.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("context_id", "tool", "chamber", "recipe", "lot", "wafer"))
        out.writerows(rows)
    return names

LAM_CHARTS = """\
charts:
  - name: etch.pressure
    recipe: "AL_*"
    equation: mean(Pressure, step 4..5)
    limits: {method: shewhart, sigma: 3, history: 40, min_history: 5}
    rules: [limits, western_electric]
  - name: etch.power
    equation: mean(RF_Pwr, step 4) / mean(TCP_Top_Pwr, step 4)
    limits: {method: shewhart, sigma: 3, history: 40, min_history: 5}
    rules: [limits, nelson]
  - name: etch.endpoint.drift
    equation: slope(Endpt_A, step 5)
    limits: {method: shewhart, sigma: 3, history: 40, min_history: 5}
    rules: [limits, ewma: {lambda: 0.2, limit: 2.7}]
"""
