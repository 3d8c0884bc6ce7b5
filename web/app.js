// The dashboard: which page is shown, what is shared by all of them, and whether what is shown is live.

import { fill, h } from "./dom.js";
import { count, time } from "./format.js";
import { get, link } from "./api.js";
import { live } from "./live.js";
import * as fab from "./pages/fab.js";

// Each page: {title, show(main, parameters, context)}, where context.signal ends with the page. What `show` returns, if
// anything, is asked first when only the parameters change: true says that it has taken them over.
const PAGES = {
    "": async () => fab,
    chamber: () => import("./pages/chamber.js"),
    alarms: () => import("./pages/alarms.js"),
    defenders: () => import("./pages/defenders.js"),
    throughput: () => import("./pages/throughput.js"),
    search: () => import("./pages/search.js"),
};
const NEWS_KEPT = 200;

const main = document.getElementById("main");
const news = []; // decisions of the cluster since the page was opened, newest first
let shown = { name: null, end: null, take: null };

function where() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    return { name: path in PAGES ? path : "", parameters: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

async function route() {
    const { name, parameters } = where();
    if (name === shown.name && shown.take?.(parameters)) return;
    shown.end?.abort();
    const end = new AbortController();
    const first = shown.name === null;
    shown = { name, end, take: null };
    for (const anchor of document.querySelectorAll("nav a"))
        anchor.toggleAttribute("aria-current", anchor.getAttribute("href") === `#/${name}`);
    document.querySelectorAll("nav a[aria-current]").forEach((anchor) => anchor.setAttribute("aria-current", "page"));
    const page = await PAGES[name]().catch((error) => notLoaded(error, end.signal));
    if (end.signal.aborted || !page) return;
    document.title = page.title(parameters);
    fill(main);
    window.scrollTo(0, 0);
    shown.take = page.show(main, parameters, { signal: end.signal, news }) ?? null;
    if (!first) main.focus({ preventScroll: true });
}

// The server is away: its page is fetched again with the next click, or when live data is back.
function notLoaded(error, signal) {
    if (signal.aborted) return null;
    shown.name = null;
    fill(main, h("p", { class: "note" }, `This page could not be loaded: ${error.message}.`));
    live.on("reset", () => shown.name === null && route(), signal);
    return null;
}

function showLive() {
    const texts = { connecting: "connecting", live: "live", away: `not live since ${time(live.since)}` };
    document.getElementById("live").dataset.state = live.state;
    document.getElementById("live-text").textContent = texts[live.state];
    showTrouble();
}

// What stands over every page while something that it needs is away.
function showTrouble() {
    const status = live.status,
        lines = [];
    if (live.state === "away")
        lines.push(`Live data is away since ${time(live.since)}: what you see may be old. Trying again.`);
    else if (status && !status.nats.connected) lines.push("NATS is away: what you see is what was last known.");
    else if (status && !status.store.available)
        lines.push(
            `The store does not answer: charts and traces are away${status.store.error ? ` (${status.store.error})` : ""}.`,
        );
    const box = document.getElementById("trouble");
    if (box.textContent !== lines.join(""))
        fill(
            box,
            lines.map((line) => h("p", null, line)),
        );
    box.hidden = lines.length === 0;
}

function showStatus(status) {
    const open = status.open_alarms.critical + status.open_alarms.warning + status.open_alarms.info;
    const badge = document.getElementById("nav-alarms");
    badge.hidden = open === 0;
    badge.textContent = open > 999 ? "999+" : count(open);
    badge.setAttribute("aria-label", `${count(open)} open`);
    showTrouble();
}

function remember(item) {
    news.unshift({ at: new Date().toISOString(), ...item });
    news.length = Math.min(news.length, NEWS_KEPT);
    document.dispatchEvent(new CustomEvent("news"));
}

function setUpTheme() {
    const button = document.getElementById("theme");
    const show = (mode) => {
        const texts = { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
        button.textContent = { system: "◐", light: "☀", dark: "☾" }[mode];
        button.setAttribute("aria-label", texts[mode]);
        button.title = texts[mode];
    };
    show(window.chamberlainTheme.get());
    const told = () => document.dispatchEvent(new CustomEvent("theme"));
    button.addEventListener("click", () => {
        show(window.chamberlainTheme.next());
        told();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", told);
}

function setUpSearch() {
    const form = document.getElementById("search"),
        text = document.getElementById("search-text");
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        if (text.value.trim()) location.hash = link("search", { q: text.value.trim() });
    });
    document.addEventListener("keydown", (event) => {
        if (
            event.key === "/" &&
            !event.target.closest("input, textarea, select, dialog") &&
            !event.ctrlKey &&
            !event.metaKey
        ) {
            event.preventDefault();
            text.focus();
        }
    });
}

live.on("state", showLive);
live.on("status", showStatus);
live.on("cluster", (data) => remember({ at: data.at, who: data.id, what: data.what }));
live.on("member", (data) =>
    remember({ who: data.id, what: data.alive ? `is ${data.state}` : `is gone (was ${data.state})` }),
);
live.on("assignment", (data) =>
    remember({
        who: data.leader,
        what: `map ${data.version}: ${count(data.placed)} chambers placed, ${count(data.moved)} moved`,
    }),
);
window.addEventListener("hashchange", route);
setUpTheme();
setUpSearch();
showLive();
live.start();
route();
get("status").then(
    (status) => live.offer(status),
    () => {},
);
