// The fab at first sight: every chamber, and the runs that wait for someone.

import { get, link } from "../api.js";
import { groupByRun, runItem } from "../alarmgroups.js";
import { fill, gather, h } from "../dom.js";
import { count, many } from "../format.js";
import { HeatMap, legend } from "../heatmap.js";
import { RunStrips, STRIPS_MOST } from "../runstrip.js";
import { live } from "../live.js";
import { badge, ORDER } from "../severity.js";

const RUNS_SHOWN = 40;
const ALARMS_READ = 1000;
const ALARMS_PAUSE_MS = 700;
const MANY = 500; // chambers

export const title = () => "Fab – Chamberlain";

function tile(name, value, more) {
    return h(
        "div",
        { class: "tile" },
        h("dt", null, name),
        h("dd", null, value, more ? h("span", { class: "muted" }, more) : null),
    );
}

function tiles(status) {
    const { open_alarms: open, contexts, chambers, members } = status;
    const free = chambers.known - chambers.owned;
    return [
        h(
            "div",
            { class: "tile wide" },
            h("dt", null, "Open alarms"),
            h(
                "dd",
                { class: "badges" },
                ["critical", "warning", "info"].map((severity) =>
                    badge(severity, `${count(open[severity])} ${severity}`),
                ),
            ),
        ),
        tile("Chambers", count(chambers.known), free > 0 ? `${count(free)} without a defender` : "all owned"),
        tile(
            "Runs judged",
            count(contexts.judged),
            `${count(status.messages_waiting)} waiting${contexts.dead ? `, ${count(contexts.dead)} dead` : ""}`,
        ),
        tile(
            "Defenders",
            `${count(members.alive)} of ${count(members.known)}`,
            `${status.lifecycle.toLowerCase().replace("_", " ")}, map ${status.map_version}`,
        ),
    ];
}

export function show(main, parameters, { signal }) {
    const map = new HeatMap((chamber) => {
        location.hash = link("chamber", { tool: chamber.tool_id, chamber: chamber.chamber_id });
    });
    const only = h("input", { type: "checkbox", onchange: () => showChambers() });
    let chambers = [],
        places = new Map();
    const strips = new RunStrips(signal);
    const summary = h("dl", { class: "tiles" });
    const heading = h("h2", null, "Chambers");
    const runs = h("ul", { class: "runs" });
    const runsNote = h("p", { class: "muted" }, "Loading …");
    const trouble = h("p", { class: "form-trouble", role: "alert" });
    fill(
        main,
        h("h1", { class: "hidden" }, "The fab"),
        summary,
        h(
            "div",
            { class: "columns" },
            h(
                "section",
                { class: "card", "aria-label": "Heat map" },
                h(
                    "div",
                    { class: "card-head" },
                    heading,
                    h("label", { class: "inline" }, only, "only those with open alarms"),
                ),
                trouble,
                legend(),
                map.element,
                strips.element,
            ),
            h(
                "section",
                { class: "card", "aria-label": "Runs with open alarms" },
                h("h2", null, "Runs with open alarms"),
                runsNote,
                runs,
                h("p", null, h("a", { href: "#/alarms" }, "All alarms")),
            ),
        ),
    );

    function showChambers() {
        const open = chambers.filter((one) => one.severity !== "none");
        map.set(only.checked ? open : chambers);
        fill(heading, many(chambers.length, "chamber"), `, ${count(open.length)} with open alarms`);
    }

    async function readChambers() {
        try {
            const first = chambers.length === 0;
            ({ chambers } = await get("chambers", null, signal));
            if (first)
                // a long way to scroll on a phone
                only.checked = chambers.length > MANY && matchMedia("(max-width: 560px)").matches;
            places = new Map(chambers.map((one, i) => [`${one.tool_id}\n${one.chamber_id}`, i]));
            showChambers();
            strips.show(chambers.length <= STRIPS_MOST ? chambers : []);
            fill(trouble);
            performance.measure("chamberlain:fab", { start: 0 });
        } catch (error) {
            if (!signal.aborted) fill(trouble, error.message);
        }
    }

    async function readAlarms() {
        try {
            const { alarms, next } = await get("alarms", { state: "open", limit: ALARMS_READ }, signal);
            const groups = groupByRun(alarms).sort((a, b) => ORDER[b.worst.severity] - ORDER[a.worst.severity]);
            fill(runs, groups.slice(0, RUNS_SHOWN).map(runItem));
            fill(
                runsNote,
                groups.length === 0
                    ? "No alarm is open."
                    : next
                      ? "The worst, then the newest first."
                      : `${many(groups.length, "run")}, the worst, then the newest first.`,
            );
        } catch (error) {
            if (!signal.aborted) fill(runsNote, error.message);
        }
    }

    function changeChambers(changed) {
        const known = changed.every((one) => places.has(`${one.tool_id}\n${one.chamber_id}`));
        if (!known) return againChambers();
        for (const one of changed) chambers[places.get(`${one.tool_id}\n${one.chamber_id}`)] = one;
        return map.update(changed) && !only.checked ? sayOpen() : showChambers();
    }

    const sayOpen = gather(
        () =>
            fill(
                heading,
                many(chambers.length, "chamber"),
                `, ${count(chambers.filter((one) => one.severity !== "none").length)} with open alarms`,
            ),
        200,
    );
    const againChambers = gather(readChambers, 300),
        againAlarms = gather(readAlarms, ALARMS_PAUSE_MS);
    live.on(
        "chambers",
        (data) => {
            changeChambers(data.chambers);
            strips.again();
        },
        signal,
    );
    live.on("alarm", againAlarms, signal);
    live.on("acknowledged", againAlarms, signal);
    live.on("status", (status) => fill(summary, tiles(status)), signal);
    document.addEventListener("theme", () => map.redraw(), { signal });
    signal.addEventListener("abort", () => {
        map.destroy();
        againChambers.cancel();
        sayOpen.cancel();
        againAlarms.cancel();
    });
    live.begin(() => {
        readChambers();
        readAlarms();
    }, signal);
    if (live.status) fill(summary, tiles(live.status));
}
