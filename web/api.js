// The HTTP API (docs/api/openapi.yaml).

export class ApiError extends Error {
    constructor(status, detail) {
        super(detail);
        this.status = status;
    }
}

async function read(response) {
    const body = await response.json().catch(() => null);
    if (!response.ok) throw new ApiError(response.status, body?.detail ?? `the server answered ${response.status}`);
    return body;
}

async function ask(path, options) {
    let response;
    try {
        response = await fetch(path, options);
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiError(0, "the server cannot be reached");
    }
    return read(response);
}

function query(parameters) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(parameters ?? {}))
        for (const one of Array.isArray(value) ? value : [value])
            if (one !== null && one !== undefined && one !== "") search.append(name, one);
    const text = search.toString();
    return text ? `?${text}` : "";
}

export const get = (path, parameters, signal) => ask(`/api/v1/${path}${query(parameters)}`, { signal });

export const acknowledge = (alarmId, by, comment) =>
    ask(`/api/v1/alarms/${alarmId}/acknowledge`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Chamberlain-Request": "1" },
        body: JSON.stringify({ by, comment }),
    });

// Links within the dashboard.
export const link = (page, parameters) => `#/${page}${query(parameters)}`;
