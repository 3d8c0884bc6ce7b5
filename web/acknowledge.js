// The dialogue in which someone says that alarms have been seen.

import { acknowledge } from "./api.js";
import { fill, h } from "./dom.js";
import { many } from "./format.js";

const NAME = "chamberlain.name";
const AT_ONCE = 4;

function recall() {
    try {
        return localStorage.getItem(NAME) ?? "";
    } catch (denied) {
        return "";
    }
}

function keep(name) {
    try {
        localStorage.setItem(NAME, name);
    } catch (denied) {
        // The next time they type it again.
    }
}

async function acknowledgeAll(alarms, by, comment, progress) {
    const waiting = [...alarms];
    let done = 0;
    const work = async () => {
        for (let alarm = waiting.shift(); alarm; alarm = waiting.shift()) {
            await acknowledge(alarm.alarm_id, by, comment);
            progress(++done);
        }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
}

// Asks for a name and a comment; what becomes of it is told by the live events.
export function askToAcknowledge(alarms, subject) {
    const by = h("input", { id: "ack-by", required: true, maxlength: "100", value: recall(), autocomplete: "name" });
    const comment = h("textarea", { id: "ack-comment", maxlength: "1000", rows: "3" });
    const trouble = h("p", { class: "form-trouble", role: "alert" });
    const send = h("button", { type: "submit", class: "primary" }, "Acknowledge");
    const dialog = h(
        "dialog",
        { "aria-labelledby": "ack-title" },
        h(
            "form",
            { onsubmit: submit },
            h("h2", { id: "ack-title" }, `Acknowledge ${many(alarms.length, "alarm")}`),
            h("p", { class: "muted" }, subject),
            h("label", { for: "ack-by" }, "Your name"),
            by,
            h("label", { for: "ack-comment" }, "Comment (what was found, what was done)"),
            comment,
            trouble,
            h(
                "div",
                { class: "buttons" },
                h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
                send,
            ),
        ),
    );
    document.body.append(dialog);
    const leave = () => dialog.close(); // the page behind it is another one then
    window.addEventListener("hashchange", leave);
    dialog.addEventListener("close", () => {
        window.removeEventListener("hashchange", leave);
        dialog.remove();
    });
    dialog.showModal();
    (by.value ? comment : by).focus();

    async function submit(event) {
        event.preventDefault();
        if (!by.value.trim()) return;
        keep(by.value.trim());
        send.disabled = true;
        fill(trouble);
        try {
            await acknowledgeAll(alarms, by.value.trim(), comment.value.trim(), (done) => {
                send.textContent = `${done} of ${alarms.length}`;
            });
            dialog.close();
        } catch (error) {
            fill(trouble, `${error.message}. What was acknowledged before stays so; try again.`);
            send.textContent = "Acknowledge";
            send.disabled = false;
        }
    }
}
