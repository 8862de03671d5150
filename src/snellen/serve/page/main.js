// Starts the page: which view is shown, which model is asked, who is signed in.

import { call, forgetKey, getJson, hasKey, keepKey, whenKeyIsNeeded } from "./api.js";
import { showModel } from "./card.js";
import { startDetail } from "./detail.js";
import { el, find } from "./dom.js";
import { showHistory, startHistory } from "./history.js";
import { sendJob, showJobs, startJobs } from "./jobs.js";
import { changed, noteModels, state } from "./state.js";
import { startWorklist } from "./worklist.js";

const views = ["worklist", "jobs", "history", "model"];
const open = { jobs: showJobs, history: () => showHistory(), model: showModel };

state.tell = (error) => {
  const box = find("problem");
  box.replaceChildren(el("span", {}, `${error.message} ${error.hint ?? ""}`, error.requestId ? el("code", {}, ` ${error.requestId}`) : null),
    el("button", { type: "button", class: "plain small", onclick: () => { box.hidden = true; } }, "Close"));
  box.hidden = false;
};

function showView() {
  const name = views.includes(location.hash.slice(1)) ? location.hash.slice(1) : "worklist";
  for (const view of views) find(`view-${view}`).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = name === "worklist" ? "Snellen" : `${name[0].toUpperCase()}${name.slice(1)} – Snellen`;
  open[name]?.();
}

function askForKey() {
  const dialog = find("sign-in");
  if (dialog.open) return Promise.resolve(false);
  find("key").value = "";
  find("sign-in-error").textContent = hasKey() ? "The key was refused." : "";
  dialog.showModal();
  return new Promise((resolve) => {
    find("sign-in-form").onsubmit = async (event) => {
      event.preventDefault();
      const key = find("key").value.trim();
      try {
        await call("/v1/me", { key });
        keepKey(key);
        find("key").value = "";
        dialog.close();
        resolve(true);
        showAccount();
      } catch (error) {
        find("sign-in-error").textContent = error.message;
      }
    };
    find("sign-in-cancel").onclick = () => dialog.close();
    dialog.onclose = () => resolve(false);
  });
}

async function showAccount() {
  try {
    state.me = await getJson("/v1/me");
  } catch {
    state.me = null;
  }
  const button = find("account");
  button.hidden = Boolean(state.me && !state.me.needs_key);
  button.textContent = state.me?.needs_key ? `Sign out ${state.me.name ?? ""}` : "Sign in";
  if (state.me) find("version").textContent = `Snellen ${state.me.version}`;
}

async function loadModels() {
  const { models } = await getJson("/v1/models");
  state.models = models;
  const kept = sessionStorage.getItem("snellen-model");
  state.model = models.find((model) => model.name === kept) ?? models[0];
  find("model-pick").replaceChildren(...models.map((model) => el("option", { value: model.name, selected: model === state.model }, model.name)));
  noteModels();
  changed("items");
  showView();
}

function start() {
  whenKeyIsNeeded(askForKey);
  startWorklist(sendJob);
  startDetail();
  startHistory();
  startJobs();
  find("model-pick").addEventListener("change", (event) => {
    state.model = state.models.find((model) => model.name === event.target.value);
    sessionStorage.setItem("snellen-model", state.model.name);
    changed("items");
    showView();
  });
  find("theme").addEventListener("click", () => {
    const isDark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("snellen-theme", document.documentElement.dataset.theme);
  });
  find("account").addEventListener("click", async () => {
    if (hasKey()) { forgetKey(); location.reload(); } else if (await askForKey()) loadModels().catch(state.tell);
  });
  addEventListener("hashchange", showView);
  find("view-worklist").hidden = false;
  loadModels().then(showAccount, (error) => { state.tell(error); showAccount(); });
}

start();
