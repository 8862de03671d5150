// What the server recorded: a table with filters, page by page, and the whole as CSV.

import { call, getJson } from "./api.js";
import { download, el, find, percent, stamp } from "./dom.js";
import { state } from "./state.js";

let next = null;

function query(more = {}) {
  const form = new FormData(find("history-filter"));
  const wanted = new URLSearchParams();
  for (const [name, value] of form) {
    if (!value) continue;
    if (name === "since") wanted.set(name, new Date(`${value}T00:00:00`).toISOString());
    else if (name === "until") wanted.set(name, new Date(new Date(`${value}T00:00:00`).getTime() + 864e5).toISOString());
    else wanted.set(name, value.trim());
  }
  for (const [name, value] of Object.entries(more)) wanted.set(name, value);
  return wanted;
}

function line(row) {
  const probability = row.probabilities[row.decision];
  const word = row.error ? "not read" : row.abstain ? "abstained" : row.decision;
  const kind = row.error ? "error" : row.abstain ? "abstain" : "plain";
  return el("tr", {},
    el("td", { class: "number" }, el("time", { dateTime: row.time }, stamp(row.time))),
    el("td", {}, row.model),
    el("td", {}, el("span", { class: `badge ${kind}` }, word)),
    el("td", { class: "number" }, probability === undefined ? "" : percent(probability)),
    el("td", {}, row.error ?? row.reason),
    el("td", { class: "number" }, `${Math.round(row.latency_ms)} ms`),
    el("td", {}, row.key_id ?? "–"),
    el("td", {}, el("code", { title: row.request_id }, row.request_id)),
    el("td", {}, el("code", { title: row.image_sha256 }, row.image_sha256.slice(0, 10))));
}

const heads = ["Time (here)", "Model", "Decision", "Probability", "Reason or error", "Latency", "Key", "Request", "Picture sha256"];

export async function showHistory(older = false) {
  const box = find("history-table");
  find("history-decisions").replaceChildren(...[...new Set(state.models.flatMap((model) => model.classes))].map((name) => el("option", { value: name })));
  try {
    const page = await getJson(`/v1/predictions?${query(older && next ? { before: next, limit: 50 } : { limit: 50 })}`);
    next = page.next_before;
    if (!older || !box.querySelector("tbody")) {
      box.replaceChildren(page.predictions.length
        ? el("table", {}, el("thead", {}, el("tr", {}, heads.map((name) => el("th", { scope: "col" }, name)))), el("tbody"))
        : el("p", { class: "empty-line quiet" }, "Nothing is recorded that fits."));
    }
    box.querySelector("tbody")?.append(...page.predictions.map(line));
    find("history-more").hidden = next === null;
  } catch (error) {
    box.replaceChildren(el("p", { class: "empty-line" }, error.code === "role_missing" ? "This key may predict, but not read the history: that needs the role read." : error.message));
    find("history-more").hidden = true;
  }
}

export function startHistory() {
  find("history-filter").addEventListener("submit", (event) => { event.preventDefault(); showHistory(); });
  find("history-more").addEventListener("click", () => showHistory(true));
  find("history-csv").addEventListener("click", async () => {
    try {
      download(await (await call(`/v1/predictions?${query({ format: "csv" })}`)).blob(), "predictions.csv");
    } catch (error) {
      state.tell(error);
    }
  });
}
