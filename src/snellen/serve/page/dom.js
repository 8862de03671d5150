// Small things to make elements with. Text is always text, never markup.

export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.startsWith("aria")) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const paths = {
  alert: "M12 8v5m0 3.2v.3M10.3 4 2.6 17.5A2 2 0 0 0 4.3 20.5h15.4a2 2 0 0 0 1.7-3L13.7 4a2 2 0 0 0-3.4 0z",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zm-7.5 8a7.5 7.5 0 0 1 15 0",
  check: "m5 12.5 4.5 4.5L19 7.5",
  flag: "M6 21V4m0 0h11l-2 4 2 4H6",
  cross: "M6 6l12 12M18 6 6 18",
  clock: "M12 7v5l3 2m6-2a9 9 0 1 1-18 0 9 9 0 0 1 18 0z",
  back: "M15 5l-7 7 7 7",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", paths[name]);
  svg.append(path);
  return svg;
}

export const find = (id) => document.getElementById(id);

export function speak(text) {
  find("spoken").textContent = text;
}

// No model is ever sure: what rounds to nothing or to all is told as a bound.
export function percent(value) {
  if (value > 0.9995) return ">\u00a099.9\u00a0%";
  if (value < 0.0005) return "<\u00a00.1\u00a0%";
  return `${(100 * value).toFixed(1)}\u00a0%`;
}

// Local time, the same in every language: 2026-01-31 16:05:09.
export function stamp(text) {
  const when = new Date(text);
  const two = (number) => String(number).padStart(2, "0");
  const day = [when.getFullYear(), two(when.getMonth() + 1), two(when.getDate())].join("-");
  return `${day} ${[when.getHours(), when.getMinutes(), when.getSeconds()].map(two).join(":")}`;
}

// A name that may break behind its underscores and dashes, and not within a word.
export function breakable(name) {
  return name.split(/(?<=[_\-./])/).flatMap((part, number) => (number ? [el("wbr"), part] : [part]));
}

export function toCsv(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return rows.map((row) => row.map(cell).join(",") + "\n").join("");
}

export function download(content, name, type = "text/csv;charset=utf-8") {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const rules = { youden: "Youden index", argmax: "most probable" };
const places = { val: "validation patients", calibration: "calibration patients", oof: "patients out of fold", "ensemble-oof": "patients out of fold" };

export function describePoint(point, positive) {
  const where = point.chosen_on === "fixed" ? "not chosen on data" : `chosen on ${places[point.chosen_on] ?? point.chosen_on}`;
  return `${positive} from ${percent(point.threshold)} on (${rules[point.rule] ?? point.rule.replace(">=", " ≥ ")}, ${where})`;
}
