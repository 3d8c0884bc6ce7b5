// Numbers and times as people read them.

const clock = new Intl.DateTimeFormat(undefined, {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
});
const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const whole = new Intl.NumberFormat("en");

export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const time = (at) => (at ? clock.format(new Date(at)) : "–");
export const minute = (at) => short.format(new Date(at));

export function dateTime(at) {
    if (!at) return "–";
    const date = new Date(at);
    const pad = (number) => String(number).padStart(2, "0");
    return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

// Five digits that count, without an exponent where one is not needed.
export function number(value) {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e7 || size < 1e-4) return value.toExponential(3);
    return String(Number(value.toPrecision(5)));
}

export const measured = (value, unit) => (unit && value !== null ? `${number(value)} ${unit}` : number(value));

export function duration(ms) {
    const seconds = Math.max(0, Math.round(ms / 1000));
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 2 * 86400) return `${Math.floor(seconds / 3600)} h`;
    return `${Math.floor(seconds / 86400)} d`;
}

export const age = (at, now = Date.now()) => (at ? duration(now - Date.parse(at)) : "–");
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;
export const milliseconds = (value) =>
    value === null || value === undefined
        ? "–"
        : value >= 1000
          ? `${number(value / 1000)} s`
          : `${Number(value.toPrecision(3))} ms`;
