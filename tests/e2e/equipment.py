"""Equipment that speaks to collectors: its messages made here, from docs/collect.md alone, so that the product's own
encoder is not what checks its decoder."""

import json
import math
import random
import struct

START_US = 1_770_000_000_000_000
SENSORS = ("Pressure", "RF Power", "Gas/Ar", "Step")
_PRIMES = (11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579, 2870177450012600261)
_MASK = (1 << 64) - 1


def _rotate(value, bits):
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def xxh64(data):
    """xxHash64 with seed 0 (github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md)."""
    p1, p2, p3, p4, p5 = _PRIMES

    def turn(lane, word):
        return _rotate((lane + word * p2) & _MASK, 31) * p1 & _MASK

    at = 0
    if len(data) >= 32:
        lanes = [(p1 + p2) & _MASK, p2, 0, -p1 & _MASK]
        while at + 32 <= len(data):
            lanes = [turn(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, at))]
            at += 32
        total = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & _MASK
        for lane in lanes:
            total = ((total ^ turn(0, lane)) * p1 + p4) & _MASK
    else:
        total = p5
    total = (total + len(data)) & _MASK
    while at + 8 <= len(data):
        total = (_rotate(total ^ turn(0, struct.unpack_from("<Q", data, at)[0]), 27) * p1 + p4) & _MASK
        at += 8
    if at + 4 <= len(data):
        total = (_rotate(total ^ (struct.unpack_from("<I", data, at)[0] * p1 & _MASK), 23) * p2 + p3) & _MASK
        at += 4
    for byte in data[at:]:
        total = _rotate(total ^ (byte * p5 & _MASK), 11) * p1 & _MASK
    total = (total ^ (total >> 33)) * p2 & _MASK
    total = (total ^ (total >> 29)) * p3 & _MASK
    return total ^ (total >> 32)


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def token(name):
    """A name as a subject token."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_+:/#@~") else "".join(f"%{b:02X}" for b in c.encode())
                   for c in name)


class Run:
    """One context: `batches` batches of 10 samples at 100 ms, values a function of its id."""

    SAMPLES = 10

    def __init__(self, context_id, tool="ETCH01", chamber="A", batches=12, form="binary"):
        self.id, self.tool, self.chamber, self.batches, self.form = context_id, tool, chamber, batches, form
        noise = random.Random(context_id)
        count = batches * self.SAMPLES
        self.times = [START_US + 100_000 * i for i in range(count)]
        self.values = {"Pressure": [round(1227 + noise.gauss(0, 3), 1) for _ in range(count)],
                       "RF Power": [noise.gauss(500, 1) for _ in range(count)],
                       "Gas/Ar": [math.nan if noise.random() < 0.1 else 20.25 for _ in range(count)],
                       "Step": [1.0 if i < count // 2 else 2.0 for i in range(count)]}

    @property
    def subject(self):
        return f"eqp.{token(self.tool)}.{token(self.chamber)}"

    def start(self):
        return json.dumps({"context_id": self.id, "recipe": "ETCH_A", "lot": "L1", "wafer": "7", "product": "X",
                           "started_at": START_US, "sensors": SENSORS}).encode()

    def end(self):
        return json.dumps({"context_id": self.id, "ended_at": self.times[-1] + 100_000, "batches": self.batches}).encode()

    def data(self, number):
        return self.json(number) if self.form == "json" else self.binary(number)

    def _cut(self, number):
        return slice(number * self.SAMPLES, (number + 1) * self.SAMPLES)

    def json(self, number):
        cut = self._cut(number)
        values = {name: [None if math.isnan(v) else v for v in column[cut]] for name, column in self.values.items()}
        return json.dumps({"context_id": self.id, "seq": number, "times": self.times[cut], "values": values}).encode()

    def binary(self, number):
        """Raw columns only, as a simple program would write them; the steps as decimals of no place."""
        cut, name = self._cut(number), self.id.encode()
        times = self.times[cut]
        out = b"CHB1" + struct.pack("<IHBB", number, 1, len(name), 0) + name
        out += varint(len(times)) + varint(len(SENSORS)) + struct.pack("<q", times[0]) + b"\x01" + varint(100_000)
        for sensor in SENSORS[:3]:
            out += varint(0) + b"\x01" + struct.pack(f"<{len(times)}d", *self.values[sensor][cut])
        out += varint(0) + b"\x03"
        before = 0
        for step in self.values["Step"][cut]:
            difference = int(step) - before
            out += varint(2 * difference if difference >= 0 else -2 * difference - 1)
            before = int(step)
        return out + struct.pack("<Q", xxh64(out))

    def messages(self):
        """(subject, body) of all, in their order."""
        yield f"{self.subject}.start", self.start()
        for number in range(self.batches):
            yield f"{self.subject}.data", self.data(number)
        yield f"{self.subject}.end", self.end()

    def bits(self, without=()):
        """What must be stored: for each sensor the times, and the values' bits in hex."""
        kept = [i for i in range(self.batches * self.SAMPLES) if i // self.SAMPLES not in without]
        return {name: ([self.times[i] for i in kept], [struct.pack(">d", column[i]).hex() for i in kept])
                for name, column in self.values.items()}
