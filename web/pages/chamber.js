// One chamber: its U-charts, and below the trace behind a point.

import { ApiError, get, link } from "../api.js";
import { askToAcknowledge } from "../acknowledge.js";
import { excess, worse } from "../alarmgroups.js";
import { fill, gather, h } from "../dom.js";
import { age, count, dateTime, many, measured, number } from "../format.js";
import { live } from "../live.js";
import { missing, plots, TracePlot, UChart } from "../plot.js";
import { badge, ORDER } from "../severity.js";

const POINTS = 100; // of a chart at first
const POINTS_MOST = 1000;
const GOOD_RUNS = 5; // that a trace is laid over
const STATES = { alarm: 0, missing: 1, learning: 2, normal: 3 };

export const title = ({ tool, chamber }) => `${tool} ${chamber} – Chamberlain`;

const limits = (point) =>
    point.lower === null && point.upper === null
        ? "no limits"
        : `limits ${number(point.lower)} to ${number(point.upper)}`;

function describe(point, unit) {
    const what = point.state === "alarm" ? `${point.severity}: ${point.rules.join(", ")}` : point.state;
    return `Run ${point.context_id}, lot ${point.lot || "–"}, wafer ${point.wafer || "–"}, ${dateTime(point.ended_at)}: ${measured(point.value, unit)}, ${limits(point)}; ${what}.${point.reason ? ` ${point.reason}.` : ""}`;
}

class ChamberPage {
    constructor(main, parameters, signal) {
        this.main = main;
        this.tool = parameters.tool;
        this.chamber = parameters.chamber;
        this.signal = signal;
        this.parameters = parameters;
        this.alarms = [];
        this.points = [];
        this.next = null; // the page of older points
        this.shownChart = this.shownContext = null;
        this.build();
        const again = gather(() => this.refresh(), 400);
        live.on(
            "chambers",
            ({ chambers }) => {
                if (chambers.some((one) => this.isMine(one))) again();
            },
            signal,
        );
        live.on(
            "alarm",
            (alarm) => {
                if (this.isMine(alarm)) again();
            },
            signal,
        );
        live.on(
            "acknowledged",
            (alarm) => {
                if (this.isMine(alarm)) again();
            },
            signal,
        );
        signal.addEventListener("abort", () => {
            again.cancel();
            this.uchart.destroy();
            this.clearTraces();
        });
        live.begin(() => (this.detail ? this.refresh() : this.start()), signal);
    }

    isMine(one) {
        return one.tool_id === this.tool && one.chamber_id === this.chamber;
    }

    build() {
        this.head = h("div", { class: "chamber-head" });
        this.trouble = h("p", { class: "form-trouble", role: "alert" });
        this.filter = h("input", {
            type: "search",
            id: "chart-filter",
            placeholder: "Filter charts",
            "aria-label": "Filter charts",
            oninput: () => this.showList(),
        });
        this.recipe = h("select", {
            "aria-label": "Recipe",
            onchange: () => this.go({ recipe: this.recipe.value, chart: null, context: null }),
        });
        this.list = h("ul", { class: "charts" });
        this.chartTitle = h("h2", null, "U-chart");
        this.chartNote = h("p", { class: "muted chart-note" });
        this.uchart = new UChart(
            (index) => this.choose(index),
            (index) => fill(this.pointWords, describe(this.points[index], this.unit)),
        );
        this.pointWords = h("p", { class: "point-words", role: "status" }, "");
        this.older = h("button", { type: "button", hidden: true, onclick: () => this.readOlder() }, "Older runs");
        this.alarmed = h("div", { class: "alarmed" });
        this.table = h("div");
        this.trace = h("section", { class: "card trace-card", "aria-label": "Trace", hidden: true });
        this.traces = [];
        fill(
            this.main,
            this.head,
            this.trouble,
            h(
                "div",
                { class: "columns chart-columns" },
                h(
                    "section",
                    { class: "card", "aria-label": "Charts" },
                    h("h2", null, "Charts"),
                    this.recipe,
                    this.filter,
                    h(
                        "div",
                        { class: "charts-frame", tabindex: "0", role: "region", "aria-label": "List of charts" },
                        this.list,
                    ),
                ),
                h(
                    "div",
                    { class: "stack" },
                    h(
                        "section",
                        { class: "card", "aria-label": "U-chart" },
                        h("div", { class: "card-head" }, this.chartTitle, this.older),
                        this.chartNote,
                        plots ? null : missing(),
                        this.uchart.element,
                        h(
                            "p",
                            { class: "help", id: "uchart-help", hidden: !plots },
                            "Click a point, or press Enter on it, for its trace. Arrow keys move, N goes to the next alarm.",
                        ),
                        this.pointWords,
                        this.alarmed,
                        this.table,
                    ),
                    this.trace,
                ),
            ),
        );
    }

    // The parameters of the page have changed; true: it stays.
    take(parameters) {
        if (parameters.tool !== this.tool || parameters.chamber !== this.chamber) return false;
        this.parameters = parameters;
        this.follow();
        return true;
    }

    go(change) {
        const { tool, chamber, recipe, chart, context } = { ...this.parameters, ...change };
        location.hash = link("chamber", { tool, chamber, recipe, chart, context });
    }

    async start() {
        await this.readChamber();
        await this.follow();
    }

    async refresh() {
        await this.readChamber();
        if (this.points.length <= POINTS)
            // who has gone back in time is not pulled away
            await this.readSeries(true);
    }

    fail(error) {
        if (!this.signal.aborted) fill(this.trouble, error.message);
    }

    async readChamber() {
        const where = { tool: this.tool, chamber: this.chamber };
        try {
            const [detail, alarms] = await Promise.all([
                get("chamber", where, this.signal),
                get("alarms", { ...where, limit: 1000 }, this.signal),
            ]);
            this.detail = detail;
            this.alarms = alarms.alarms;
            fill(this.trouble);
        } catch (error) {
            if (!this.detail) fill(this.head, h("h1", null, `${this.tool} ${this.chamber}`));
            return this.fail(error);
        }
        this.byChart = new Map();
        for (const alarm of this.alarms.filter((one) => !one.acknowledged))
            this.byChart.set(alarm.chart, [...(this.byChart.get(alarm.chart) ?? []), alarm]);
        this.showHead();
        this.showList();
        return undefined;
    }

    showHead() {
        const detail = this.detail;
        const open = this.alarms.filter((alarm) => !alarm.acknowledged);
        fill(
            this.head,
            h("h1", null, `${this.tool} ${this.chamber}`),
            badge(
                detail.severity,
                detail.severity === "none" ? "normal" : `${detail.severity}, open for ${age(detail.since)}`,
            ),
            h(
                "span",
                { class: "muted" },
                `${many(detail.open, "open alarm")} · ${detail.owner ? `owned by ${detail.owner}` : "nobody owns it"}${detail.last ? ` · last judged ${age(detail.last.judged_at)} ago` : ""}`,
            ),
            open.length > 0
                ? h(
                      "button",
                      {
                          type: "button",
                          onclick: () => askToAcknowledge(open, `All open alarms of ${this.tool} ${this.chamber}`),
                      },
                      `Acknowledge ${open.length === 1 ? "it" : `all ${open.length}`}`,
                  )
                : null,
        );
    }

    get recipeName() {
        const recipes = this.detail?.recipes ?? [];
        return (
            this.parameters.recipe ??
            this.alarms.find((alarm) => !alarm.acknowledged)?.recipe ??
            recipes[0]?.recipe ??
            null
        );
    }

    // Charts of the recipe: those with open alarms first, the most of them before the others.
    charts() {
        const recipe = this.detail?.recipes.find((one) => one.recipe === this.recipeName);
        const known = new Map(
            (recipe?.verdicts ?? []).map((verdict) => [verdict.chart, { name: verdict.chart, verdict }]),
        );
        for (const [chart, alarms] of this.byChart ?? [])
            if (alarms[0].recipe === this.recipeName && !known.has(chart))
                known.set(chart, { name: chart, verdict: null });
        for (const one of known.values()) {
            one.open = this.byChart.get(one.name) ?? [];
            one.worst = [...one.open].sort(worse)[0] ?? null;
        }
        const rank = (one) => (one.worst ? ORDER[one.worst.severity] : 0);
        return [...known.values()].sort(
            (a, b) =>
                rank(b) - rank(a) ||
                b.open.length - a.open.length ||
                (STATES[a.verdict?.state] ?? 3) - (STATES[b.verdict?.state] ?? 3) ||
                a.name.localeCompare(b.name),
        );
    }

    showList() {
        const recipes = (this.detail?.recipes ?? []).map((one) => one.recipe);
        this.recipe.hidden = recipes.length < 2;
        fill(
            this.recipe,
            recipes.map((name) => h("option", { value: name, selected: name === this.recipeName }, name)),
        );
        const wanted = this.filter.value.trim().toLowerCase();
        const all = this.charts(),
            some = all.filter((one) => one.name.toLowerCase().includes(wanted));
        const focused = this.list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        fill(
            this.list,
            some.map((one) =>
                h(
                    "li",
                    null,
                    h(
                        "a",
                        {
                            href: link("chamber", {
                                tool: this.tool,
                                chamber: this.chamber,
                                recipe: this.recipeName,
                                chart: one.name,
                            }),
                            "aria-current": one.name === this.shownChart ? "true" : null,
                        },
                        h("span", { class: "chart-name" }, one.name),
                        one.worst
                            ? badge(one.worst.severity, count(one.open.length))
                            : h("span", { class: "muted state" }, one.verdict?.state ?? ""),
                    ),
                ),
            ),
            all.length === 0
                ? h("li", { class: "muted" }, "Nothing was judged here yet.")
                : some.length === 0
                  ? h("li", { class: "muted" }, "No chart of that name.")
                  : null,
        );
        if (focused) this.list.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    }

    // Shows what the parameters ask for.
    async follow() {
        let { chart } = this.parameters;
        const { context } = this.parameters;
        if (!chart && context) chart = await this.worstChart(context);
        chart ??= this.charts()[0]?.name ?? null;
        if (chart && (chart !== this.shownChart || this.recipeName !== this.shownRecipe)) {
            this.shownChart = chart;
            this.shownRecipe = this.recipeName;
            this.showList();
            await this.readSeries(false);
        }
        if (context) await this.showTrace(context);
        else this.hideTrace();
    }

    // The chart of a run that is looked at first: the one furthest out.
    async worstChart(context) {
        try {
            const detail = await get(`contexts/${encodeURIComponent(context)}`, null, this.signal);
            this.parameters.recipe ??= detail.recipe;
            const alarmed = detail.verdicts.filter((verdict) => verdict.state === "alarm").sort(worse);
            return (alarmed[0] ?? detail.verdicts[0])?.chart ?? null;
        } catch (error) {
            this.fail(error);
            return null;
        }
    }

    async readSeries(quietly) {
        if (!this.shownChart) return;
        const chart = this.shownChart,
            begin = performance.now();
        try {
            const [series, text] = await Promise.all([
                get(
                    "series",
                    { tool: this.tool, chamber: this.chamber, recipe: this.recipeName, chart, limit: POINTS },
                    this.signal,
                ),
                this.readDefinition(chart),
            ]);
            if (chart !== this.shownChart) return;
            this.points = series.points;
            this.next = series.next;
            this.unit = series.unit;
            fill(this.chartTitle, chart);
            fill(this.chartNote, text);
            this.showChart();
            if (!quietly) performance.measure("chamberlain:chart", { start: begin });
        } catch (error) {
            if (!quietly && !this.signal.aborted) {
                this.points = [];
                fill(this.chartTitle, chart);
                fill(
                    this.chartNote,
                    error instanceof ApiError && error.status === 404
                        ? "Nothing was judged by this chart here."
                        : error.message,
                );
                this.showChart();
            }
        }
    }

    async readOlder() {
        this.older.disabled = true;
        try {
            const page = await get(
                "series",
                {
                    tool: this.tool,
                    chamber: this.chamber,
                    recipe: this.recipeName,
                    chart: this.shownChart,
                    limit: POINTS,
                    cursor: this.next,
                },
                this.signal,
            );
            this.points = [...page.points, ...this.points].slice(-POINTS_MOST);
            this.next = this.points.length < POINTS_MOST ? page.next : null;
            this.showChart();
        } catch (error) {
            this.fail(error);
        }
        this.older.disabled = false;
    }

    // What the chart is, from the chart file in force.
    async readDefinition(name) {
        if (!this.definitions || this.definitionsOf !== this.recipeName) {
            this.definitionsOf = this.recipeName;
            this.definitions = get("charts", { recipe: this.recipeName }, this.signal).then(
                ({ charts }) => charts,
                () => [],
            );
        }
        const chart = (await this.definitions).find((one) => one.name === name);
        return chart
            ? [h("code", null, chart.equation), ` · ${chart.limits} · rules: ${chart.rules || "none"}`]
            : "This chart is not in the chart file in force any more.";
    }

    showChart() {
        this.older.hidden = !this.next;
        this.uchart.set(this.points, this.shownChart, this.unit);
        const at = this.points.findIndex((point) => point.context_id === this.shownContext);
        if (at >= 0) this.uchart.select(at);
        const alarmed = this.points.filter((point) => point.state === "alarm");
        fill(
            this.pointWords,
            at >= 0
                ? describe(this.points[at], this.unit)
                : `${many(this.points.length, "run")}, ${count(alarmed.length)} with an alarm of this chart.`,
        );
        fill(
            this.alarmed,
            alarmed.length
                ? [
                      h("h3", null, "Points with an alarm"),
                      h(
                          "ul",
                          { class: "chips" },
                          alarmed
                              .slice(-24)
                              .reverse()
                              .map((point) =>
                                  h(
                                      "li",
                                      null,
                                      h(
                                          "a",
                                          { href: this.traceLink(point) },
                                          badge(point.severity, point.context_id),
                                          h("span", { class: "muted" }, ` ${point.rules.join(", ")}`),
                                      ),
                                  ),
                              ),
                      ),
                  ]
                : null,
        );
        fill(
            this.table,
            this.points.length
                ? h("details", { open: !plots }, h("summary", null, "The same in numbers"), this.numbers())
                : null,
        );
    }

    traceLink(point) {
        return link("chamber", {
            tool: this.tool,
            chamber: this.chamber,
            recipe: this.recipeName,
            chart: this.shownChart,
            context: point.context_id,
        });
    }

    // Made when it is opened: most do not.
    numbers() {
        const frame = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Points, table" });
        const rows = () =>
            h(
                "table",
                null,
                h(
                    "thead",
                    null,
                    h(
                        "tr",
                        null,
                        ["Run", "Lot", "Wafer", "Ended", "Value", "Centre", "Lower", "Upper", "State"].map((name) =>
                            h(
                                "th",
                                { scope: "col", class: /Value|Centre|Lower|Upper/.test(name) ? "number" : null },
                                name,
                            ),
                        ),
                    ),
                ),
                h(
                    "tbody",
                    null,
                    [...this.points].reverse().map((point) =>
                        h(
                            "tr",
                            null,
                            h("th", { scope: "row" }, h("a", { href: this.traceLink(point) }, point.context_id)),
                            [point.lot || "–", point.wafer || "–", dateTime(point.ended_at)].map((text) =>
                                h("td", null, text),
                            ),
                            [point.value, point.centre, point.lower, point.upper].map((value) =>
                                h("td", { class: "number" }, number(value)),
                            ),
                            h(
                                "td",
                                null,
                                point.state === "alarm" ? badge(point.severity, point.rules.join(", ")) : point.state,
                            ),
                        ),
                    ),
                ),
            );
        queueMicrotask(() => {
            const details = frame.closest("details");
            const show = () => details.open && !frame.hasChildNodes() && fill(frame, rows());
            details?.addEventListener("toggle", show);
            show();
        });
        return frame;
    }

    choose(index) {
        const point = this.points[index];
        if (!point) return;
        if (point.context_id === this.shownContext) this.trace.scrollIntoView({ block: "nearest", behavior: "smooth" });
        else this.go({ recipe: this.recipeName, chart: this.shownChart, context: point.context_id });
    }

    hideTrace() {
        this.shownContext = null;
        this.trace.hidden = true;
        this.clearTraces();
    }

    clearTraces() {
        this.traces.forEach((plot) => plot.destroy());
        this.traces = [];
    }

    // The newest runs before this one in which no chart alarmed; where there is none, the newest after it.
    goodRuns(context, ended) {
        const alarmed = new Set(this.alarms.map((alarm) => alarm.context_id));
        const good = this.points.filter(
            (point) => point.context_id !== context && point.state !== "alarm" && !alarmed.has(point.context_id),
        );
        const before = good.filter((point) => !ended || point.ended_at < ended);
        return (before.length ? before : good).slice(-GOOD_RUNS).map((point) => point.context_id);
    }

    async showTrace(context) {
        const chart = this.shownChart;
        this.shownContext = context;
        const at = this.points.findIndex((point) => point.context_id === context);
        this.uchart.select(at);
        if (at >= 0) fill(this.pointWords, describe(this.points[at], this.unit));
        const wasHidden = this.trace.hidden;
        this.trace.hidden = false;
        if (wasHidden) fill(this.trace, h("p", { class: "wait" }, "Loading the trace …"));
        try {
            await this.readTrace(context, chart, []);
        } catch (error) {
            if (this.signal.aborted || context !== this.shownContext) return;
            this.clearTraces();
            fill(this.trace, h("h2", null, `Trace of run ${context}`), h("p", { class: "note" }, error.message));
        }
        if (wasHidden && context === this.shownContext)
            this.trace.scrollIntoView({ block: "nearest", behavior: "smooth" });
    }

    async readTrace(context, chart, svid) {
        const begin = performance.now();
        const pixels = Math.min(2048, Math.max(256, Math.round(this.uchart.width * (window.devicePixelRatio || 1))));
        const ask = (id) =>
            get("traces", { context: id, chart: svid.length ? null : chart, svid, pixels }, this.signal);
        const [trace, detail] = await Promise.all([
            ask(context),
            get(`contexts/${encodeURIComponent(context)}`, null, this.signal),
        ]);
        // A good run whose trace is past its three days is left out.
        const good = (
            await Promise.all(this.goodRuns(context, detail.ended_at).map((id) => ask(id).catch(() => null)))
        ).filter(Boolean);
        if (context !== this.shownContext || chart !== this.shownChart || this.signal.aborted) return;
        this.drawTraces(trace, detail, good, chart);
        performance.measure("chamberlain:trace", { start: begin });
    }

    drawTraces(trace, detail, good, chart) {
        this.clearTraces();
        const verdict = detail.verdicts.find((one) => one.chart === chart);
        const others = detail.verdicts
            .filter((one) => one.state === "alarm" && one.chart !== chart)
            .sort((a, b) => excess(b) - excess(a));
        const bad = verdict?.state === "alarm";
        const shown = trace.traces.map((one) => one.svid);
        const sensor = h(
            "select",
            {
                "aria-label": "Sensor",
                onchange: () =>
                    this.readTrace(detail.context_id, chart, sensor.value ? [sensor.value] : []).catch((error) =>
                        this.fail(error),
                    ),
            },
            h("option", { value: "" }, "of the equation"),
            trace.sensors.map((name) =>
                h(
                    "option",
                    { value: name, selected: shown.length === 1 && shown[0] === name && trace.windows.length === 0 },
                    name,
                ),
            ),
        );
        fill(
            this.trace,
            h(
                "div",
                { class: "card-head" },
                h("h2", null, `Trace of run ${detail.context_id}`),
                h("label", { class: "inline" }, "Sensor ", sensor),
            ),
            h(
                "p",
                null,
                verdict
                    ? [
                          badge(
                              verdict.state === "alarm" ? verdict.severity : "none",
                              verdict.state === "alarm"
                                  ? `${verdict.severity}: ${verdict.rules.join(", ")}`
                                  : verdict.state,
                          ),
                          ` ${chart}: ${measured(verdict.value, verdict.unit)}, ${limits(verdict)}`,
                      ]
                    : null,
            ),
            h(
                "p",
                { class: "muted" },
                `Lot ${detail.lot || "–"}, wafer ${detail.wafer || "–"}, ${dateTime(detail.started_at)} to ${dateTime(detail.ended_at)}${detail.quality === "low" ? "; quality low" : ""}`,
            ),
            h(
                "ul",
                { class: "keys" },
                h(
                    "li",
                    null,
                    h("span", { class: `line ${bad ? "critical" : "accent"} fat`, "aria-hidden": "true" }),
                    `run ${detail.context_id}`,
                ),
                h(
                    "li",
                    null,
                    h("span", { class: "line muted", "aria-hidden": "true" }),
                    good.length
                        ? `${many(good.length, "good run")} (${good.map((one) => one.context_id).join(", ")})`
                        : "no good run to compare with",
                ),
                trace.windows.length
                    ? h(
                          "li",
                          null,
                          h("span", { class: "line band", "aria-hidden": "true" }),
                          `what the equation looks at (${[...new Set(trace.windows.map((one) => one.text || "the whole trace"))].join("; ")})`,
                      )
                    : null,
            ),
            trace.traces.length === 0 ? h("p", { class: "note" }, "The trace has none of these sensors.") : null,
            trace.traces.map((one) => {
                const runs = [
                    one,
                    ...good
                        .map((other) => other.traces.find((candidate) => candidate.svid === one.svid))
                        .filter(Boolean),
                ];
                const plot = new TracePlot();
                this.traces.push(plot);
                queueMicrotask(() =>
                    plot.set(
                        `${one.svid} of run ${detail.context_id}`,
                        runs,
                        trace.windows.filter((window) => window.svid === one.svid),
                        trace.steps,
                        bad,
                    ),
                );
                return [
                    h("h3", null, one.svid, h("span", { class: "muted" }, `  ${many(one.samples, "sample")}`)),
                    plots ? null : missing(""),
                    plot.element,
                ];
            }),
            others.length
                ? [
                      h("h3", null, "Other charts that alarmed on this run"),
                      h(
                          "ul",
                          { class: "chips" },
                          others
                              .slice(0, 16)
                              .map((one) =>
                                  h(
                                      "li",
                                      null,
                                      h(
                                          "a",
                                          {
                                              href: link("chamber", {
                                                  tool: this.tool,
                                                  chamber: this.chamber,
                                                  recipe: this.recipeName,
                                                  chart: one.chart,
                                                  context: detail.context_id,
                                              }),
                                          },
                                          badge(one.severity, one.chart),
                                      ),
                                  ),
                              ),
                          others.length > 16 ? h("li", { class: "muted" }, `and ${others.length - 16} more`) : null,
                      ),
                  ]
                : null,
        );
    }
}

export function show(main, parameters, { signal }) {
    if (!parameters.tool || !parameters.chamber) {
        fill(
            main,
            h("h1", null, "Chamber"),
            h("p", null, "This address names no chamber. ", h("a", { href: "#/" }, "To the fab")),
        );
        return null;
    }
    const page = new ChamberPage(main, parameters, signal);
    return (changed) => page.take(changed);
}
