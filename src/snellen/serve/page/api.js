// The server's API. A key lies in this tab's session storage and travels in a header, never in a cookie or an address.

const slot = "snellen-key";
let signIn = async () => false;

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.hint = error.hint;
    this.requestId = error.request_id;
  }
}

export const hasKey = () => Boolean(sessionStorage.getItem(slot));
export const keepKey = (key) => sessionStorage.setItem(slot, key);
export const forgetKey = () => sessionStorage.removeItem(slot);
export const whenKeyIsNeeded = (ask) => { signIn = ask; };

export async function call(path, { method = "GET", body, key = sessionStorage.getItem(slot), retries = 6 } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let answer;
  try {
    answer = await fetch(path, { method, body, headers, cache: "no-store", credentials: "omit" });
  } catch {
    throw new ApiError(0, { code: "unreachable", message: "The server does not answer.", hint: "Check that it runs.", request_id: "" });
  }
  if (answer.ok) return answer;
  const error = await readError(answer);
  if (error.status === 429 && retries > 0) {
    await new Promise((wake) => setTimeout(wake, 1000 * Number(answer.headers.get("Retry-After") || 1)));
    return call(path, { method, body, key, retries: retries - 1 });
  }
  if (error.status === 401 && arguments[1]?.key === undefined && (await signIn(error))) return call(path, { method, body, retries });
  throw error;
}

async function readError(answer) {
  try {
    return new ApiError(answer.status, (await answer.json()).error);
  } catch {
    return new ApiError(answer.status, { code: "unknown", message: `The server answered ${answer.status}.`, hint: "", request_id: "" });
  }
}

export const getJson = async (path, options) => (await call(path, options)).json();

export function predict(model, file) {
  const form = new FormData();
  form.append("images", file, file.name);
  return getJson(`/v1/models/${encodeURIComponent(model)}/predict`, { method: "POST", body: form });
}

export async function explain(model, file, { view, className, frame }) {
  const form = new FormData();
  form.append("images", file, file.name);
  const query = new URLSearchParams({ view });
  if (className) query.set("class", className);
  if (frame !== null && frame !== undefined) query.set("frame", frame);
  const answer = await call(`/v1/models/${encodeURIComponent(model)}/explain?${query}`, { method: "POST", body: form });
  return { blob: await answer.blob(), method: answer.headers.get("X-Snellen-Method") || "" };
}
