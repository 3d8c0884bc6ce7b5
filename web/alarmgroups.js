// Alarms of one run belong together: one fault moves many indicators.

import { link } from "./api.js";
import { h } from "./dom.js";
import { age, dateTime, many, measured, number } from "./format.js";
import { badge, ORDER } from "./severity.js";

// How far beyond its limit, in half widths of the band; to say which chart of a run to look at first.
export function excess(alarm) {
    const { value, centre, lower, upper } = alarm;
    if (value === null || centre === null) return 0;
    const reach = value > centre ? (upper ?? null) : (lower ?? null);
    return reach === null || reach === centre ? 0 : Math.abs((value - centre) / (reach - centre));
}

export const worse = (a, b) => ORDER[b.severity] - ORDER[a.severity] || excess(b) - excess(a);

export function groupByRun(alarms) {
    const groups = new Map();
    for (const alarm of alarms) {
        if (!groups.has(alarm.context_id)) groups.set(alarm.context_id, []);
        groups.get(alarm.context_id).push(alarm);
    }
    return [...groups.values()].map(summarise);
}

export function summarise(alarms) {
    const sorted = [...alarms].sort(worse);
    const newest = alarms.reduce((latest, alarm) => (alarm.raised_at > latest ? alarm.raised_at : latest), "");
    return { worst: sorted[0], alarms: sorted, newest };
}

export const alarmLink = (alarm) =>
    link("chamber", {
        tool: alarm.tool_id,
        chamber: alarm.chamber_id,
        recipe: alarm.recipe,
        chart: alarm.chart,
        context: alarm.context_id,
    });

export const deviation = (alarm) => {
    const limit = alarm.value > alarm.centre ? alarm.upper : alarm.lower;
    return limit === null || alarm.value === null
        ? measured(alarm.value, alarm.unit)
        : `${measured(alarm.value, alarm.unit)}, limit ${number(limit)}`;
};

// One line for a run in the list of what is open.
export function runItem({ worst, alarms, newest }) {
    return h(
        "li",
        null,
        h(
            "a",
            {
                class: "run",
                href: alarmLink(worst),
                "aria-label": `${worst.severity}: run ${worst.context_id}, ${many(alarms.length, "alarm")}`,
            },
            h(
                "span",
                { class: "run-head" },
                badge(worst.severity),
                h("strong", null, worst.context_id),
                h("span", { class: "muted" }, `${worst.tool_id} ${worst.chamber_id}`),
                h("span", { class: "run-age muted" }, `${age(newest)} ago`),
            ),
            h("span", { class: "run-body" }, `${many(alarms.length, "chart")}; most: `, h("code", null, worst.chart)),
            h(
                "span",
                { class: "run-body muted" },
                `lot ${worst.lot || "–"}, wafer ${worst.wafer || "–"}, ended ${dateTime(worst.ended_at)}`,
            ),
        ),
    );
}
