// How bad something is: a colour, and always a shape and a word beside it. The colours are told apart with any common
// colour blindness (orange-red, amber and blue of different lightness); the shapes without any colour.

import { css, h } from "./dom.js";

export const ORDER = { none: 0, info: 1, warning: 2, critical: 3 };
export const SHAPES = { critical: "✕", warning: "▲", info: "●", none: "○" };
export const AGES = [
    // how long the worst verdict has been open: the older, the paler
    { below: 3600e3, strength: 1, text: "under 1 h" },
    { below: 8 * 3600e3, strength: 0.75, text: "1 to 8 h" },
    { below: 24 * 3600e3, strength: 0.55, text: "8 to 24 h" },
    { below: Infinity, strength: 0.38, text: "longer" },
];

export const ageStep = (ms) => AGES.findIndex((step) => ms < step.below);

export const badge = (severity, text) =>
    h(
        "span",
        { class: `badge ${severity}` },
        h("span", { "aria-hidden": "true", class: "shape" }, SHAPES[severity]),
        text ?? severity,
    );

function channels(colour) {
    const digits = colour.replace("#", "");
    return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

function mix(colour, ground, strength) {
    const from = channels(ground),
        to = channels(colour);
    return `rgb(${to.map((value, i) => Math.round(from[i] + (value - from[i]) * strength)).join(",")})`;
}

// The colours of the theme that is in force: for canvases, which know no style sheet.
export function palette() {
    const ground = css("--surface");
    const fills = {};
    for (const severity of ["critical", "warning", "info"])
        fills[severity] = AGES.map((step) => mix(css(`--${severity}`), ground, step.strength));
    return {
        fills,
        ground,
        normal: css("--normal"),
        unknown: css("--unknown"),
        text: css("--text"),
        muted: css("--muted"),
        focus: css("--focus"),
        line: css("--line"),
        accent: css("--accent"),
        band: css("--band"),
        critical: css("--critical"),
        warning: css("--warning"),
        info: css("--info"),
        marks: { critical: css("--on-critical"), warning: css("--on-warning"), info: css("--on-info") },
    };
}

// Draws the shape of a severity around (x, y), `size` across.
export function drawShape(context, severity, x, y, size) {
    const r = size / 2;
    context.beginPath();
    if (severity === "critical") {
        context.lineWidth = Math.max(1.5, size / 4);
        context.moveTo(x - r, y - r);
        context.lineTo(x + r, y + r);
        context.moveTo(x + r, y - r);
        context.lineTo(x - r, y + r);
        context.stroke();
    } else if (severity === "warning") {
        context.moveTo(x, y - r);
        context.lineTo(x + r, y + r * 0.85);
        context.lineTo(x - r, y + r * 0.85);
        context.closePath();
        context.fill();
    } else {
        context.arc(x, y, r * 0.8, 0, 2 * Math.PI);
        context.fill();
    }
}
