// Plots, by uPlot. A build without it has `plots` false; pages then show their tables only.

import uPlot, { styles } from "./vendor/plots.js";
import { h } from "./dom.js";
import { dateTime, minute, number } from "./format.js";
import { drawShape, palette } from "./severity.js";

export const plots = uPlot !== null;
const FONT = "12px system-ui, sans-serif";

if (styles) document.head.append(h("link", { rel: "stylesheet", href: styles }));

export const missing = (instead = "The table has the same numbers.") =>
    h(
        "p",
        { class: "note" },
        `This build has no plots: uPlot could not be fetched when it was made (docs/dashboard.md). ${instead}`,
    );

function axis(colours, more) {
    return {
        stroke: colours.muted,
        font: FONT,
        labelFont: FONT,
        grid: { stroke: colours.line, width: 1 },
        ticks: { stroke: colours.line, width: 1, size: 4 },
        ...more,
    };
}

const dense = () => window.devicePixelRatio || 1;

// A box that holds a plot as wide as it is; `make(width)` gives options and data. Drawn anew when the theme changes.
class Plot {
    constructor(height, className) {
        this.height = height;
        this.element = h("div", { class: `plot ${className ?? ""}`, hidden: !plots });
        this.drawn = null;
        this.make = null;
        this.observer = new ResizeObserver(() => this.#fit());
        this.observer.observe(this.element);
        this.retheme = () => this.draw(this.make);
        document.addEventListener("theme", this.retheme);
    }

    get width() {
        return Math.max(200, Math.floor(this.element.clientWidth));
    }

    draw(make) {
        this.make = make;
        this.drawn?.destroy();
        this.drawn = null;
        if (!plots || !make) return;
        const { options, data } = make(palette());
        this.drawn = new uPlot(
            { width: this.width, height: this.height, padding: [10, 12, 0, 0], legend: { show: false }, ...options },
            data,
            this.element,
        );
    }

    #fit() {
        if (this.drawn && this.drawn.width !== this.width)
            this.drawn.setSize({ width: this.width, height: this.height });
    }

    destroy() {
        this.observer.disconnect();
        document.removeEventListener("theme", this.retheme);
        this.drawn?.destroy();
        this.drawn = null;
    }
}

const gauge = (u, values) => values.map(number);

// One indicator over runs, with its centre and limits; points that alarmed carry the shape of their severity.
export class UChart extends Plot {
    #points = [];
    #current = -1; // under the keyboard
    #selected = -1; // whose trace is shown

    // choose(index) for a click or Enter; say(index) for what is current.
    constructor(choose, say) {
        super(300, "uchart");
        this.choose = choose;
        this.say = say;
        Object.entries({
            role: "application",
            tabindex: "0",
            "aria-roledescription": "control chart",
            "aria-describedby": "uchart-help",
        }).forEach(([name, value]) => this.element.setAttribute(name, value));
        this.element.addEventListener("keydown", (event) => this.#key(event));
        this.element.addEventListener("focus", () =>
            this.move(this.#current < 0 ? this.#points.length - 1 : this.#current),
        );
        this.element.addEventListener("blur", () => this.drawn?.redraw(false));
    }

    set(points, title, unit) {
        this.#points = points;
        this.#current = -1;
        this.#selected = -1;
        this.element.setAttribute("aria-label", `${title}, ${points.length} runs`);
        this.draw((colours) => this.#options(colours, title, unit));
    }

    select(index) {
        this.#selected = this.#current = index;
        this.drawn?.redraw(false);
    }

    move(index) {
        if (this.#points.length === 0) return;
        this.#current = Math.min(Math.max(index, 0), this.#points.length - 1);
        this.drawn?.redraw(false);
        this.say(this.#current);
    }

    #key(event) {
        const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
        const alarm = event.key === "n" || event.key === "N";
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (step) this.move(this.#current + step);
        else if (event.key === "Home" || event.key === "End")
            this.move(event.key === "Home" ? 0 : this.#points.length - 1);
        else if (alarm) this.move(this.#nextAlarm());
        else if (event.key === "Enter" || event.key === " ") this.choose(this.#current);
        else return;
        event.preventDefault();
    }

    #nextAlarm() {
        for (let i = 1; i <= this.#points.length; i++) {
            const at = (this.#current + i) % this.#points.length;
            if (this.#points[at].state === "alarm") return at;
        }
        return this.#current;
    }

    #options(colours, title, unit) {
        const points = this.#points;
        const column = (name) => points.map((point) => point[name]);
        const limit = {
            stroke: colours.accent,
            width: 1,
            dash: [5, 4],
            points: { show: false },
            paths: uPlot.paths.stepped({ align: 0 }),
        };
        const data = [points.map((_, i) => i), column("upper"), column("lower"), column("centre"), column("value")];
        const options = {
            scales: { x: { time: false, range: () => [-0.8, Math.max(points.length, 2) - 0.2] } },
            cursor: {
                y: false,
                points: { size: 9, width: 2, stroke: colours.focus, fill: colours.ground },
                drag: { x: false, y: false },
            },
            series: [
                {},
                { ...limit, label: "upper" },
                { ...limit, label: "lower" },
                { label: "centre", stroke: colours.muted, width: 1, points: { show: false }, paths: limit.paths },
                { label: "value", stroke: colours.text, width: 1.25, points: { show: false } },
            ],
            bands: [{ series: [1, 2], fill: colours.band }],
            axes: [
                axis(colours, {
                    space: 110,
                    size: 34,
                    values: (u, splits) => splits.map((i) => (points[i] ? dateTime(points[i].ended_at).slice(5) : "")),
                    incrs: [1, 2, 5, 10, 20, 50, 100, 200],
                }),
                axis(colours, { size: 64, values: gauge, label: unit || undefined, labelSize: unit ? 18 : 0 }),
            ],
            hooks: {
                ready: [(u) => u.over.addEventListener("click", () => this.#click(u))],
                draw: [(u) => this.#marks(u, colours)],
                setCursor: [
                    (u) => {
                        if (u.cursor.idx !== null && u.cursor.idx !== undefined && u.cursor.left >= 0)
                            this.say(u.cursor.idx);
                    },
                ],
            },
        };
        return { options, data };
    }

    #click(u) {
        if (u.cursor.idx !== null && u.cursor.idx !== undefined) {
            this.#current = u.cursor.idx;
            this.choose(u.cursor.idx);
        }
    }

    #marks(u, colours) {
        const context = u.ctx,
            scale = dense();
        context.save();
        this.#points.forEach((point, i) => {
            const x = u.valToPos(i, "x", true);
            const y =
                point.value === null ? u.bbox.top + u.bbox.height - 6 * scale : u.valToPos(point.value, "y", true);
            context.fillStyle = context.strokeStyle = point.state === "alarm" ? colours[point.severity] : colours.text;
            if (point.state === "alarm") {
                if (point.severity === "warning") {
                    // amber on white needs an edge
                    context.fillStyle = colours.text;
                    drawShape(context, point.severity, x, y, 15 * scale);
                    context.fillStyle = colours.warning;
                }
                drawShape(context, point.severity, x, y, 11 * scale);
            } else {
                context.beginPath();
                context.arc(x, y, (point.state === "normal" ? 2.2 : 2.6) * scale, 0, 2 * Math.PI);
                context.lineWidth = 1.2 * scale;
                if (point.state === "normal") context.fill();
                else {
                    // learning, missing: hollow
                    context.fillStyle = colours.ground;
                    context.fill();
                    context.stroke();
                }
            }
            if (i === this.#selected || (i === this.#current && document.activeElement === this.element))
                this.#ring(context, x, y, scale, i === this.#selected ? colours.focus : colours.muted);
        });
        context.restore();
    }

    #ring(context, x, y, scale, colour) {
        context.beginPath();
        context.arc(x, y, 11 * scale, 0, 2 * Math.PI);
        context.strokeStyle = colour;
        context.lineWidth = 2 * scale;
        context.stroke();
    }
}

// One sensor of a run over its time, before the same sensor of good runs; the windows of the equation are shaded.
// runs: [{times_us, values}], the run itself first, `bad` when it alarmed; windows: [{text, ranges}]; steps: [{step, from_us, to_us}].
export class TracePlot extends Plot {
    constructor() {
        super(260, "trace");
    }

    set(title, runs, windows, steps, bad) {
        this.element.setAttribute("role", "img");
        this.element.setAttribute(
            "aria-label",
            `${title}: the run and ${runs.length - 1} good runs before it; shaded: ${windows.map((one) => one.text).join(", ") || "nothing"}`,
        );
        this.draw((colours) => this.#options(colours, runs, windows, steps, bad));
    }

    #options(colours, runs, windows, steps, bad) {
        // The run itself is drawn last, over the others.
        const ordered = [...runs.slice(1), runs[0]];
        const data = uPlot.join(ordered.map((run) => [run.times_us.map((us) => us / 1e6), run.values]));
        const good = { stroke: colours.muted, width: 1, alpha: 0.55, spanGaps: true, points: { show: false } };
        const options = {
            scales: { x: { time: false } },
            cursor: { y: false, drag: { x: true, y: false }, points: { show: false } },
            series: [
                {},
                ...runs.slice(1).map(() => good),
                { stroke: bad ? colours.critical : colours.accent, width: 2, spanGaps: true, points: { show: false } },
            ],
            axes: [
                axis(colours, {
                    size: 34,
                    values: (u, splits) => splits.map((value) => `${number(value)} s`),
                    space: 70,
                }),
                axis(colours, { size: 64, values: gauge }),
            ],
            hooks: { drawClear: [(u) => this.#shade(u, colours, windows, steps)] },
        };
        return { options, data };
    }

    #shade(u, colours, windows, steps) {
        const context = u.ctx,
            scale = dense(),
            { left, top, width, height } = u.bbox;
        const at = (us) => Math.min(Math.max(u.valToPos(us / 1e6, "x", true), left), left + width);
        context.save();
        context.font = `${11 * scale}px system-ui, sans-serif`;
        context.textBaseline = "top";
        for (const window of windows)
            for (const range of window.ranges) {
                context.fillStyle = colours.band;
                context.fillRect(at(range.from_us), top, Math.max(1, at(range.to_us) - at(range.from_us)), height);
                context.fillStyle = colours.accent;
                for (const edge of [range.from_us, range.to_us])
                    context.fillRect(at(edge) - scale / 2, top, scale, height);
            }
        context.fillStyle = colours.muted;
        for (const step of steps) {
            context.fillRect(at(step.from_us), top, scale / 2, 6 * scale);
            if (at(step.to_us) - at(step.from_us) > 40 * scale)
                context.fillText(`step ${number(step.step)}`, at(step.from_us) + 4 * scale, top + 3 * scale);
        }
        context.restore();
    }
}

// Contexts a minute, and of them those with an alarm.
export class CountPlot extends Plot {
    constructor() {
        super(220, "minutes");
    }

    set(minutes) {
        this.element.setAttribute("role", "img");
        this.element.setAttribute("aria-label", "Contexts judged and alarmed, minute by minute");
        const times = minutes.map((one) => Date.parse(one.at) / 1000);
        this.draw((colours) => {
            const bars = uPlot.paths.bars({ size: [0.8, 40] });
            return {
                options: {
                    scales: { y: { range: (u, low, high) => [0, Math.max(1, high * 1.1)] } },
                    cursor: { y: false, drag: { x: false, y: false } },
                    series: [
                        {},
                        { stroke: colours.accent, fill: colours.accent, paths: bars, points: { show: false } },
                        { stroke: colours.critical, fill: colours.critical, paths: bars, points: { show: false } },
                    ],
                    axes: [
                        axis(colours, { values: (u, splits) => splits.map((at) => minute(at * 1000)), size: 34 }),
                        axis(colours, { size: 56, values: gauge }),
                    ],
                },
                data: [times, minutes.map((one) => one.judged || null), minutes.map((one) => one.alarmed || null)],
            };
        });
    }
}

// Process time, minute by minute: p50, p95, p99 in dots, dashes and a line.
export class ProcessPlot extends Plot {
    constructor() {
        super(220, "minutes");
    }

    set(minutes) {
        this.element.setAttribute("role", "img");
        this.element.setAttribute("aria-label", "Process time, minute by minute");
        const times = minutes.map((one) => Date.parse(one.at) / 1000);
        this.draw((colours) => {
            const line = (more) => ({
                stroke: colours.text,
                width: 1.5,
                points: { show: true, size: 5, fill: colours.text },
                ...more,
            });
            return {
                options: {
                    scales: { y: { range: (u, low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
                    cursor: { y: false, drag: { x: false, y: false } },
                    series: [
                        {},
                        line({ dash: [2, 3] }),
                        line({ stroke: colours.accent, points: { show: true, size: 5, fill: colours.accent } }),
                        line({
                            stroke: colours.critical,
                            dash: [7, 4],
                            points: { show: true, size: 5, fill: colours.critical },
                        }),
                    ],
                    axes: [
                        axis(colours, { values: (u, splits) => splits.map((at) => minute(at * 1000)), size: 34 }),
                        axis(colours, {
                            size: 64,
                            values: (u, values) => values.map((value) => `${number(value)} ms`),
                        }),
                    ],
                },
                data: [
                    times,
                    minutes.map((one) => one.p50_ms),
                    minutes.map((one) => one.p95_ms),
                    minutes.map((one) => one.p99_ms),
                ],
            };
        });
    }
}
