// What a text is found in: tools and chambers at once, lots, wafers and runs from the store.

import { get, link } from "../api.js";
import { fill, h } from "../dom.js";
import { age, count, dateTime, many } from "../format.js";
import { badge } from "../severity.js";

const CHAMBERS_SHOWN = 60;
const RUNS_PAGE = 100;
const PAGES_AT_ONCE = 5; // a page may be short while there is more

export const title = ({ q }) => `${q ?? "Search"} – Chamberlain`;

function chamberItem(chamber) {
    return h(
        "li",
        null,
        h(
            "a",
            { href: link("chamber", { tool: chamber.tool_id, chamber: chamber.chamber_id }) },
            `${chamber.tool_id} ${chamber.chamber_id}`,
        ),
        " ",
        badge(chamber.severity, chamber.severity === "none" ? "normal" : `${chamber.severity}, ${age(chamber.since)}`),
    );
}

function runRow(run) {
    return h(
        "tr",
        null,
        h(
            "th",
            { scope: "row" },
            h(
                "a",
                {
                    href: link("chamber", {
                        tool: run.tool_id,
                        chamber: run.chamber_id,
                        recipe: run.recipe,
                        context: run.context_id,
                    }),
                },
                run.context_id,
            ),
        ),
        [
            `${run.tool_id} ${run.chamber_id}`,
            run.recipe,
            run.lot || "–",
            run.wafer || "–",
            dateTime(run.ended_at),
            run.state + (run.dead_reason ? `: ${run.dead_reason}` : ""),
        ].map((text) => h("td", null, text)),
    );
}

export function show(main, parameters, { signal }) {
    const text = (parameters.q ?? "").trim();
    document.getElementById("search-text").value = text;
    const chambers = h("ul", { class: "found" }),
        chambersNote = h("p", { class: "muted", role: "status" }, "Looking …");
    const body = h("tbody"),
        runsNote = h("p", { class: "muted", role: "status" }, "Looking …");
    const more = h("button", { type: "button", hidden: true, onclick: () => readRuns() }, "More runs");
    let cursor = null,
        found = 0;
    fill(
        main,
        h("h1", null, text ? `Search: ${text}` : "Search"),
        text ? null : h("p", null, "Type a part of a tool, chamber, lot, wafer or run into the box above."),
        text
            ? [
                  h(
                      "section",
                      { class: "card", "aria-label": "Chambers" },
                      h("h2", null, "Chambers"),
                      chambersNote,
                      chambers,
                  ),
                  h(
                      "section",
                      { class: "card", "aria-label": "Runs" },
                      h("h2", null, "Runs"),
                      runsNote,
                      h(
                          "div",
                          { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs, table" },
                          h(
                              "table",
                              null,
                              h(
                                  "thead",
                                  null,
                                  h(
                                      "tr",
                                      null,
                                      ["Run", "Chamber", "Recipe", "Lot", "Wafer", "Ended", "State"].map((name) =>
                                          h("th", { scope: "col" }, name),
                                      ),
                                  ),
                              ),
                              body,
                          ),
                      ),
                      more,
                  ),
              ]
            : null,
    );
    if (!text) return;

    async function readChambers() {
        try {
            const low = text.toLowerCase();
            const all = (await get("chambers", null, signal)).chambers.filter(
                (one) =>
                    `${one.tool_id} ${one.chamber_id}`.toLowerCase().includes(low) ||
                    `${one.tool_id}:${one.chamber_id}`.toLowerCase().includes(low),
            );
            fill(chambers, all.slice(0, CHAMBERS_SHOWN).map(chamberItem));
            fill(
                chambersNote,
                all.length > CHAMBERS_SHOWN
                    ? `${count(all.length)} chambers; the first ${CHAMBERS_SHOWN}.`
                    : many(all.length, "chamber"),
            );
        } catch (error) {
            if (!signal.aborted) fill(chambersNote, error.message);
        }
    }

    async function readRuns() {
        more.disabled = true;
        try {
            for (let pages = 0, before = found; pages < PAGES_AT_ONCE && found === before; pages++) {
                const page = await get("contexts", { search: text, limit: RUNS_PAGE, cursor }, signal);
                body.append(...page.contexts.map(runRow));
                found += page.contexts.length;
                cursor = page.next;
                if (!cursor) break;
            }
            fill(
                runsNote,
                found === 0 && !cursor
                    ? "No run."
                    : `${many(found, "run")}${cursor ? " so far" : ""}, the oldest first.`,
            );
        } catch (error) {
            if (!signal.aborted) fill(runsNote, error.message);
        }
        more.disabled = false;
        more.hidden = !cursor;
    }

    readChambers();
    readRuns();
}
