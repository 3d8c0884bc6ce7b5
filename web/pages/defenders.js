// Who is at work, what each owns, and what changes.

import { get, link } from "../api.js";
import { fill, gather, h } from "../dom.js";
import { age, count, many, milliseconds, time } from "../format.js";
import { live } from "../live.js";

const NEWS_SHOWN = 40;
const CHAMBERS_SHOWN = 400; // of one defender
const REFRESH_MS = 5000;
const NUMBERS = new Set(["Owns", "Judged", "Process time p95", "Cache hits"]); // columns

export const title = () => "Defenders – Chamberlain";

function facts(map, mean) {
    const rows = [
        ["Map", map.version],
        ["State", map.lifecycle.toLowerCase().replace("_", " ")],
        ["Leader", map.leader || "none"],
        ["Moved by the last change", `${count(map.moved)} (${count(map.least)} at least)`],
        [
            "Heaviest defender",
            mean ? `${(Math.max(...map.members.map((one) => one.weight)) / mean).toFixed(2)} × mean` : "–",
        ],
        ["Rebalances", count(map.rebalances)],
        ["Emergencies", count(map.emergencies)],
    ];
    return rows.map(([name, value]) => h("div", { class: "tile" }, h("dt", null, name), h("dd", null, value)));
}

function owned(chambers) {
    const tools = new Map();
    const sorted = [...chambers].sort((a, b) =>
        a.tool_id === b.tool_id ? (a.chamber_id < b.chamber_id ? -1 : 1) : a.tool_id < b.tool_id ? -1 : 1,
    );
    for (const one of sorted.slice(0, CHAMBERS_SHOWN)) tools.set(one.tool_id, [...(tools.get(one.tool_id) ?? []), one]);
    return h(
        "div",
        { class: "owned" },
        h(
            "ul",
            null,
            [...tools].map(([tool, list]) =>
                h(
                    "li",
                    null,
                    `${tool} `,
                    list.map((one) => [
                        h("a", { href: link("chamber", { tool, chamber: one.chamber_id }) }, one.chamber_id),
                        " ",
                    ]),
                ),
            ),
        ),
        chambers.length > CHAMBERS_SHOWN
            ? h("p", { class: "muted" }, `and ${count(chambers.length - CHAMBERS_SHOWN)} more`)
            : null,
    );
}

function row(member, share, mean, isOpen, toggle) {
    const id = `owned-${member.id}`;
    const weight = share?.weight ?? 0;
    const behind = share && member.assignment !== undefined && member.assignment < share.assigned;
    return h(
        "tr",
        { class: member.alive ? "" : "gone" },
        h("th", { scope: "row" }, member.id, member.leads ? h("span", { class: "badge leads" }, "leads") : null),
        h(
            "td",
            null,
            member.alive ? member.state.toLowerCase() : `silent for ${age(member.heard_at)}`,
            behind ? h("span", { class: "muted" }, " taking over") : null,
        ),
        h(
            "td",
            { class: "number" },
            share
                ? h(
                      "button",
                      {
                          type: "button",
                          "aria-expanded": String(isOpen),
                          "aria-controls": id,
                          disabled: !share.count,
                          onclick: () => toggle(member.id),
                      },
                      many(share.count, "chamber"),
                  )
                : "–",
        ),
        h(
            "td",
            null,
            h("span", {
                class: "weight",
                "aria-hidden": "true",
                css: { "--part": `${mean ? Math.min(100, (50 * weight) / mean) : 0}%` },
            }),
            h("span", { class: "number" }, mean ? ` ${(weight / mean).toFixed(2)} × mean` : "–"),
        ),
        h("td", { class: "number" }, count(member.counts?.judged)),
        h("td", { class: "number" }, member.steps?.total?.count ? milliseconds(member.steps.total.p95_ms) : "–"),
        h(
            "td",
            { class: "number" },
            member.cache?.hit_rate == null ? "–" : `${(100 * member.cache.hit_rate).toFixed(1)} %`,
        ),
        h("td", null, member.version),
    );
}

export function show(main, parameters, { signal, news }) {
    let members = [],
        map = null,
        open = null;
    const head = h("dl", { class: "tiles" }),
        body = h("tbody"),
        trouble = h("p", { class: "form-trouble", role: "alert" });
    const log = h("ol", { class: "news" }),
        details = h("div", { id: "owned-detail" });
    const columns = ["Defender", "State", "Owns", "Weight", "Judged", "Process time p95", "Cache hits", "Version"];
    fill(
        main,
        h("h1", null, "Defenders"),
        head,
        trouble,
        h(
            "section",
            { class: "card", "aria-label": "Members" },
            h(
                "div",
                { class: "scroll", tabindex: "0", role: "region", "aria-label": "Members, table" },
                h(
                    "table",
                    null,
                    h(
                        "thead",
                        null,
                        h(
                            "tr",
                            null,
                            columns.map((name) =>
                                h("th", { scope: "col", class: NUMBERS.has(name) ? "number" : null }, name),
                            ),
                        ),
                    ),
                    body,
                ),
            ),
            details,
        ),
        h(
            "section",
            { class: "card", "aria-label": "Changes" },
            h("h2", null, "Changes since this page was opened"),
            log,
        ),
    );

    const mean = () =>
        map?.members.length ? map.members.reduce((sum, one) => sum + one.weight, 0) / map.members.length : 0;

    function showAll() {
        if (!map) return;
        const focused = document.activeElement?.getAttribute("aria-controls");
        const shares = new Map(map.members.map((share) => [share.id, share]));
        fill(head, facts(map, mean()));
        fill(
            body,
            members.map((member) => row(member, shares.get(member.id), mean(), open === member.id, toggle)),
        );
        if (focused) body.querySelector(`[aria-controls="${CSS.escape(focused)}"]`)?.focus();
    }

    async function toggle(id) {
        open = open === id ? null : id;
        showAll();
        fill(details);
        if (!open) return;
        try {
            const shares = await get("assignments", { chambers: true }, signal);
            const share = shares.members.find((one) => one.id === id);
            if (open === id && share)
                fill(
                    details,
                    h(
                        "section",
                        { id: `owned-${id}`, "aria-label": `Chambers of ${id}` },
                        h("h2", null, `${id} owns ${many(share.count, "chamber")}`),
                        owned(share.chambers ?? []),
                    ),
                );
        } catch (error) {
            if (!signal.aborted) fill(details, h("p", { class: "form-trouble" }, error.message));
        }
    }

    async function read() {
        try {
            [{ members }, map] = await Promise.all([get("members", null, signal), get("assignments", null, signal)]);
            fill(trouble);
            showAll();
        } catch (error) {
            if (!signal.aborted) fill(trouble, error.message);
        }
    }

    function showNews() {
        fill(
            log,
            news.length
                ? news
                      .slice(0, NEWS_SHOWN)
                      .map((item) =>
                          h(
                              "li",
                              null,
                              h("time", { datetime: item.at }, time(item.at)),
                              " ",
                              item.who && !item.what.startsWith(item.who) ? h("strong", null, `${item.who} `) : null,
                              item.what,
                          ),
                      )
                : h(
                      "li",
                      { class: "muted" },
                      "Nothing yet. Rebalances, elections and defenders that come or go appear here as they happen.",
                  ),
        );
    }

    const again = gather(read, 200);
    for (const name of ["member", "assignment"]) live.on(name, again, signal);
    live.on(
        "assignment",
        () => {
            if (open) {
                const id = open;
                open = null;
                toggle(id);
            }
        },
        signal,
    );
    document.addEventListener("news", showNews, { signal });
    const timer = setInterval(again, REFRESH_MS);
    signal.addEventListener("abort", () => {
        clearInterval(timer);
        again.cancel();
    });
    showNews();
    live.begin(read, signal);
}
