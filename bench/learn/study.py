"""What learned charts find on data/lam9600: the method of docs/charts.md ("Learning charts") written a second time, in numpy
and apart from the product's code, its variants one by one, and the largest-z method beside it.

    study.py [FOLDER] [--against EVALUATION.json]      (run by bench/learn/run; needs numpy)

Indicators of a wafer: mean and standard deviation (n - 1) of every sensor in every step, and each step's number of samples.
A mean or deviation over fewer than half the usual number of samples (the learned wafers' median) is missing.

Learning, from the values v_1 ... v_n of an indicator on a lot's normal wafers in the order of time:
    S = mean |v_i - v_(i-1)| / d2                  moving-range deviation of an individuals chart, d2 = 2 / sqrt(pi)
    K = t quantile(1 - alpha / 2m; 0.6 (n - 1))    m charts, two sides each, share the false-alarm budget alpha (Bonferroni)
    w = max(K S sqrt(1 + lambda / (2 - lambda)), resolution / 2)     half width; the root is what the centre's variance adds
Judging, in the order of time, every wafer with five values before it:
    alarm if |v - c| > w; c starts as the median of the first five values, which then move it like all others:
    if |v - c| > w: v = c +- S;  c = c + lambda (v - c)              an alarmed value moves the centre by lambda S at most

The largest-z method: z = (v - mean) / deviation over the learned wafers, per lot; the largest |z| of a wafer against a
threshold of median + 3 MAD of the same maximum on each learned wafer, which is left out in its turn. MAD is the median
absolute deviation, or 1.4826 times it, which is a standard deviation where values are normal.
"""
import csv
import dataclasses
import datetime
import json
import math
import pathlib
import sys

import numpy as np

D2 = 2 / math.sqrt(math.pi)
MIN_VALUES = 10    # an indicator with fewer values gets no chart
SPREADS = {        # deviation of a series, and its degrees of freedom per (n - 1)
    "moving range": (lambda v: np.abs(np.diff(v)).mean() / D2, 0.6),
    "sample": (lambda v: v.std(ddof=1), 1.0),
}
STATISTICS = {     # of a window's samples x, one row each, at the times t
    "mean": lambda t, x: x.mean(axis=0),
    "std": lambda t, x: x.std(axis=0, ddof=1),
    "median": lambda t, x: np.median(x, axis=0),
    "min": lambda t, x: x.min(axis=0),
    "max": lambda t, x: x.max(axis=0),
    "range": lambda t, x: np.ptp(x, axis=0),
    "first": lambda t, x: x[0],
    "last": lambda t, x: x[-1],
    "slope": lambda t, x: np.polyfit(t - t[0], x, 1)[0],
}


@dataclasses.dataclass(frozen=True)
class Method:
    """The method as chosen; a variant names what it does otherwise."""
    statistics: tuple = ("mean", "std")
    counts: bool = True            # chart the number of samples too
    trim: float = 0.0              # seconds cut from both ends of a step
    spread: str = "moving range"
    deviations: str = "own lot"    # or "other lot", "both lots"
    budget: float = 0.01
    floor: float = 0.5             # least half width, in steps of the resolution
    centre: str = "ewma"           # or "mean", "median" of the last `window` values
    window: int = 0
    weight: float = 0.3            # lambda
    start: int = 5                 # values before the first verdict
    cut: float = 1.0               # an alarmed value enters cut to this many deviations; infinite: whole, 0: not at all


@dataclasses.dataclass
class Wafer:
    name: str
    lot: str
    label: str
    times: np.ndarray
    steps: np.ndarray
    samples: np.ndarray    # a row a time, a column a sensor


@dataclasses.dataclass
class Result:
    learned: set      # names of the wafers
    furthest: dict    # wafer -> (largest distance from a centre in half widths, that chart, number of alarmed charts)
    sigma: float = math.nan
    charts: int = 0


def load(folder):
    """The wafers by lot and end, and the sensors' names. Like the importer, cuts a trace where its time stops increasing."""
    wafers = []
    for run in csv.DictReader(open(folder / "runs.csv", encoding="utf-8")):
        header, *rows = csv.reader(open(folder / f"{run['context_id']}.csv", encoding="utf-8"))
        moments = [datetime.datetime.fromisoformat(row[0][:-1] + "+00:00") for row in rows]
        times = np.array([moment.timestamp() for moment in moments])
        backwards = np.flatnonzero(np.diff(times) <= 0)
        end = backwards[0] + 1 if len(backwards) else len(times)
        values = np.array([row[1:] for row in rows[:end]], dtype=float)
        wafers.append(Wafer(run["context_id"], run["lot"], run["label"], times[:end], values[:, 0], values[:, 1:]))
    return sorted(wafers, key=lambda wafer: (wafer.lot, wafer.times[-1], wafer.name)), header[2:]


def t_quantile(tail, freedom):
    """The value that Student's t exceeds with probability `tail` < 1/2. With t = sqrt(freedom) tan(a), the tail is the
    integral of cos(a)^(freedom - 1) from a to pi/2 (Gauss-Legendre) over that from -pi/2 to pi/2 (a beta function)."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        angle = (low + high) / 2
        half = (math.pi / 2 - angle) / 2
        area = half * (weights * np.sin(half * (1 + nodes)) ** (freedom - 1)).sum()
        low, high = (angle, high) if area / whole > tail else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


class Study:
    def __init__(self, folder):
        self.wafers, self.sensors = load(folder)
        self.steps = np.unique(np.concatenate([wafer.steps for wafer in self.wafers]))
        self.lots, self.normal = {}, {}    # lot -> its rows of the wafers, in the order of time
        for i, wafer in enumerate(self.wafers):
            self.lots.setdefault(wafer.lot, []).append(i)
            if wafer.label == "normal":
                self.normal.setdefault(wafer.lot, []).append(i)
        self.counts = np.array([[np.sum(w.steps == step) for step in self.steps] for w in self.wafers], dtype=float)
        self.cache = {}

    def first(self, n):
        return {lot: rows[:n] for lot, rows in self.normal.items()}

    def statistic(self, name, trim):
        """An array wafers x steps x sensors, NaN where fewer than two samples are left."""
        if (name, trim) not in self.cache:
            values = np.full((len(self.wafers), len(self.steps), len(self.sensors)), np.nan)
            for i, wafer in enumerate(self.wafers):
                for j, step in enumerate(self.steps):
                    inside = wafer.steps == step
                    times = wafer.times[inside]
                    if len(times):
                        kept = (times >= times[0] + trim) & (times <= times[-1] - trim)
                        if kept.sum() >= 2:
                            values[i, j] = STATISTICS[name](times[kept], wafer.samples[inside][kept])
            self.cache[name, trim] = values
        return self.cache[name, trim]

    def indicators(self, method, learned):
        """Yields (name, value of every wafer, resolution) of all that may become a chart."""
        rows = [i for lot in learned.values() for i in lot]
        usual = np.median(self.counts[rows], axis=0)
        short = self.counts < np.maximum(2, np.ceil(usual / 2))
        seen = [np.unique(column) for column in np.concatenate([self.wafers[i].samples for i in rows]).T]
        for j, step in enumerate(self.steps):
            if method.counts:
                yield f"step.count.step{step:g}", self.counts[:, j], 1.0
            for k, sensor in enumerate(self.sensors):
                if len(seen[k]) > 1:    # a sensor that never changes has no deviation
                    for name in method.statistics:
                        values = np.where(short[:, j], np.nan, self.statistic(name, method.trim)[:, j, k])
                        yield f"{sensor}.{name}.step{step:g}", values, np.diff(seen[k]).min()

    def learn(self, method, learned):
        """The charts as (name, values, deviation by lot, floor), and how many deviations out their limits lie."""
        spread, freedom = SPREADS[method.spread]
        charts = []
        for name, values, resolution in self.indicators(method, learned):
            series = {lot: values[rows][~np.isnan(values[rows])] for lot, rows in learned.items()}
            if any(len(v) < MIN_VALUES or 2 * len(v) < len(learned[lot]) for lot, v in series.items()):
                continue
            own = {lot: spread(v) for lot, v in series.items()}
            ranges = {lot: len(v) - 1 for lot, v in series.items()}
            both = math.sqrt(sum(ranges[lot] * own[lot] ** 2 for lot in own) / sum(ranges.values()))
            deviation = {"own lot": own, "other lot": dict(zip(own, reversed(own.values()))),
                         "both lots": dict.fromkeys(own, both)}[method.deviations]
            charts.append((name, values, deviation, method.floor * resolution))
        least = min(len(rows) for rows in learned.values())
        return charts, t_quantile(method.budget / (2 * len(charts)), freedom * (least - 1))

    def evaluate(self, method=Method(), learned=None):
        learned = learned or self.first(20)
        charts, sigma = self.learn(method, learned)
        furthest = {wafer.name: (0.0, "", 0) for wafer in self.wafers}
        for name, values, deviation, floor in charts:
            for lot, rows in self.lots.items():
                for i, distance in zip(rows, distances(method, values[rows], deviation[lot], sigma, floor)):
                    largest, which, alarms = furthest[self.wafers[i].name]
                    if distance > largest:
                        largest, which = distance, name
                    furthest[self.wafers[i].name] = largest, which, alarms + (distance > 1)
        return Result({self.wafers[i].name for rows in learned.values() for i in rows}, furthest, sigma, len(charts))

    def evaluate_largest_z(self, mad_scale):
        """The largest-z method: the distance of a wafer is its largest |z| in thresholds."""
        learned, furthest = self.first(20), {}
        for lot, rows in self.lots.items():
            x = np.concatenate([self.statistic(name, 0.0).reshape(len(self.wafers), -1) for name in ("mean", "std")], axis=1)

            def largest(wafers, reference):
                deviation = np.nanstd(x[reference], axis=0, ddof=1)
                varies = deviation > 0
                z = (x[wafers][:, varies] - np.nanmean(x[reference], axis=0)[varies]) / deviation[varies]
                return np.nanmax(np.abs(z), axis=1)

            maxima = np.array([largest([i], [j for j in learned[lot] if j != i])[0] for i in learned[lot]])
            threshold = np.median(maxima) + 3 * mad_scale * np.median(np.abs(maxima - np.median(maxima)))
            for i, z in zip(rows, largest(rows, learned[lot])):
                furthest[self.wafers[i].name] = z / threshold, "", 0
        return Result({self.wafers[i].name for rows in learned.values() for i in rows}, furthest)

    def score(self, result):
        """(faults found, faults, false alarms, later normal wafers, learned wafers that alarm)"""
        alarmed = {name for name, (distance, _, _) in result.furthest.items() if distance > 1}
        faults = {wafer.name for wafer in self.wafers if wafer.label == "fault"}
        later = {wafer.name for wafer in self.wafers} - faults - result.learned
        return len(alarmed & faults), len(faults), len(alarmed & later), len(later), len(alarmed & result.learned)


def distances(method, values, deviation, sigma, floor):
    """|v - c| / w of the values of one chart on one lot, in the order of time; NaN where it is not judged."""
    result, history, centre = [], [], math.nan

    def half_width():
        n = max(1, len(history[-method.window:]))
        variances = {"ewma": method.weight / (2 - method.weight), "mean": 1 / n, "median": math.pi / 2 / n}
        of_centre = variances[method.centre]    # in variances of one value
        return max(sigma * deviation * math.sqrt(1 + of_centre), floor)

    def cut(value):
        if abs(value - centre) <= half_width() or math.isinf(method.cut):
            return value
        return centre + math.copysign(method.cut * deviation, value - centre)

    for value in values.tolist():
        result.append(math.nan)
        if math.isnan(value):
            continue
        if len(history) >= method.start:
            if method.centre != "ewma":
                centre = float(getattr(np, method.centre)(history[-method.window:]))
            result[-1] = abs(value - centre) / half_width()
            value = cut(value)
            centre += method.weight * (value - centre)
        history.append(value)
        if len(history) == method.start:
            centre = float(np.median(history))
            for early in history:
                centre += method.weight * (cut(early) - centre)
    return result


def print_variants(study):
    print("\n-- one thing otherwise, all else as chosen; distances in half widths, more than 1 alarms\n")
    print("| variant | faults found of 15 | false alarms of 31 | of the 40 learned | weakest fault | farthest normal* |")
    print("| --- | --- | --- | --- | --- | --- |")
    variants = [
        ("as chosen", Method()),
        ("largest z, median + 3 MAD", 1.0),
        ("largest z, median + 3 x 1.4826 MAD", 1.4826),
        ("sample deviation", Method(spread="sample")),
        ("centre: mean of the last 20", Method(centre="mean", window=20)),
        ("lambda 0.1", Method(weight=0.1)),
        ("alarmed points taken in whole", Method(cut=math.inf)),
        ("alarmed points left out", Method(cut=0.0)),
        ("no floor under the half width", Method(floor=0.0)),
        ("means only", Method(statistics=("mean",))),
        ("without sample counts", Method(counts=False)),
        ("deviations of the other lot", Method(deviations="other lot")),
        ("deviations over both lots", Method(deviations="both lots")),
        ("steps trimmed by 2 s", Method(trim=2.0)),
    ] + [(f"{name} only", Method(statistics=(name,))) for name in STATISTICS if name != "mean"]
    for title, method in variants:
        own = isinstance(method, Method)
        result = study.evaluate(method) if own else study.evaluate_largest_z(mad_scale=method)
        found, _, false, _, learned = study.score(result)
        weakest = min((result.furthest[w.name][0], w.name) for w in study.wafers if w.label == "fault")
        farthest = max((result.furthest[w.name][0], w.name) for w in study.wafers
                       if w.label == "normal" and w.name not in result.learned | {"l3125"})
        distant = " | ".join(f"{distance:.3f} {name}" for distance, name in (weakest, farthest))
        print(f"| {title} | {found} | {false} | {learned} | {distant} |")
    print("\n*of those not learned from, but for l3125, which is truncated")


def print_drift(study):
    """How far the process moves: from the median of a lot's first five normal wafers to that of its last five."""
    charts, _ = study.learn(Method(), study.first(20))
    print()
    for lot, rows in study.normal.items():
        drifts = []
        for name, values, deviation, _ in charts:
            series = values[rows][~np.isnan(values[rows])]
            drifts.append((abs(np.median(series[-5:]) - np.median(series[:5])) / deviation[lot], name))
        print(f"{lot} drifts by " + ", ".join(f"{drift:.1f} deviations in {name}" for drift, name in sorted(drifts)[:-4:-1]))


def print_prefixes(study):
    print("\n-- learned on the first n normal wafers of each lot\n")
    print("| n | K | faults found of 15 | false alarms of later normal wafers | learned wafers that alarm |")
    print("| --- | --- | --- | --- | --- |")
    for n in (10, 12, 15, 17, 20, 22, 25, 28):
        result = study.evaluate(learned=study.first(n))
        found, _, false, later, learned = study.score(result)
        print(f"| {n} | {result.sigma:.3f} | {found} | {false} of {later} | {learned} |")


def print_random_sets(study, sets=30, n=20, seed=1):
    """Sets drawn over the whole lot know wafers that come after the judged one: a check of the budget, not of a use."""
    generator = np.random.default_rng(seed)
    total, truncated = np.zeros(5, dtype=int), np.zeros(2, dtype=int)
    for _ in range(sets):
        learned = {lot: sorted(generator.choice(rows, n, replace=False).tolist()) for lot, rows in study.normal.items()}
        result = study.evaluate(learned=learned)
        total += study.score(result)
        if "l3125" not in result.learned:
            truncated += (result.furthest["l3125"][0] > 1, 1)
    found, faults, false, later, _ = total
    print(f"\n-- learned on {n} random normal wafers of each lot, {sets} sets\n")
    print(f"faults found: {found} of {faults} ({found / faults:.1%})")
    print(f"false alarms: {false} of {later} other normal wafers ({false / later:.1%})")
    print(f"without l3125, the truncated wafer: {false - truncated[0]} of {later - truncated[1]} "
          f"({(false - truncated[0]) / (later - truncated[1]):.1%}); it alarms in {truncated[0]} of {truncated[1]} sets")


def print_flat_regions(study):
    print("\n-- one constant otherwise: faults found / false alarms\n")
    windows = (4, 5, 6, 7, 8, 9, 10, 12, 20)
    for title, field, values, other in (
            ("budget", "budget", (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05), {}),
            ("lambda", "weight", (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7), {}),
            ("floor, resolution steps", "floor", (0.0, 0.2, 0.25, 0.29, 0.4, 0.5, 0.6, 0.75, 1.0), {}),
            ("values before judging", "start", (2, 3, 4, 5, 6, 8, 10), {}),
            ("cut of an alarmed value, deviations", "cut", (0.0, 0.5, 1.0, 2.0, 3.0, 5.0), {}),
            ("mean of the last", "window", windows, {"centre": "mean"}),
            ("median of the last", "window", windows, {"centre": "median"})):
        cells = []
        for value in values:
            found, _, false, _, _ = study.score(study.evaluate(Method(**{field: value}, **other)))
            cells.append(f"{value:g}: {found}/{false}")
        print(f"{title:<36} " + "   ".join(cells))


def print_agreement(study, path):
    """Compares every wafer with the product's answer (`chamberlain evaluate --json`). True if they agree."""
    contexts = {context["id"]: context for context in json.loads(path.read_text(encoding="utf-8"))["contexts"]}
    result, same, apart = study.evaluate(), 0, 0.0
    for name, (distance, chart, alarms) in result.furthest.items():
        context = contexts.get(name, {})
        expected = distance > 1, alarms, name in result.learned
        agrees = tuple(context.get(key) for key in ("alarmed", "alarm_count", "learned")) == expected
        if agrees and alarms:
            farthest = context["charts"][0]
            agrees = farthest["chart"] == chart
            apart = max(apart, abs(farthest["ratio"] / distance - 1))
        same += agrees
    print(f"study.py and the product agree on {same} of {len(study.wafers)} wafers: alarm or not, how many charts, which is"
          f" farthest out;\nand on how far out it is, to {apart:.0e} of it")
    return same == len(study.wafers) and apart < 1e-9


def main(arguments):
    root = pathlib.Path(__file__).resolve().parents[2]
    against = pathlib.Path(arguments.pop(arguments.index("--against") + 1)) if "--against" in arguments else None
    folders = [argument for argument in arguments if argument != "--against"]
    study = Study(pathlib.Path(folders[0]) if folders else root / "data" / "lam9600")
    chosen = study.evaluate()
    if against:
        return 0 if print_agreement(study, against) else 1
    found, faults, false, later, learned = study.score(chosen)
    print(f"{len(study.wafers)} wafers, learned on the first 20 normal ones of each lot: "
          f"{chosen.charts} charts, K = {chosen.sigma:.4f}")
    print(f"study.py: faults found {found} of {faults}; "
          f"false alarms {false} of {later} later normal runs ({learned} of the {len(chosen.learned)} learned from)")
    print_variants(study)
    print_drift(study)
    print_prefixes(study)
    print_random_sets(study)
    print_flat_regions(study)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
