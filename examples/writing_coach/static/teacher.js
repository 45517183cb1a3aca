// The teacher's page: one class at a time. The address of the page names it, as in /teacher#7.

import { $, ask, barOf, duration, failed, made, notice, onPress, showBars, showDays } from "/static/page.js";

const PANEL = 5000; // milliseconds between two looks at the cache

let classes = [];
let shown = null; // the class on the page
let turn = 0; // of the newest answer that is wanted
let healthy = true;
const total = { hits: 0, misses: 0, round_trips: 0, queries: 0 };

document.addEventListener("signed-out", () => location.replace("/"));

// --- what is shown ----------------------------------------------------------------

/** Show the classes, and the one that the address names; before them, the steps of the change that made it necessary. */
async function show(before = []) {
  const mine = ++turn;
  const list = await ask("GET", `classes?order=${$("order").value}`);
  if (mine !== turn) return;
  showSteps([...before, ...list.steps]);
  classes = list.classes;
  const wanted = Number(location.hash.slice(1));
  const chosen = classes.find(({ id }) => id === wanted) ?? classes[0];
  showList(chosen?.id);
  $("class").hidden = !chosen;
  shown = null;
  if (!chosen) return;
  const found = await ask("GET", `classes/${chosen.id}`);
  if (mine !== turn) return;
  showSteps([...before, ...list.steps, ...found.steps], list.steps.length + before.length);
  showClass(found);
}

function showList(chosen) {
  $("no-class").hidden = classes.length > 0;
  $("some-classes").hidden = classes.length === 0;
  const focused = $("list").contains(document.activeElement);
  $("list").replaceChildren(...classes.map(({ id, name, pupils }) => {
    const link = made("a", { href: `#${id}` }, made("span", {}, name), made("span", { class: "small" }, number(pupils, "pupil")));
    if (id === chosen) link.setAttribute("aria-current", "true");
    return made("li", {}, link);
  }));
  if (focused) $("list").querySelector("[aria-current]")?.focus();
}

function showClass(found) {
  shown = found;
  $("class-title").textContent = found.name;
  $("code").textContent = found.code;
  if (document.activeElement !== $("task")) $("task").value = found.task;
  $("no-pupil").hidden = found.pupils.length > 0;
  $("some-pupils").hidden = found.pupils.length === 0;
  $("number").textContent = number(found.pupils.length, "pupil");
  const profiles = found.pupils.map(({ profile }) => profile);
  const kinds = sums(profiles.map(({ categories }) => categories));
  showBars($("categories"), Object.fromEntries(Object.entries(kinds).sort(([, one], [, other]) => other - one)));
  showDays($("days"), sums(profiles.map(({ days }) => days)));
  showPupils();
}

function showPupils() {
  const pupils = [...shown.pupils];
  if ($("sort").value === "total") pupils.sort((one, other) => other.profile.total - one.profile.total);
  const most = Math.max(...pupils.map(({ profile }) => profile.total), 1);
  const highest = Math.max(...pupils.flatMap(({ profile }) => Object.values(profile.days)), 1);
  $("pupils").replaceChildren(...pupils.map(({ id, name, profile }) => {
    const change = made("button", { class: "quiet", "data-pupil": id, "aria-label": `Change ${name}` }, "Change");
    const [habit] = profile.habits;
    const often = habit ? [made("span", { class: "wrong" }, habit.wrong), " → ", made("span", { class: "right" }, habit.right)] : [];
    const cell = (...children) => made("td", { role: "cell" }, ...children);
    return made("tr", { role: "row" }, made("th", { scope: "row", role: "rowheader" }, name),
      cell(barOf(profile.total, most)), cell(sparkline(profile.days, highest)), cell(...often), cell(change));
  }));
}

/** The days of one pupil, on the scale of all, as one picture with one sentence. */
function sparkline(days, highest) {
  const counts = Object.values(days);
  const sum = counts.reduce((one, other) => one + other, 0);
  const picture = made("span", { class: "spark", role: "img", "aria-label": `${sum} in the last 14 days` });
  picture.append(...counts.map((count) => {
    const column = made("i", {});
    column.style.height = `${(100 * count) / highest}%`;
    return column;
  }));
  return picture;
}

function sums(all) {
  const sum = {};
  for (const counts of all) for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

function number(count, thing) {
  return `${count} ${thing}${count === 1 ? "" : "s"}`;
}

// --- what the cache did -------------------------------------------------------------

/** Show steps, and add those from `first` on to the figures: the others are in them. */
function showSteps(steps, first = 0) {
  for (const step of steps.slice(first)) for (const figure of Object.keys(total)) total[figure] += step[figure];
  $("steps").replaceChildren(...steps.map((step) => {
    const { text, kind } = outcomeOf(step);
    const costs = [number(step.round_trips, "round trip"), `${step.queries || "no"} ${step.queries === 1 ? "query" : "queries"}`, duration(step.seconds)];
    const outcome = made("strong", { "data-outcome": kind }, text);
    const line = made("li", {}, made("span", { class: "what" }, step.what), outcome, made("span", { class: "small" }, costs.join(" · ")));
    if (step.invalidated.length) line.append(made("span", { class: "names" }, ...step.invalidated.map((name) => made("code", {}, short(name)))));
    return line;
  }));
  $("hits").textContent = total.hits.toLocaleString();
  $("misses").textContent = total.misses.toLocaleString();
  $("trips").textContent = total.round_trips.toLocaleString();
  $("queries").textContent = total.queries.toLocaleString();
}

function outcomeOf({ hits, misses, stale, answered, invalidated, round_trips }) {
  if (!answered) return { text: invalidated.length ? "no answer: sent when it is back" : "no answer", kind: "no answer" };
  if (invalidated.length) return { text: "invalidated", kind: "invalidated" };
  const counts = [[hits, "hit", "hits"], [misses, "miss", "misses"], [stale, "stale", "stale"]].filter(([count]) => count);
  const kind = stale ? "stale" : misses ? "miss" : "hit";
  if (!counts.length) return { text: round_trips ? "stored" : "nothing to do", kind };
  if (hits + misses + stale === 1) return { text: counts[0][1], kind };
  return { text: counts.map(([count, one, many]) => `${count} ${count === 1 ? one : many}`).join(", "), kind };
}

/** The ids of users are long: their beginning tells them apart. */
function short(name) {
  return name.replace(/[0-9a-f]{32}/g, (id) => `${id.slice(0, 6)}…`);
}

async function showHealth() {
  const figures = await ask("GET", "panel");
  const back = figures.healthy && !healthy;
  healthy = figures.healthy;
  $("health").className = healthy ? "small up" : "small down";
  $("health").textContent = healthy ? "The cache answers." : "The cache does not answer. The page works on, slower, from the database.";
  if (back) await show();
}

setInterval(() => {
  if (!document.hidden && !$("school").hidden) showHealth().catch(failed);
}, PANEL);

// --- what a teacher does --------------------------------------------------------------

/** Make a change, show the class that it leads to, and say what was done. */
async function change(method, path, body, done) {
  const { class_id, steps } = await ask(method, `classes${path}`, body);
  // Without an event: `show` follows.
  history.replaceState(null, "", `#${class_id}`);
  await show(steps);
  await showHealth();
  notice(done, true);
}

onPress($("add"), "submit", async () => {
  const name = $("new-class").value;
  await change("POST", "", { name }, `The class ${name} is there. Give its code to your pupils.`);
  // The next name may be in it by now.
  if ($("new-class").value === name) $("new-class").value = "";
});

onPress($("sample"), "click", () => change("POST", "/sample", undefined, "The example class is there, with invented pupils."));

onPress($("set-task"), "submit", () =>
  change("PUT", `/${shown.id}/task`, { text: $("task").value }, "Your pupils see the task from now on."));

onPress($("term"), "click", async () => {
  if (!confirm(`Delete the corrections of all pupils of ${shown.name}, for them as well?`)) return;
  await change("DELETE", `/${shown.id}/errors`, undefined, "A new term begins: all profiles are empty.");
});

onPress($("again"), "click", async () => {
  await show();
  await showHealth();
});

$("order").addEventListener("change", () => show().catch(failed));
$("sort").addEventListener("change", showPupils);
addEventListener("hashchange", () => show().catch(failed));

onPress($("sign-out"), "click", async () => {
  await ask("POST", "sign-out");
  location.assign("/");
});

/** Open a dialog, and resolve to the value of the button that closed it; "" for Escape. */
function answered(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  dialog.querySelector("input").select();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

// Not disabled meanwhile, as `onPress` would do: a dialog gives the focus back to the button that opened it.
$("rename").addEventListener("click", () => renameClass().catch(failed));

async function renameClass() {
  $("class-name").value = shown.name;
  if (await answered($("rename-dialog")) !== "save") return;
  const name = $("class-name").value;
  await change("PUT", `/${shown.id}`, { name }, `The class is called ${name} now.`);
}

$("pupils").addEventListener("click", ({ target }) => {
  if (target.dataset.pupil) changePupil(target.dataset.pupil).catch(failed);
});

async function changePupil(id) {
  const { name } = shown.pupils.find((pupil) => pupil.id === id);
  $("pupil-title").textContent = `Change ${name}`;
  $("pupil-name").value = name;
  $("pupil-class").replaceChildren(...classes.map((one) => made("option", { value: one.id }, one.name)));
  $("pupil-class").value = shown.id;
  const answer = await answered($("pupil-dialog"));
  const path = `/${shown.id}/pupils/${id}`;
  if (answer === "save") {
    const [renamed, class_id] = [$("pupil-name").value, Number($("pupil-class").value)];
    const place = class_id === shown.id ? "" : ` to ${classes.find((one) => one.id === class_id).name}`;
    await change("PUT", path, { name: renamed, class_id }, place ? `${renamed} has moved${place}.` : `The pupil is called ${renamed} now.`);
  } else if (answer === "remove") {
    await change("DELETE", path, undefined, `${name} is in no class now.`);
  } else return;
  // Its button went with the old table.
  ($("pupils").querySelector(`[data-pupil="${id}"]`) ?? $("class-title")).focus();
}

try {
  const me = await ask("GET", "me");
  if (!me) location.replace("/");
  else {
    $("name").textContent = me.name;
    $("school").hidden = $("who").hidden = false;
    await show();
    await showHealth();
  }
} catch (error) {
  failed(error);
}
