// The heat map: a canvas with one cell for each chamber. Tools stand side by side, their chambers below each other; what
// does not fit into a line goes on in the next one. Drawn whole in a few milliseconds with 4,000 chambers.
//
// The keyboard walks over it, and what is current is told in words, so that nobody needs to see it.

import { h } from "./dom.js";
import { age, count, many } from "./format.js";
import { ageStep, drawShape, palette, SHAPES } from "./severity.js";

const GAP = 2;
const LABEL = 15; // height of the line of tool names above a band
const GUTTER = 44; // left: names of chambers
const SIZES = [
    // by the number of tools
    { tools: 12, wide: 150, high: 84 },
    { tools: 40, wide: 64, high: 40 },
    { tools: 150, wide: 30, high: 26 },
    { tools: 700, wide: 16, high: 16 },
    { tools: Infinity, wide: 10, high: 10 },
];
const CANVAS_MOST = 16000; // pixels: browsers draw nothing on a canvas that is higher
const REDRAW_MS = 30000; // ages go on without news

export class HeatMap {
    #chambers = [];
    #tools = []; // {name, chambers: [...]}
    #places = new Map(); // chamber's key: [tool, row]
    #current = null; // [tool, row]
    #size = SIZES[0];
    #rows = 1;
    #perBand = 1;
    #scale = 1;
    #pending = false;
    #timer = 0;

    // open(chamber) is called for a click and for Enter.
    constructor(open) {
        this.open = open;
        this.canvas = h("canvas", { "aria-hidden": "true" });
        this.tip = h("div", { class: "tip", hidden: true });
        this.frame = h(
            "div",
            {
                class: "heat",
                role: "application",
                tabindex: "0",
                "aria-label": "Heat map of the chambers",
                "aria-roledescription": "heat map",
                "aria-describedby": "heat-help",
            },
            this.canvas,
            this.tip,
        );
        this.words = h("p", { class: "heat-words", role: "status" }, "No chamber chosen.");
        this.opener = h("button", { type: "button", hidden: true, onclick: () => this.#openCurrent() }, "Open");
        this.element = h(
            "div",
            null,
            this.frame,
            h("div", { class: "heat-foot" }, this.words, this.opener),
            h(
                "p",
                { id: "heat-help", class: "help" },
                "Arrow keys move, Enter opens, N goes to the next chamber with an open alarm.",
            ),
        );
        this.frame.addEventListener("keydown", (event) => this.#key(event));
        this.frame.addEventListener("focus", () => {
            this.#current ??= this.#tools.length ? [0, 0] : null;
            this.#choose(this.#current);
        });
        this.frame.addEventListener("blur", () => this.#draw());
        this.canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.#hover(event));
        this.canvas.addEventListener("pointerleave", () => {
            this.tip.hidden = true;
        });
        this.canvas.addEventListener("click", (event) => this.#click(event));
        this.observer = new ResizeObserver(() => this.#layout());
        this.observer.observe(this.frame);
        this.#timer = setInterval(() => this.#draw(), REDRAW_MS);
    }

    destroy() {
        this.observer.disconnect();
        clearInterval(this.#timer);
    }

    // All chambers, ordered by tool, then chamber.
    set(chambers) {
        const key = this.#current && this.#key_of(this.#at(...this.#current));
        this.#chambers = chambers;
        this.#tools = [];
        this.#places.clear();
        for (const chamber of chambers) {
            if (this.#tools.at(-1)?.name !== chamber.tool_id) this.#tools.push({ name: chamber.tool_id, chambers: [] });
            const tool = this.#tools.at(-1);
            this.#places.set(this.#key_of(chamber), [this.#tools.length - 1, tool.chambers.length]);
            tool.chambers.push(chamber);
        }
        this.#rows = this.#tools.reduce((most, tool) => Math.max(most, tool.chambers.length), 1);
        this.#current = key ? (this.#places.get(key) ?? null) : null;
        this.#layout();
    }

    // Chambers that changed; false when one of them is new, and all must be set again.
    update(chambers) {
        const places = chambers.map((chamber) => this.#places.get(this.#key_of(chamber)));
        if (places.includes(undefined)) return false;
        places.forEach(([tool, row], i) => {
            this.#tools[tool].chambers[row] = chambers[i];
        });
        this.redraw();
        return true;
    }

    redraw() {
        if (this.#pending) return;
        this.#pending = true;
        requestAnimationFrame(() => {
            this.#pending = false;
            this.#draw();
            this.#say();
        });
    }

    #key_of(chamber) {
        return chamber && `${chamber.tool_id}\n${chamber.chamber_id}`;
    }

    #at(tool, row) {
        return this.#tools[tool]?.chambers[row] ?? null;
    }

    #layout() {
        const width = this.frame.clientWidth;
        if (width === 0) return;
        this.#size = { ...SIZES.find((size) => this.#tools.length <= size.tools) };
        this.#size.wide = Math.min(this.#size.wide, Math.max(10, width - GUTTER - 2 * GAP));
        this.#perBand = Math.max(1, Math.floor((width - GUTTER) / (this.#size.wide + GAP)));
        const bands = Math.ceil(this.#tools.length / this.#perBand);
        const height = Math.max(1, bands) * this.#bandHeight();
        const scale = (this.#scale = Math.min(window.devicePixelRatio || 1, CANVAS_MOST / height));
        this.canvas.width = Math.round(width * scale);
        this.canvas.height = Math.round(height * scale);
        this.canvas.style.setProperty("width", `${width}px`);
        this.canvas.style.setProperty("height", `${height}px`);
        this.#draw();
        this.#say();
    }

    #bandHeight() {
        return LABEL + this.#rows * (this.#size.high + GAP) + 8;
    }

    #place(tool, row) {
        return [
            GUTTER + (tool % this.#perBand) * (this.#size.wide + GAP),
            Math.floor(tool / this.#perBand) * this.#bandHeight() + LABEL + row * (this.#size.high + GAP),
        ];
    }

    #draw() {
        const context = this.canvas.getContext("2d");
        const scale = this.#scale;
        const colours = palette();
        context.setTransform(scale, 0, 0, scale, 0, 0);
        context.clearRect(0, 0, this.canvas.width, this.canvas.height);
        this.#drawLabels(context, colours);
        const now = Date.now();
        for (let tool = 0; tool < this.#tools.length; tool++)
            for (let row = 0; row < this.#tools[tool].chambers.length; row++)
                this.#drawCell(context, colours, tool, row, now);
        if (this.#current) {
            const [x, y] = this.#place(...this.#current);
            context.strokeStyle = document.activeElement === this.frame ? colours.focus : colours.muted;
            context.lineWidth = 2;
            context.strokeRect(x - 1.5, y - 1.5, this.#size.wide + 3, this.#size.high + 3);
        }
    }

    // Above each band the tools at its ends (each tool where there is room), on the left the chambers' names.
    #drawLabels(context, colours) {
        context.fillStyle = colours.muted;
        context.font = "11px system-ui, sans-serif";
        context.textBaseline = "middle";
        const each = this.#size.wide >= 60;
        for (let first = 0; first < this.#tools.length; first += this.#perBand) {
            const last = Math.min(first + this.#perBand, this.#tools.length) - 1;
            const [x, y] = this.#place(first, 0);
            if (each)
                for (let tool = first; tool <= last; tool++)
                    context.fillText(
                        this.#fit(context, this.#tools[tool].name, this.#size.wide),
                        this.#place(tool, 0)[0],
                        y - 8,
                    );
            else
                context.fillText(
                    first === last ? this.#tools[first].name : `${this.#tools[first].name} … ${this.#tools[last].name}`,
                    x,
                    y - 8,
                );
            if (this.#size.high < 10) continue;
            for (let row = 0; row < this.#rows; row++) {
                const names = new Set();
                for (let tool = first; tool <= last; tool++)
                    if (this.#at(tool, row)) names.add(this.#at(tool, row).chamber_id);
                if (names.size === 1)
                    context.fillText(
                        this.#fit(context, [...names][0], GUTTER - 6),
                        0,
                        this.#place(first, row)[1] + this.#size.high / 2,
                    );
            }
        }
    }

    #fit(context, text, width) {
        if (context.measureText(text).width <= width) return text;
        let length = text.length;
        while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length--;
        return `${text.slice(0, length)}…`;
    }

    #drawCell(context, colours, tool, row, now) {
        const chamber = this.#at(tool, row);
        const { wide, high } = this.#size;
        const [x, y] = this.#place(tool, row);
        const open = chamber.severity !== "none";
        if (!open && !chamber.last) {
            context.strokeStyle = colours.unknown;
            context.lineWidth = 1;
            context.strokeRect(x + 0.5, y + 0.5, wide - 1, high - 1);
        } else {
            const step = open ? ageStep(now - Date.parse(chamber.since)) : 0;
            context.fillStyle = open ? colours.fills[chamber.severity][step] : colours.normal;
            context.fillRect(x, y, wide, high);
            if (open) {
                // On the paler steps the mark takes the text's colour: it must be seen on them too.
                context.fillStyle = context.strokeStyle = step < 2 ? colours.marks[chamber.severity] : colours.text;
                if (wide < 60)
                    drawShape(context, chamber.severity, x + wide / 2, y + high / 2, Math.min(wide, high) * 0.6);
                else drawShape(context, chamber.severity, x + wide - 16, y + 15, 14);
            }
        }
        if (wide >= 60) this.#drawText(context, colours, chamber, x, y, now);
    }

    #drawText(context, colours, chamber, x, y, now) {
        const { wide, high } = this.#size;
        const open = chamber.severity !== "none";
        const strong = open && ageStep(now - Date.parse(chamber.since)) < 2;
        context.fillStyle = strong ? colours.marks[chamber.severity] : colours.text;
        context.font = "600 13px system-ui, sans-serif";
        context.fillText(this.#fit(context, chamber.chamber_id, wide - 34), x + 8, y + 15);
        context.font = "12px system-ui, sans-serif";
        if (high < 80)
            context.fillText(
                this.#fit(context, open ? `${count(chamber.open)} open` : chamber.last ? "normal" : "–", wide - 12),
                x + 8,
                y + 31,
            );
        else {
            const lines = open
                ? [`${chamber.severity}, ${age(chamber.since, now)}`, many(chamber.open, "open alarm")]
                : [chamber.last ? "normal" : "nothing judged", chamber.last ? "" : "yet"];
            lines.forEach((line, i) => context.fillText(this.#fit(context, line, wide - 12), x + 8, y + 44 + 20 * i));
        }
    }

    #find(event) {
        const box = this.canvas.getBoundingClientRect();
        const x = event.clientX - box.left,
            y = event.clientY - box.top;
        const column = Math.floor((x - GUTTER) / (this.#size.wide + GAP));
        const band = Math.floor(y / this.#bandHeight());
        const row = Math.floor((y - band * this.#bandHeight() - LABEL) / (this.#size.high + GAP));
        const tool = band * this.#perBand + column;
        return column >= 0 && column < this.#perBand && row >= 0 && this.#at(tool, row) ? [tool, row] : null;
    }

    #hover(event) {
        const place = this.#find(event);
        this.tip.hidden = !place;
        this.canvas.style.setProperty("cursor", place ? "pointer" : "default");
        if (!place) return;
        this.tip.textContent = this.#describe(this.#at(...place));
        const [x, y] = this.#place(...place);
        const left = Math.min(x, this.frame.clientWidth - this.tip.offsetWidth - 4);
        this.tip.style.setProperty("left", `${Math.max(0, left)}px`);
        this.tip.style.setProperty("top", `${y + this.#size.high + 4}px`);
    }

    // A mouse opens at once. A finger chooses first: cells are smaller than it.
    #click(event) {
        const place = this.#find(event);
        if (!place) return;
        const again = this.#current?.[0] === place[0] && this.#current?.[1] === place[1];
        this.#choose(place);
        if (event.pointerType !== "touch" || again || this.#size.wide >= 60) this.#openCurrent();
    }

    #openCurrent() {
        const chamber = this.#current && this.#at(...this.#current);
        if (chamber) this.open(chamber);
    }

    #key(event) {
        if (event.ctrlKey || event.metaKey || event.altKey || !this.#tools.length) return;
        const [tool, row] = this.#current ?? [0, 0];
        const last = this.#tools.length - 1;
        const moves = {
            ArrowLeft: () => [tool - 1, row],
            ArrowRight: () => [tool + 1, row],
            ArrowDown: () => (this.#at(tool, row + 1) ? [tool, row + 1] : [tool + this.#perBand, 0]),
            ArrowUp: () => (row > 0 ? [tool, row - 1] : [tool - this.#perBand, this.#rows - 1]),
            Home: () => [0, 0],
            End: () => [last, row],
            n: () => this.#nextOpen(tool, row),
            N: () => this.#nextOpen(tool, row),
        };
        if (event.key === "Enter" || event.key === " ") this.#openCurrent();
        else if (!moves[event.key]) return;
        else this.#choose(moves[event.key]());
        event.preventDefault();
    }

    #nextOpen(tool, row) {
        const all = this.#tools.flatMap((one, t) => one.chambers.map((chamber, r) => [t, r, chamber]));
        const here = all.findIndex(([t, r]) => t === tool && r === row);
        const next = [...all.slice(here + 1), ...all.slice(0, here + 1)].find(
            ([, , chamber]) => chamber.severity !== "none",
        );
        return next ? next.slice(0, 2) : [tool, row];
    }

    #choose(place) {
        if (place && this.#tools[place[0]])
            this.#current = [place[0], Math.min(place[1], this.#tools[place[0]].chambers.length - 1)];
        this.#draw();
        this.#say();
        if (this.#current && document.activeElement === this.frame) {
            const [, y] = this.#place(...this.#current);
            const top = this.canvas.getBoundingClientRect().top + y;
            if (top < 60 || top + this.#size.high > innerHeight - 10) window.scrollBy({ top: top - innerHeight / 2 });
        }
    }

    #say() {
        const chamber = this.#current && this.#at(...this.#current);
        this.opener.hidden = !chamber;
        this.words.textContent = chamber ? this.#describe(chamber) : "No chamber chosen.";
    }

    #describe(chamber) {
        const name = `${chamber.tool_id} ${chamber.chamber_id}`;
        const owner = chamber.owner ? ` Owned by ${chamber.owner}.` : " Nobody owns it.";
        if (chamber.severity !== "none")
            return `${name}: ${SHAPES[chamber.severity]} ${chamber.severity}, open for ${age(chamber.since)}, ${many(chamber.open, "open alarm")}.${owner}`;
        return `${name}: ${chamber.last ? `normal; last judged ${age(chamber.last.judged_at)} ago` : "nothing judged yet"}.${owner}`;
    }
}

export function legend() {
    const cell = (severity, step, text) =>
        h(
            "li",
            null,
            h(
                "span",
                { class: `swatch ${severity} age-${step}`, "aria-hidden": "true" },
                severity in SHAPES && severity !== "none" ? SHAPES[severity] : "",
            ),
            text,
        );
    return h(
        "div",
        { class: "legend" },
        h(
            "ul",
            { "aria-label": "Worst open verdict" },
            ["critical", "warning", "info"].map((severity) => cell(severity, 0, severity)),
            cell("normal", 0, "normal"),
            cell("unknown", 0, "nothing judged"),
        ),
        h(
            "ul",
            { "aria-label": "How long it has been open" },
            h("li", { class: "legend-head" }, "Open for"),
            ["under 1 h", "1 to 8 h", "8 to 24 h", "longer"].map((text, step) => cell("warning", step, text)),
        ),
    );
}
