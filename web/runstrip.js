// The last runs of a chamber side by side: which of them alarmed, and with how many charts. For fabs of few chambers, where
// a heat map has little to say.

import { get } from "./api.js";
import { alarmLink, groupByRun } from "./alarmgroups.js";
import { fill, gather, h } from "./dom.js";
import { count, many } from "./format.js";
import { SHAPES } from "./severity.js";

export const STRIPS_MOST = 6; // chambers
const RUNS = 100;
const AGAIN_MS = 1000;

export class RunStrips {
    #chambers = [];

    constructor(signal) {
        this.signal = signal;
        this.element = h("div", { class: "strips" });
        this.again = gather(() => this.#read(), AGAIN_MS);
        signal.addEventListener("abort", () => this.again.cancel());
    }

    show(chambers) {
        this.#chambers = chambers;
        this.#read();
    }

    async #read() {
        try {
            const strips = await Promise.all(this.#chambers.map((chamber) => this.#strip(chamber)));
            fill(this.element, strips);
        } catch (error) {
            if (!this.signal.aborted) fill(this.element);
        }
    }

    // Every recipe's newest runs, by their ends.
    async #runs(where) {
        const { recipes } = await get("chamber", where, this.signal);
        const series = await Promise.all(
            recipes
                .filter((one) => one.verdicts.length)
                .map((one) =>
                    get(
                        "series",
                        { ...where, recipe: one.recipe, chart: one.verdicts[0].chart, limit: RUNS },
                        this.signal,
                    ),
                ),
        );
        return series
            .flatMap((one) => one.points)
            .sort((a, b) => (a.ended_at < b.ended_at ? -1 : 1))
            .slice(-RUNS);
    }

    async #strip(chamber) {
        const where = { tool: chamber.tool_id, chamber: chamber.chamber_id };
        const [runs, { alarms }] = await Promise.all([
            this.#runs(where),
            get("alarms", { ...where, limit: 1000 }, this.signal),
        ]);
        const groups = new Map(groupByRun(alarms).map((group) => [group.worst.context_id, group]));
        const most = Math.max(1, ...[...groups.values()].map((group) => group.alarms.length));
        const bad = runs.filter((run) => groups.has(run.context_id)).length;
        if (runs.length === 0) return null;
        return h(
            "section",
            { "aria-label": `Last runs of ${chamber.tool_id} ${chamber.chamber_id}` },
            h(
                "h3",
                null,
                `The last ${count(runs.length)} runs of ${chamber.tool_id} ${chamber.chamber_id}: ${count(bad)} with alarms`,
            ),
            h(
                "ol",
                { class: "strip" },
                runs.map((run) => this.#bar(run, groups.get(run.context_id), most)),
            ),
            h(
                "p",
                { class: "help" },
                "One bar a run, the oldest on the left; the higher, the more charts alarmed. Choose one for its trace.",
            ),
        );
    }

    #bar(run, group, most) {
        if (!group) return h("li", { class: "bar" }, h("span", { title: `Run ${run.context_id}: no alarm` }));
        const { worst, alarms } = group;
        const seen = alarms.every((alarm) => alarm.acknowledged);
        const words = `Run ${worst.context_id}, lot ${run.lot || "–"}, wafer ${run.wafer || "–"}: ${worst.severity}, ${many(alarms.length, "chart")}, most ${worst.chart}${seen ? "; acknowledged" : ""}`;
        return h(
            "li",
            { class: "bar", css: { "--high": `${30 + (70 * alarms.length) / most}%` } },
            h(
                "a",
                {
                    href: alarmLink(worst),
                    class: `${worst.severity}${seen ? " seen" : ""}`,
                    title: words,
                    "aria-label": words,
                },
                h("span", { "aria-hidden": "true" }, SHAPES[worst.severity]),
            ),
        );
    }
}
