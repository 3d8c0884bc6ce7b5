// How much was judged in the last hour, and how long it took.

import { get } from "../api.js";
import { fill, gather, h } from "../dom.js";
import { count, milliseconds, minute } from "../format.js";
import { live } from "../live.js";
import { CountPlot, missing, plots, ProcessPlot } from "../plot.js";

const REFRESH_MS = 5000;

export const title = () => "Throughput – Chamberlain";

const key = (kind, text) => h("li", null, h("span", { class: `line ${kind}`, "aria-hidden": "true" }), text);

export function show(main, parameters, { signal }) {
    const counts = new CountPlot(),
        process = new ProcessPlot();
    const summary = h("dl", { class: "tiles" }),
        body = h("tbody"),
        trouble = h("p", { class: "form-trouble", role: "alert" });
    fill(
        main,
        h("h1", null, "The last hour"),
        summary,
        trouble,
        plots ? null : missing(),
        h(
            "section",
            { class: "card", "aria-label": "Throughput" },
            h("h2", null, "Runs judged a minute"),
            h("ul", { class: "keys" }, key("accent fat", "judged"), key("critical fat", "with an alarm")),
            counts.element,
        ),
        h(
            "section",
            { class: "card", "aria-label": "Process time" },
            h("h2", null, "Process time, from receipt to acknowledgement"),
            h(
                "ul",
                { class: "keys" },
                key("text dotted", "half are faster (p50)"),
                key("accent", "p95"),
                key("critical dashed", "p99"),
            ),
            process.element,
        ),
        h(
            "details",
            { class: "card", open: !plots },
            h("summary", null, "The same in numbers"),
            h(
                "div",
                { class: "scroll", tabindex: "0", role: "region", "aria-label": "Minutes, table" },
                h(
                    "table",
                    null,
                    h(
                        "thead",
                        null,
                        h(
                            "tr",
                            null,
                            ["Minute", "Judged", "Alarmed", "p50", "p95", "p99", "Longest"].map((name) =>
                                h("th", { scope: "col", class: name === "Minute" ? null : "number" }, name),
                            ),
                        ),
                    ),
                    body,
                ),
            ),
        ),
    );

    async function read() {
        try {
            const { minutes } = await get("throughput", null, signal);
            counts.set(minutes);
            process.set(minutes);
            const busy = minutes.filter((one) => one.judged > 0);
            const sum = (name) => minutes.reduce((total, one) => total + one[name], 0);
            const most = (name) => busy.reduce((value, one) => Math.max(value, one[name] ?? 0), 0);
            fill(
                summary,
                [
                    ["Judged", count(sum("judged"))],
                    ["With an alarm", count(sum("alarmed"))],
                    ["Busiest minute", count(most("judged"))],
                    ["Worst minute's p95", busy.length ? milliseconds(most("p95_ms")) : "–"],
                    ["Longest", busy.length ? milliseconds(most("max_ms")) : "–"],
                ].map(([name, value]) => h("div", { class: "tile" }, h("dt", null, name), h("dd", null, value))),
            );
            fill(
                body,
                busy.length
                    ? busy.reverse().map((one) =>
                          h(
                              "tr",
                              null,
                              h("th", { scope: "row" }, minute(one.at)),
                              [
                                  count(one.judged),
                                  count(one.alarmed),
                                  milliseconds(one.p50_ms),
                                  milliseconds(one.p95_ms),
                                  milliseconds(one.p99_ms),
                                  milliseconds(one.max_ms),
                              ].map((text) => h("td", { class: "number" }, text)),
                          ),
                      )
                    : h("tr", null, h("td", { colspan: "7" }, "Nothing was judged since this web server started.")),
            );
            fill(trouble);
        } catch (error) {
            if (!signal.aborted) fill(trouble, error.message);
        }
    }

    const again = gather(read, 200);
    const timer = setInterval(again, REFRESH_MS);
    signal.addEventListener("abort", () => {
        clearInterval(timer);
        again.cancel();
        counts.destroy();
        process.destroy();
    });
    live.begin(read, signal);
}
