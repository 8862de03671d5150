// The model: its facts, and its card, a little Markdown shown as text in elements.

import { call } from "./api.js";
import { describePoint, el, find } from "./dom.js";
import { state } from "./state.js";

const signs = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };
const plain = (text) => text.replace(/&(lt|gt|amp);/g, (sign) => signs[sign]).replace(/\\([\\`*_{}[\]()<>#+\-.!|])/g, "$1");

function inline(text) {
  const parts = text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)]+\))/);
  return parts.filter(Boolean).map((part) => {
    if (/^`.+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return el("strong", {}, plain(part.slice(2, -2)));
    const link = /^\[([^\]]+)\]\((https?:[^)]+)\)$/.exec(part);
    return link ? el("a", { href: link[2], rel: "noreferrer" }, plain(link[1])) : plain(part);
  });
}

const cells = (line) => line.replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim());

function table(lines, number) {
  const [head, , ...rows] = lines.map(cells);
  return el("div", { class: "table-box", tabIndex: 0, role: "region", "aria-label": `Table ${number}` }, el("table", {},
    el("thead", {}, el("tr", {}, head.map((cell) => el("th", { scope: "col" }, inline(cell))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, inline(cell))))))));
}

let tables = 0;

export function markdown(text) {
  const body = text.replace(/^---\n[\s\S]*?\n---\n/, "");
  return body.split(/\n{2,}/).flatMap((block) => {
    const lines = block.trim().split("\n");
    if (!lines[0]) return [];
    const heading = /^(#+) (.*)$/.exec(lines[0]);
    if (heading) return [el(`h${Math.min(6, heading[1].length + 1)}`, {}, inline(heading[2])), ...markdown(lines.slice(1).join("\n"))];
    if (lines[0].startsWith("|")) return [table(lines, (tables += 1))];
    if (/^[-*] /.test(lines[0])) return [el("ul", {}, lines.join("\n").split(/\n?^[-*] /m).filter(Boolean).map((line) => el("li", {}, inline(line.replaceAll("\n", " ")))))];
    return [el("p", {}, inline(lines.join(" ")))];
  });
}

export async function showModel() {
  const model = state.model;
  if (!model) return;
  find("model-title").textContent = model.title || model.name;
  find("model-subtitle").textContent = model.intended_use;
  const points = model.operating_points.map((point) => `${point.name}${point.is_default ? " (default)" : ""}: ${describePoint(point, model.positive)}`);
  const rows = [
    ["Name in addresses", model.name], ["Classes", model.classes.join(", ")], ["Looked for", model.positive ?? "–"], ["Operating points", points.join("; ") || "none"],
    ["Backbone", model.backbone], ["Input", `${model.width_px} × ${model.height_px} px`], ["Trained on", `${model.n_patients.toLocaleString("en")} patients`],
    ["Made", `${model.created.slice(0, 10)} by Snellen ${model.snellen_version}`], ["sha256 of the bundle", model.sha256],
  ];
  find("model-facts").replaceChildren(...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  try {
    const text = await (await call(`/v1/models/${encodeURIComponent(model.name)}/card`)).text();
    find("model-card").replaceChildren(...markdown(text));
  } catch (error) {
    find("model-card").replaceChildren(el("p", { class: "quiet" }, error.message));
  }
}
