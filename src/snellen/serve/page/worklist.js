// The worklist: pictures that were dropped, answered one by one, the most urgent first.

import { predict } from "./api.js";
import { download, el, find, icon, percent, speak, toCsv } from "./dom.js";
import { changed, explainOrder, kindOf, listShown, modelsAreKnown, state, watch } from "./state.js";

const atOnce = 3;
const passing = [0, 401, 408, 429, 503]; // what was sent is good: the server was away, busy, or asked for a key
const drawable = /^image\/(jpeg|png|gif|webp|bmp)$/;
let waiting = [];
let running = 0;

export const labels = {
  positive: ["flag", (item) => item.answer.decision],
  negative: ["check", (item) => item.answer.decision],
  plain: ["check", (item) => item.answer.decision],
  abstain: ["person", () => "needs a person"],
  error: ["alert", (item) => (item.problem.isPassing ? "not answered" : "not read")],
  waiting: ["clock", () => "waiting"],
};

export function badge(item) {
  const kind = kindOf(item);
  const [symbol, write] = labels[kind];
  return el("span", { class: `badge ${kind}`, title: write(item) }, icon(symbol), el("span", { class: "badge-text" }, write(item)));
}

export async function addFiles(files, sendJob) {
  const all = [...files];
  await modelsAreKnown;
  const archives = all.filter((file) => /\.zip$/i.test(file.name));
  if (archives.length) sendJob(archives);
  const pictures = all.filter((file) => !archives.includes(file));
  if (!pictures.length) return;
  for (const file of pictures) {
    const item = {
      id: crypto.randomUUID?.() ?? String(Math.random()), name: file.name, file, frame: null, model: state.model,
      picture: drawable.test(file.type) ? URL.createObjectURL(file) : null, answer: null, problem: null, views: new Map(),
    };
    state.items.push(item);
    waiting.push(item);
  }
  speak(`${pictures.length} pictures added`);
  changed("items");
  work();
}

function work() {
  while (running < atOnce && waiting.length) {
    running += 1;
    answer(waiting.shift()).finally(() => {
      running -= 1;
      if (!running && !waiting.length) speak("All pictures are answered");
      work();
    });
  }
}

async function answer(item) {
  try {
    const found = await predict(item.model.name, item.file);
    take(item, found);
  } catch (error) {
    item.problem = { message: error.message, hint: error.hint ?? "", isPassing: passing.includes(error.status) };
  }
  if (!state.selected && state.items.includes(item)) state.selected = item;
  changed("items");
}

// Frames of a DICOM are entries of their own.
function take(item, found) {
  found.predictions.forEach((each, number) => {
    const frame = /::frame\[(\d+)\]$/.exec(each.filename);
    const target = number === 0 ? item : { ...item, id: `${item.id}-${number}`, views: new Map(), answer: null };
    target.name = frame ? `${item.file.name} · frame ${Number(frame[1]) + 1}` : item.file.name;
    target.path = each.filename;
    target.frame = frame ? Number(frame[1]) : null;
    target.sha256 = found.model_sha256;
    target.requestId = found.request_id;
    if (each.error) target.problem = each.error;
    else target.answer = each;
    if (number > 0) state.items.splice(state.items.indexOf(item) + number, 0, target);
  });
}

export function tryAgain() {
  const missed = state.items.filter((item) => item.problem?.isPassing);
  for (const item of missed) item.problem = null;
  waiting.push(...missed);
  speak(`${missed.length} pictures are sent again`);
  changed("items");
  work();
}

function leading(item) {
  const model = item.model;
  const name = model.positive ?? item.answer.prediction;
  return [name, item.answer.probabilities[name]];
}

const blank = (item) => el("span", { class: "thumb none" }, /\.dcm|\.dicom$/i.test(item.file.name) ? "DCM" : "IMG");

function row(item) {
  const chosen = state.selected === item;
  const cut = Math.max(0, item.name.length - 14); // the end tells names of one series apart
  const name = el("span", { class: "row-name", title: item.name }, el("span", { class: "name-head" }, item.name.slice(0, cut)), el("span", { class: "name-tail" }, item.name.slice(cut)));
  const parts = [name, badge(item)];
  if (item.answer?.abstain) {
    parts.push(el("span", { class: "row-line quiet", title: item.answer.reason }, item.answer.reason));
  } else if (item.answer) {
    const [name, probability] = leading(item);
    const bar = el("span", { class: "mini" }, el("span", { class: "mini-fill" }));
    bar.firstChild.style.width = `${100 * probability}%`;
    parts.push(el("span", { class: "row-line" }, bar, el("span", { class: "quiet number" }, `${name} ${percent(probability)}`)));
  } else {
    parts.push(el("span", { class: "row-line quiet" }, item.problem ? item.problem.message : "being answered"));
  }
  const picture = item.picture
    ? el("img", { src: item.picture, alt: "", class: "thumb", loading: "lazy", onerror: (event) => event.target.replaceWith(blank(item)) })
    : blank(item);
  const button = el("button", { type: "button", class: "row", "aria-current": chosen ? "true" : null, onclick: () => choose(item), data: { id: item.id } }, picture, el("span", { class: "row-text" }, parts));
  return el("li", {}, button);
}

const narrow = "(max-width: 820px)";

export function choose(item, focus = true) {
  state.selected = item;
  // on a phone the picture takes the list's place: the browser's Back leads to the list again
  if (matchMedia(narrow).matches && !history.state?.showsDetail) history.pushState({ showsDetail: true }, "");
  document.body.classList.add("shows-detail");
  changed("selection");
  if (focus && matchMedia(narrow).matches) find("detail").focus();
}

function chips() {
  const counts = new Map([["all", state.items.length]]);
  for (const item of state.items) {
    const kind = kindOf(item);
    if (["abstain", "error"].includes(kind)) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    else if (item.answer) counts.set(`class ${item.answer.decision}`, (counts.get(`class ${item.answer.decision}`) ?? 0) + 1);
  }
  if (!counts.has(state.chip)) state.chip = "all";
  const names = { all: "All", abstain: "Needs a person", error: "Not read" };
  find("chips").replaceChildren(
    ...[...counts].map(([key, count]) =>
      el("button", { type: "button", class: "chip", "aria-pressed": String(state.chip === key), onclick: () => { state.chip = key; changed("items"); } },
        names[key] ?? key.slice(6), el("span", { class: "count" }, String(count)))),
  );
}

function draw() {
  const shown = listShown();
  const focused = document.activeElement?.dataset?.id;
  chips();
  find("list").replaceChildren(...shown.map(row));
  if (focused) find("list").querySelector(`[data-id="${focused}"]`)?.focus();
  const open = state.items.filter((item) => !item.answer && !item.problem).length;
  find("list-count").textContent = !state.items.length ? "" : `${shown.length} of ${state.items.length}${open ? `, ${open} waiting` : ""}. ${explainOrder(state.model)}`;
  find("list-csv").disabled = find("list-clear").disabled = !state.items.length;
  document.body.classList.toggle("has-items", state.items.length > 0);
}

function exportList() {
  const classes = [...new Set(state.items.flatMap((item) => item.model.classes))];
  const head = ["path", "prediction", ...classes.map((name) => `probability_${name}`), "decision", "abstain", "reason", "error", "set", "model", "model_sha256", "request_id"];
  const rows = listShown().map((item) => {
    const answer = item.answer;
    const numbers = classes.map((name) => answer?.probabilities[name]?.toFixed(6) ?? "");
    return [item.path ?? item.name, answer?.prediction ?? "", ...numbers, answer?.decision ?? "", answer ? answer.abstain : true,
      answer ? answer.reason : "the picture cannot be read", item.problem?.message ?? "", answer?.set?.join("; ") ?? "", item.model.name, item.sha256 ?? "", item.requestId ?? ""];
  });
  download(toCsv([head, ...rows]), "worklist.csv");
}

function clear() {
  for (const item of state.items) {
    if (item.picture) URL.revokeObjectURL(item.picture);
    for (const view of item.views.values()) URL.revokeObjectURL(view.address);
  }
  waiting = [];
  state.items = [];
  state.selected = null;
  document.body.classList.remove("shows-detail");
  changed("items");
  speak("The worklist is empty");
}

function moveWithKeys(event) {
  const buttons = [...find("list").querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (at < 0 || !step) return;
  event.preventDefault();
  const target = buttons[Math.min(buttons.length - 1, Math.max(0, at + step))];
  target.focus();
  if (matchMedia("(min-width: 821px)").matches) choose(state.items.find((item) => item.id === target.dataset.id), false);
}

export function startWorklist(sendJob) {
  const drop = find("drop");
  find("files").addEventListener("change", (event) => { addFiles([...event.target.files], sendJob); event.target.value = ""; });
  for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer?.files.length) { location.hash = "#worklist"; addFiles(event.dataTransfer.files, sendJob); }
  });
  addEventListener("popstate", () => document.body.classList.toggle("shows-detail", Boolean(history.state?.showsDetail && state.selected)));
  // names lie nowhere but in this list: who leaves is asked
  addEventListener("beforeunload", (event) => { if (state.items.length) event.preventDefault(); });
  find("search").addEventListener("input", (event) => { state.search = event.target.value; changed("items"); });
  find("list-csv").addEventListener("click", exportList);
  find("list-clear").addEventListener("click", clear);
  find("list").addEventListener("keydown", moveWithKeys);
  watch((what) => { if (["items", "selection"].includes(what)) draw(); });
  draw();
}
