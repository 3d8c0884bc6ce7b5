// Elements without markup in strings: whatever the API says becomes text, never HTML.

export function h(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties ?? {})) {
        if (value === null || value === undefined || value === false) continue;
        if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else if (name === "class") element.className = value;
        else if (name === "data") Object.assign(element.dataset, value);
        else if (name === "css")
            // custom properties; an attribute `style` would be against the content security policy
            for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
        else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(
        ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
    );
    return element;
}

export function fill(element, ...children) {
    element.replaceChildren(
        ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
    );
    return element;
}

// Calls `work` once, at most `pause` ms after the first of many calls.
export function gather(work, pause) {
    let timer = 0;
    const call = () => {
        if (timer === 0)
            timer = setTimeout(() => {
                timer = 0;
                work();
            }, pause);
    };
    call.cancel = () => {
        clearTimeout(timer);
        timer = 0;
    };
    return call;
}

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
