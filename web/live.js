// What changes, as it changes: server-sent events, told on as events of the same name. `state` tells whether they come.
//
// The browser reconnects by itself after a cut, and asks for what it missed. What it does not notice, or gives up on (a
// machine that vanished, an answer that is no stream), is noticed here by the silence: a status comes every 5 s.

const EVENTS = ["reset", "chambers", "alarm", "acknowledged", "cluster", "assignment", "member", "status"];
const SILENCE_MS = 15000;
const RETRY_MS = 2000;
const FIRST_WAIT_MS = 400; // what is shown must not wait for ever for a stream

class Live extends EventTarget {
    #source = null;
    #heard = 0;
    #retry = 0;
    state = "connecting"; // "live", "away"
    since = Date.now(); // of the state
    status = null; // the newest

    start() {
        this.#open();
        setInterval(() => {
            if (this.#source && Date.now() - this.#heard > SILENCE_MS) this.#again();
        }, 1000);
        document.addEventListener("visibilitychange", () => {
            if (!document.hidden && this.state === "away") this.#again();
        });
        window.addEventListener("pagehide", () => this.#source?.close());
        window.addEventListener("pageshow", (event) => event.persisted && this.#again());
    }

    on(name, listen, signal) {
        this.addEventListener(name, (event) => listen(event.detail), { signal });
    }

    // Calls `read` now, and whenever everything must be fetched anew. At the very beginning it waits for the stream, so that
    // nothing is read twice and nothing happens unseen between reading and listening.
    begin(read, signal) {
        let timer = this.state === "live" ? 0 : setTimeout(read, FIRST_WAIT_MS);
        this.on(
            "reset",
            () => {
                clearTimeout(timer);
                timer = 0;
                read();
            },
            signal,
        );
        signal.addEventListener("abort", () => clearTimeout(timer));
        if (timer === 0) read();
    }

    // A status that was asked for, until the stream brings newer ones.
    offer(status) {
        if (!this.status) {
            this.status = status;
            this.dispatchEvent(new CustomEvent("status", { detail: status }));
        }
    }

    #open() {
        this.#heard = Date.now();
        this.#source = new EventSource("/api/v1/events");
        for (const name of EVENTS)
            this.#source.addEventListener(name, (event) => this.#hear(name, JSON.parse(event.data)));
        this.#source.onerror = () => {
            this.#become("away");
            if (this.#source?.readyState === EventSource.CLOSED) this.#again();
        };
    }

    #again() {
        this.#become("away");
        this.#source?.close();
        this.#source = null;
        clearTimeout(this.#retry);
        this.#retry = setTimeout(() => this.#open(), RETRY_MS);
    }

    #hear(name, data) {
        this.#heard = Date.now();
        this.#become("live");
        if (name === "status") this.status = data;
        this.dispatchEvent(new CustomEvent(name, { detail: data }));
    }

    #become(state) {
        if (state === this.state) return;
        this.state = state;
        this.since = Date.now();
        this.dispatchEvent(new CustomEvent("state", { detail: state }));
    }
}

export const live = new Live();
