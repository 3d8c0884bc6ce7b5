"""What a numpy user writes for mean, standard deviation, minimum and maximum of every sensor: ns a point, one thread."""

import statistics
import time

import numpy


def measure(compute, points):
    """Median nanoseconds a point over enough runs for half a second."""
    compute()
    times = []
    end = time.perf_counter() + 0.5
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter_ns()
        compute()
        times.append(time.perf_counter_ns() - begin)
    return statistics.median(times) / points


def each_sensor(trace):
    return [(x.mean(), x.std(ddof=1), x.min(), x.max()) for x in trace]


def all_at_once(trace):
    return trace.mean(axis=1), trace.std(axis=1, ddof=1), trace.min(axis=1), trace.max(axis=1)


def main():
    print(f"\nnumpy {numpy.__version__}: mean, std, min, max of every sensor, ns a point (median)")
    generator = numpy.random.default_rng(1)
    for sensors, samples in ((100, 1200), (200, 18000)):
        trace = generator.normal(100.0, 1.0, (sensors, samples))
        for name, compute in (("a sensor at a time", each_sensor), ("axis=1", all_at_once)):
            value = measure(lambda: compute(trace), sensors * samples)
            print(f"  {sensors:4d} x {samples:6d}  {name:20s} {value:6.3f}")


if __name__ == "__main__":
    main()
