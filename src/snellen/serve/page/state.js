// What is on the page: the models, who is signed in, the pictures of the worklist. Views are told of changes.

const watchers = new Set();
let tellReady;
// Pictures may be dropped before the models are known, or before somebody has signed in: they wait.
export const modelsAreKnown = new Promise((resolve) => { tellReady = resolve; });
export const state = { models: [], model: null, me: null, items: [], selected: null, search: "", chip: "all" };

export const noteModels = () => tellReady();
export const watch = (watcher) => watchers.add(watcher);
export const changed = (what) => watchers.forEach((watcher) => watcher(what));

// How soon a person should look: what the model cannot judge first, then by what it looks for.
export function urgency(item) {
  const answer = item.answer;
  if (item.problem) return 3;
  if (!answer) return -1;
  if (answer.abstain) return 2;
  const model = item.model;
  const probability = answer.probabilities;
  if (model.positive) return probability[model.positive];
  if (model.is_ordered) {
    const top = model.classes.length - 1;
    return model.classes.reduce((sum, name, grade) => sum + (grade / top) * probability[name], 0);
  }
  return 1 - Math.max(...Object.values(probability));
}

export function explainOrder(model) {
  const rest = model.positive ? `then by the probability of ${model.positive}` : model.is_ordered ? "then by the expected grade" : "then the least certain";
  return `What a person must judge comes first, ${rest}.`;
}

export function kindOf(item) {
  if (item.problem) return "error";
  if (!item.answer) return "waiting";
  if (item.answer.abstain) return "abstain";
  if (!item.model.positive) return "plain";
  return item.answer.decision === item.model.positive ? "positive" : "negative";
}

export function listShown() {
  const wanted = state.search.trim().toLowerCase();
  return state.items
    .filter((item) => !wanted || item.name.toLowerCase().includes(wanted))
    .filter((item) => state.chip === "all" || state.chip === kindOf(item) || (item.answer && !item.answer.abstain && state.chip === `class ${item.answer.decision}`))
    .map((item, at) => ({ item, at, order: urgency(item) }))
    .sort((one, other) => other.order - one.order || one.at - other.at)
    .map((each) => each.item);
}
