// One picture: what the model says of it, and where in the picture the evidence lies.

import { explain } from "./api.js";
import { breakable, describePoint, el, find, icon, percent } from "./dom.js";
import { changed, kindOf, state, watch } from "./state.js";
import { badge, tryAgain } from "./worklist.js";

const look = { zoom: 1, x: 0.5, y: 0.5, opacity: 0.6, className: null };
let shownId = null;

function empty() {
  return el("div", { class: "empty" },
    el("div", { class: "empty-chart", "aria-hidden": "true" }, ["E", "F P", "T O Z", "L P E D"].map((line) => el("span", {}, line))),
    el("h2", {}, "No picture yet"),
    el("p", { class: "quiet" }, "Drop pictures anywhere on this page. Each one is answered with probabilities, a decision at the operating point, and whether the model should be asked at all."));
}

function bars(item) {
  const model = item.model;
  const point = model.operating_points.find((each) => each.is_default);
  return el("div", { class: "bars", role: "list", "aria-label": "Probabilities" }, model.classes.map((name) => {
    const value = item.answer.probabilities[name];
    const track = el("span", { class: "track" }, el("span", { class: `fill${name === item.answer.decision ? " chosen" : ""}` }));
    track.firstChild.style.width = `${100 * value}%`;
    if (point && name === model.positive) {
      const mark = el("span", { class: "mark", title: `operating point ${point.name}: ${percent(point.threshold)}` });
      mark.style.left = `${100 * Math.min(1, point.threshold)}%`;
      track.append(mark);
    }
    return el("div", { class: "bar", role: "listitem" }, el("span", { class: "bar-name" }, breakable(name)), track, el("span", { class: "number" }, percent(value)));
  }));
}

function sayDecision(item) {
  const { model, answer } = item;
  const point = model.operating_points.find((each) => each.is_default);
  if (!point || !model.positive) return `The class that the model's decision rule gives; ${answer.prediction === answer.decision ? "" : `the most probable is ${answer.prediction}. `}no operating point is set.`;
  return `Operating point “${point.name}”: ${describePoint(point, model.positive)}.`;
}

function verdict(item) {
  const kind = kindOf(item);
  if (kind === "waiting") return el("div", { class: "verdict waiting" }, el("p", {}, "Being answered …"));
  if (kind === "error") {
    const { message, hint, isPassing } = item.problem;
    return el("div", { class: "verdict error", role: "group", "aria-label": "Problem" }, icon("alert"),
      el("div", {}, el("p", { class: "verdict-word" }, `This picture was not ${isPassing ? "answered" : "read"}`), el("p", {}, message), el("p", { class: "quiet" }, hint),
        isPassing ? el("button", { type: "button", class: "small again", onclick: tryAgain }, "Try again") : null));
  }
  if (kind === "abstain") {
    return el("div", { class: "verdict abstain" }, icon("person"),
      el("div", {}, el("p", { class: "verdict-word" }, "The model abstains: a person must judge"),
        el("p", {}, `Reason: ${item.answer.reason}.`),
        el("p", { class: "quiet" }, `What it would have said (${item.answer.decision}) is below and should not be used.`)));
  }
  const symbol = kind === "positive" ? "flag" : "check";
  return el("div", { class: `verdict ${kind}` }, icon(symbol),
    el("div", {}, el("p", { class: "verdict-label" }, "Decision"), el("p", { class: "verdict-word" }, breakable(item.answer.decision)), el("p", { class: "quiet" }, sayDecision(item))));
}

function facts(item) {
  const rows = [["Model", item.model.name], ["Bundle", `${(item.sha256 ?? item.model.sha256).slice(0, 16)}…`], ["Request", item.requestId]];
  if (item.answer?.set) {
    const others = item.answer.set.includes(item.answer.decision) ? "" : `; ${item.answer.decision} itself is less probable than it mostly is for such pictures: look twice`;
    rows.unshift(["Cannot be ruled out", `${item.answer.set.join(", ") || "none"}${others}`]);
  }
  return el("dl", { class: "facts" }, rows.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

async function getView(item, view) {
  const key = view === "picture" ? view : `${view} ${look.className ?? ""}`;
  if (!item.views.has(key)) {
    const found = await explain(item.model.name, item.file, { view, className: view === "map" ? look.className : null, frame: item.frame });
    item.views.set(key, { address: URL.createObjectURL(found.blob), method: found.method });
  }
  return item.views.get(key);
}

function place(stage) {
  for (const layer of stage.querySelectorAll(".layer")) {
    layer.style.transformOrigin = `${100 * look.x}% ${100 * look.y}%`;
    layer.style.transform = `scale(${look.zoom})`;
  }
  for (const map of stage.querySelectorAll(".map-layer")) map.style.opacity = look.opacity;
  const shown = stage.querySelector(".zoom-value");
  if (shown) shown.textContent = `${look.zoom.toFixed(1)}×`;
  const slider = stage.querySelector("#zoom");
  if (slider && Number(slider.value) !== look.zoom) slider.value = look.zoom;
}

function zoomTo(stage, zoom) {
  look.zoom = Math.min(8, Math.max(1, zoom));
  if (look.zoom === 1) { look.x = 0.5; look.y = 0.5; }
  place(stage);
}

function listenToFrame(stage, frame) {
  const last = new Map();
  frame.addEventListener("wheel", (event) => { event.preventDefault(); zoomTo(stage, look.zoom * (event.deltaY < 0 ? 1.15 : 1 / 1.15)); }, { passive: false });
  frame.addEventListener("pointerdown", (event) => { last.set(event.pointerId, [event.clientX, event.clientY]); frame.setPointerCapture(event.pointerId); });
  for (const kind of ["pointerup", "pointercancel"]) frame.addEventListener(kind, (event) => last.delete(event.pointerId));
  frame.addEventListener("pointermove", (event) => {
    const from = last.get(event.pointerId);
    if (!from || look.zoom <= 1) return;
    move(stage, (from[0] - event.clientX) / frame.clientWidth, (from[1] - event.clientY) / frame.clientHeight);
    last.set(event.pointerId, [event.clientX, event.clientY]);
  });
  frame.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (steps[event.key]) move(stage, ...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoomTo(stage, look.zoom * 1.25);
    else if (event.key === "-") zoomTo(stage, look.zoom / 1.25);
    else if (event.key === "0") zoomTo(stage, 1);
    else return;
    event.preventDefault();
  });
}

function move(stage, right, down) {
  const keep = (value) => Math.min(1, Math.max(0, value));
  look.x = keep(look.x + right / (look.zoom - 1 || 1));
  look.y = keep(look.y + down / (look.zoom - 1 || 1));
  place(stage);
}

function frameOf(stage, label, ...layers) {
  const frame = el("div", { class: "frame", tabIndex: 0, role: "group", "aria-label": `${label}. Plus and minus zoom, arrows move.` }, layers);
  listenToFrame(stage, frame);
  return el("figure", {}, frame, el("figcaption", {}, label));
}

function controls(stage, item) {
  const slide = (id, label, min, max, step, value, write) =>
    el("label", { class: "slide" }, el("span", {}, label), el("input", { id, type: "range", min, max, step, value, oninput: (event) => { write(Number(event.target.value)); place(stage); } }));
  const pick = el("select", { onchange: (event) => { look.className = event.target.value; fill(stage, item); } },
    item.model.classes.map((name) => el("option", { value: name, selected: name === look.className }, name)));
  return el("div", { class: "stage-tools" },
    el("label", { class: "pick" }, el("span", {}, "Evidence for"), pick),
    slide("opacity", "Map opacity", 0, 1, 0.05, look.opacity, (value) => { look.opacity = value; }),
    slide("zoom", "Zoom", 1, 8, 0.1, look.zoom, (value) => { zoomTo(stage, value); }),
    el("span", { class: "number quiet zoom-value" }, "1.0×"),
    el("button", { type: "button", class: "plain small", onclick: () => zoomTo(stage, 1) }, "Reset"));
}

async function fill(stage, item) {
  const message = stage.querySelector(".stage-message");
  message.textContent = "The map is being drawn …";
  try {
    const [picture, map] = await Promise.all([getView(item, "picture"), getView(item, "map")]);
    if (shownId !== item.id) return;
    for (const layer of stage.querySelectorAll(".model-layer")) layer.src = picture.address;
    for (const layer of stage.querySelectorAll(".map-layer")) { layer.src = map.address; layer.hidden = false; }
    message.textContent = `${map.method ? `Method: ${map.method}. ` : ""}Bright is the strongest evidence in this picture, however little that is. A map shows where, not why.`;
    place(stage);
  } catch (error) {
    message.textContent = error.status === 404 ? "This server draws no evidence maps." : error.message;
    stage.querySelector(".with-map")?.classList.add("gone");
  }
}

function drawStage(item) {
  const stage = el("section", { class: "stage", "aria-label": "Picture and evidence" });
  const original = item.picture
    ? el("img", { class: "layer", src: item.picture, alt: `The picture ${item.name}`, onerror: (event) => event.target.closest("figure")?.classList.add("gone") })
    : el("img", { class: "layer model-layer", alt: `The picture ${item.name}, as the model sees it` });
  const left = frameOf(stage, item.picture ? "Picture as sent" : "Picture as the model sees it", original);
  if (!item.answer) { stage.append(el("div", { class: "frames" }, item.picture ? left : null)); return stage; }
  const right = frameOf(stage, "Evidence on what the model sees",
    el("img", { class: "layer model-layer", alt: "What the model sees" }),
    el("img", { class: "layer map-layer", alt: `Evidence map for ${look.className}`, hidden: true }));
  right.classList.add("with-map");
  stage.append(el("div", { class: "frames" }, left, right), controls(stage, item), el("p", { class: "quiet stage-message", role: "status" }));
  fill(stage, item);
  return stage;
}

function goBack() {
  if (history.state?.showsDetail) history.back();
  else document.body.classList.remove("shows-detail");
}

function draw() {
  const item = state.selected;
  const detail = find("detail");
  const key = item && `${item.id} ${kindOf(item)}`;
  if (key && key === detail.dataset.key) return;
  detail.dataset.key = key ?? "";
  if (!item) { shownId = null; detail.replaceChildren(empty()); return; }
  shownId = item.id;
  Object.assign(look, { zoom: 1, x: 0.5, y: 0.5, className: item.model.positive ?? item.answer?.prediction ?? null });
  detail.replaceChildren(
    el("div", { class: "detail-head" },
      el("button", { type: "button", class: "plain back", onclick: goBack }, icon("back"), "Worklist"),
      el("h1", { title: item.name }, item.name), badge(item)),
    el("div", { class: "detail-body" },
      el("div", { class: "saying" }, verdict(item), item.answer ? bars(item) : null, facts(item)),
      drawStage(item)));
}

export function startDetail() {
  watch((what) => { if (["items", "selection"].includes(what)) draw(); });
  draw();
}
