// Alarms, run by run, and who has seen them.

import { get, link } from "../api.js";
import { askToAcknowledge } from "../acknowledge.js";
import { alarmLink, deviation, summarise } from "../alarmgroups.js";
import { fill, gather, h } from "../dom.js";
import { age, dateTime, many } from "../format.js";
import { live } from "../live.js";
import { badge } from "../severity.js";

const PAGE = 500;

export const title = () => "Alarms – Chamberlain";

function alarmRow(alarm) {
    const seen = alarm.acknowledged;
    return h(
        "li",
        { class: "alarm", data: { alarm: alarm.alarm_id } },
        badge(alarm.severity),
        h("a", { href: alarmLink(alarm) }, h("code", null, alarm.chart)),
        h("span", null, deviation(alarm)),
        h("span", { class: "muted" }, alarm.rule_text),
        seen
            ? h(
                  "span",
                  { class: "seen" },
                  `✓ ${seen.by}, ${dateTime(seen.at)}${seen.comment ? `: ${seen.comment}` : ""}`,
              )
            : h(
                  "button",
                  {
                      type: "button",
                      "aria-label": `Acknowledge ${alarm.chart}`,
                      onclick: () => askToAcknowledge([alarm], `${alarm.chart} of run ${alarm.context_id}`),
                  },
                  "Acknowledge",
              ),
    );
}

function groupItem(alarms, isOpen) {
    const { worst, alarms: sorted, newest } = summarise(alarms);
    const waiting = sorted.filter((alarm) => !alarm.acknowledged);
    const details = h(
        "details",
        { open: isOpen },
        h(
            "summary",
            null,
            badge(worst.severity),
            h("strong", null, worst.context_id),
            h("span", null, `${many(sorted.length, "alarm")}, most `, h("code", null, worst.chart)),
            h(
                "span",
                { class: "muted" },
                `${worst.tool_id} ${worst.chamber_id}, lot ${worst.lot || "–"}, wafer ${worst.wafer || "–"}; raised ${age(newest)} ago`,
            ),
        ),
    );
    // The rows of a closed group are made when it is opened: 500 alarms are many buttons.
    const rows = h("ul", { class: "alarm-rows" });
    const fillRows = () => {
        if (details.open && !rows.hasChildNodes()) fill(rows, sorted.map(alarmRow));
    };
    details.addEventListener("toggle", fillRows);
    details.append(rows);
    fillRows();
    return h(
        "li",
        { class: "card group", data: { run: worst.context_id } },
        details,
        waiting.length > 0
            ? h(
                  "button",
                  {
                      type: "button",
                      class: "group-ack",
                      "aria-label": `Acknowledge all of run ${worst.context_id}`,
                      onclick: () =>
                          askToAcknowledge(
                              waiting,
                              `All open alarms of run ${worst.context_id}, ${worst.tool_id} ${worst.chamber_id}`,
                          ),
                  },
                  waiting.length === 1 ? "Acknowledge" : `Acknowledge all ${waiting.length}`,
              )
            : h("span", { class: "seen" }, "✓ seen"),
    );
}

export function show(main, parameters, { signal }) {
    const state = parameters.state ?? "open",
        severity = parameters.severity ?? "";
    const runs = new Map(); // alarms by id by run, the newest run first
    let cursor = null;
    const list = h("ul", { class: "groups" }),
        note = h("p", { class: "muted", role: "status" }, "Loading …");
    const more = h("button", { type: "button", hidden: true, onclick: () => read(cursor) }, "Older alarms");
    const choice = (name, label, value, options) =>
        h(
            "label",
            null,
            label,
            h(
                "select",
                {
                    name,
                    onchange: (event) => {
                        location.hash = link("alarms", { state, severity, ...parametersOf(name, event.target.value) });
                    },
                },
                options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
            ),
        );
    const parametersOf = (name, value) => ({ [name]: value });
    fill(
        main,
        h("h1", null, "Alarms"),
        h(
            "div",
            { class: "filters" },
            choice("state", "Show ", state, [
                ["open", "open"],
                ["acknowledged", "acknowledged"],
                ["all", "all"],
            ]),
            choice("severity", "Severity ", severity, [
                ["", "every"],
                ["critical", "critical"],
                ["warning", "warning"],
                ["info", "info"],
            ]),
        ),
        note,
        list,
        more,
    );

    const wanted = (alarm) =>
        (state === "all" || (state === "open") === (alarm.acknowledged === null)) &&
        (!severity || alarm.severity === severity);
    const itemOf = (run) => list.querySelector(`[data-run="${CSS.escape(run)}"]`);

    function say() {
        const total = [...runs.values()].reduce((sum, alarms) => sum + alarms.size, 0);
        fill(
            note,
            total === 0
                ? state === "open"
                    ? "No alarm is open."
                    : "There is none."
                : `${many(total, "alarm")} of ${many(runs.size, "run")}${cursor ? ", and older ones" : ""}.`,
        );
        more.hidden = !cursor;
    }

    function keep(alarm, first) {
        const run = runs.get(alarm.context_id) ?? new Map();
        run.set(alarm.alarm_id, alarm);
        if (runs.has(alarm.context_id)) return;
        const before = [...runs];
        runs.set(alarm.context_id, run);
        if (first) {
            // news: before the others
            before.forEach(([id, alarms]) => {
                runs.delete(id);
                runs.set(id, alarms);
            });
        }
    }

    function showRun(run) {
        const old = itemOf(run),
            alarms = runs.get(run);
        if (alarms.size === 0) {
            runs.delete(run);
            old?.remove();
            return;
        }
        const isOpen = old?.querySelector("details").open ?? false;
        const item = groupItem([...alarms.values()], isOpen);
        if (old) old.replaceWith(item);
        else list.prepend(item);
    }

    async function read(from) {
        try {
            const page = await get("alarms", { state, severity, limit: PAGE, cursor: from }, signal);
            if (!from) runs.clear();
            page.alarms.forEach((alarm) => keep(alarm, false));
            cursor = page.next;
            fill(
                list,
                [...runs.values()].map((alarms) => groupItem([...alarms.values()], runs.size === 1)),
            );
            say();
        } catch (error) {
            if (!signal.aborted) fill(note, error.message);
        }
    }

    const changed = new Set();
    const showChanged = gather(() => {
        changed.forEach((run) => runs.has(run) && showRun(run));
        changed.clear();
        say();
    }, 150);
    live.on(
        "alarm",
        (alarm) => {
            if (wanted(alarm)) {
                keep(alarm, true);
                changed.add(alarm.context_id);
                showChanged();
            }
        },
        signal,
    );
    live.on(
        "acknowledged",
        (alarm) => {
            if (wanted(alarm)) keep(alarm, true);
            else runs.get(alarm.context_id)?.delete(alarm.alarm_id);
            changed.add(alarm.context_id);
            showChanged();
        },
        signal,
    );
    signal.addEventListener("abort", () => showChanged.cancel());
    live.begin(() => read(null), signal);
}
