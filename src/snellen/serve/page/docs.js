// The OpenAPI document, as a list that a person can read.

import { el, find } from "./dom.js";

function describeParameter(parameter) {
  const kind = parameter.schema?.enum?.join(" | ") ?? parameter.schema?.type ?? parameter.schema?.anyOf?.map((each) => each.type).filter((each) => each !== "null").join(" | ") ?? "";
  return el("tr", {}, el("td", {}, el("code", {}, parameter.name)), el("td", {}, parameter.in), el("td", {}, kind), el("td", {}, parameter.description ?? parameter.schema?.description ?? ""));
}

function show(path, method, route) {
  const parts = [
    el("div", { class: "route-head" }, el("span", { class: "method" }, method.toUpperCase()), el("h2", {}, el("code", {}, path))),
    ...route.description.split("\n\n").map((text) => el("p", {}, text)),
  ];
  if (route.parameters?.length) {
    parts.push(el("div", { class: "table-box", tabIndex: 0, role: "region", "aria-label": `Parameters of ${method} ${path}` }, el("table", {},
      el("thead", {}, el("tr", {}, ["Parameter", "Where", "Kind", "Meaning"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, route.parameters.map(describeParameter)))));
  }
  if (route.requestBody) parts.push(el("p", { class: "quiet" }, "Body: multipart/form-data with the field ", el("code", {}, "images"), ", repeated."));
  const statuses = Object.entries(route.responses).map(([status, each]) => `${status} ${each.description}`);
  parts.push(el("p", { class: "quiet" }, statuses.join("  ·  ")));
  return el("section", { class: "card route" }, parts);
}

const described = await (await fetch("/v1/openapi.json")).json();
find("about").textContent = described.info.description.split("\n\n")[0];
find("example").textContent = `curl -F images=@eye.jpg ${location.origin}/v1/models/NAME/predict`;
find("routes").replaceChildren(...Object.entries(described.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, route]) => show(path, method, route))));
