// Jobs: sent here, worked on by the server, looked at every two seconds while one is open.

import { call, getJson } from "./api.js";
import { download, el, find, speak, stamp } from "./dom.js";
import { modelsAreKnown, state } from "./state.js";

const open = ["queued", "running"];
let timer = null;

export async function sendJob(files) {
  await modelsAreKnown;
  const form = new FormData();
  for (const file of files) form.append("images", file, file.name);
  location.hash = "#jobs";
  speak("The job is being sent");
  find("job-list").prepend(el("p", { class: "card quiet sending" }, `Sending ${files.length} file${files.length > 1 ? "s" : ""} …`));
  try {
    await call(`/v1/jobs?model=${encodeURIComponent(state.model.name)}`, { method: "POST", body: form });
    speak("The job has begun");
  } catch (error) {
    state.tell(error);
  }
  find("job-list").querySelector(".sending")?.remove();
  showJobs();
}

async function act(work) {
  try {
    await work();
  } catch (error) {
    state.tell(error);
  }
  showJobs();
}

function card(job) {
  const path = `/v1/jobs/${encodeURIComponent(job.job_id)}`;
  const share = job.n_total ? job.n_done / job.n_total : 0;
  const told = job.n_total ? `${job.n_done} of ${job.n_total} pictures${job.n_failed ? `, ${job.n_failed} not read` : ""}` : "arriving";
  const kind = { done: "negative", failed: "error", cancelled: "plain" }[job.state] ?? "waiting";
  const bar = el("progress", { max: 1, value: share, "aria-label": `Progress of job ${job.job_id}` });
  return el("article", { class: "card job" },
    el("div", { class: "job-head" }, el("h2", {}, el("code", {}, job.job_id)), el("span", { class: `badge ${kind}` }, job.state)),
    el("p", { class: "quiet" }, `${job.model} · ${stamp(job.created)} · ${told}`),
    bar,
    job.message ? el("p", { class: job.state === "done" ? "notice" : "field-error" }, job.message) : null,
    el("div", { class: "job-tools" },
      el("button", { type: "button", class: "small", disabled: !job.n_done, onclick: () => act(async () => download(await (await call(`${path}/results?format=csv`)).blob(), `job-${job.job_id}.csv`)) }, "Results as CSV"),
      open.includes(job.state)
        ? el("button", { type: "button", class: "plain small", onclick: () => act(() => call(`${path}/cancel`, { method: "POST" })) }, "Cancel")
        : el("button", { type: "button", class: "plain small", onclick: () => act(() => call(path, { method: "DELETE" })) }, "Delete")));
}

export async function showJobs() {
  clearTimeout(timer);
  const box = find("job-list");
  try {
    const { jobs } = await getJson("/v1/jobs");
    const focused = document.activeElement?.closest(".job")?.querySelector("code")?.textContent;
    const which = document.activeElement?.textContent;
    box.replaceChildren(...(jobs.length ? jobs.map(card) : [el("p", { class: "card empty-line quiet" }, "No job yet. Choose many pictures, or a zip of pictures.")]));
    for (const each of focused ? box.querySelectorAll(".job") : []) {
      if (each.querySelector("code").textContent === focused) [...each.querySelectorAll("button")].find((button) => button.textContent === which)?.focus();
    }
    if (jobs.some((job) => open.includes(job.state)) && location.hash === "#jobs") timer = setTimeout(showJobs, 2000);
  } catch (error) {
    box.replaceChildren(el("p", { class: "card empty-line" }, error.message));
  }
}

export function startJobs() {
  find("job-files").addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    if (files.length) sendJob(files);
  });
}
