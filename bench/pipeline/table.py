"""Prints a defender's step times beside what is required and the goal. Usage: table.py TITLE STATUS.json"""
import json
import sys

REQUIRED = {"fetch": ("p95_ms", 500, 2), "history": ("p95_ms", 100, 10), "calculate": ("p95_ms", 1000, 1),
            "evaluate": ("p95_ms", 100, 0.1), "alarm": ("p95_ms", 50, 5), "store": ("p95_ms", 100, 10),
            "cache": ("p95_ms", 20, 0.1), "cache_hit": ("p95_ms", 1, 0.05), "cache_miss": ("p95_ms", 100, 10)}

status = json.load(open(sys.argv[2]))
member = status["members"][0]
steps, counts = member["steps"], member["counts"]
print(f"{'step (ms)':<12}{'count':>8}{'p50':>10}{'p95':>10}{'p99':>10}{'p99.9':>10}{'required':>14}{'goal':>10}")
for name, step in steps.items():
    key, required, goal = REQUIRED.get(name, (None, None, None))
    bound = f"p95 {required}" if key else ""
    print(f"{name:<12}{step['count']:>8}{step['p50_ms']:>10.3f}{step['p95_ms']:>10.3f}{step['p99_ms']:>10.3f}"
          f"{step['p999_ms']:>10.3f}{bound:>14}{goal if goal is not None else '':>10}")
print("total: required p50/p95/p99/p99.9 1000/3000/5000/8000 ms, goal 10/30/60/250 ms")
seconds = (counts["last_acknowledged_us"] - counts["first_received_us"]) / 1e6
print(f"judged {counts['judged']} in {seconds:.2f} s since the first message")
