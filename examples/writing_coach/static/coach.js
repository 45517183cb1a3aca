// The writer's page.

import { $, NO_SERVER, ask, duration, failed, made, notice, onPress, showBars, showDays } from "/static/page.js";

const PAUSE = 700; // milliseconds without a key before a snapshot
const WORD_PAUSE = 2000; // the same while the caret stands in or behind a word, which may not be finished
const PANEL = 5000; // milliseconds between two looks at the cache
const WRITING = "Snapshots are taken while you write.";

document.addEventListener("signed-out", () => {
  // The text stays on the page, so that the writer can copy it.
  if (!$("desk").hidden) notice("You are signed out. Your text is still here: copy what you want to keep, then reload the page to sign in.");
});

// --- passkeys ---------------------------------------------------------------

onPress($("sign-up"), "submit", async () => {
  needPasskeys();
  const options = await ask("POST", "sign-up/options", { name: $("new-name").value });
  const credential = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
  await showDesk(await ask("POST", "sign-up", { credential: credential.toJSON() }));
});

onPress($("sign-in"), "click", async () => {
  needPasskeys();
  const options = await ask("POST", "sign-in/options");
  const credential = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
  await showDesk(await ask("POST", "sign-in", { credential: credential.toJSON() }));
});

onPress($("sign-out"), "click", async () => {
  if (!(await mayLeave("Sign out"))) return;
  await ask("POST", "sign-out");
  showDoor();
});

$("teach").addEventListener("click", async (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // it opens beside this page
  event.preventDefault();
  if (await mayLeave("Leave this page")) location.assign(event.target.href);
});

async function mayLeave(deed) {
  await sendText().catch(() => {});
  return !unsent || confirm(`Your last changes could not be kept. ${deed}, and lose them?`);
}

function needPasskeys() {
  if (!globalThis.PublicKeyCredential?.parseCreationOptionsFromJSON) {
    throw new Error("This browser has no passkeys here: it may be too old, or the page not on https or localhost.");
  }
}

// --- writing ----------------------------------------------------------------

let timer = 0;
let sent = "";
let sending = null;
let unsent = false;

$("text").addEventListener("input", later);
$("text").addEventListener("blur", (event) => {
  // Not when a word is left unfinished, nor when the text is to be forgotten.
  if (!inWord() && event.relatedTarget !== $("forget")) sendText().catch(failed);
});
document.addEventListener("selectionchange", () => {
  if (document.activeElement === $("text")) later();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden && !inWord()) sendText().catch(() => {});
});

/** Whether the caret stands in or behind a word in the middle of the text: that may not be finished. */
function inWord() {
  const { value, selectionStart } = $("text");
  return /[\p{L}\p{N}]/u.test(value.slice(selectionStart - 1, selectionStart)) && selectionStart < value.length;
}

function later() {
  clearTimeout(timer);
  if ($("text").value === sent) return;
  timer = setTimeout(() => sendText().catch(failed), inWord() ? WORD_PAUSE : PAUSE);
}

/** Send the text as it is now; one request at a time, so that snapshots are in order. */
async function sendText() {
  clearTimeout(timer);
  while (sending) await sending.catch(() => {});
  const text = $("text").value;
  if ($("desk").hidden || text === sent) return;
  unsent = true;
  sending = ask("PUT", "text", { text }).finally(() => {
    sending = null;
  });
  const { kept, learnt } = await sending;
  unsent = !kept;
  if (kept) sent = text;
  if ($("notice").textContent === NO_SERVER) notice("");
  $("text-state").textContent = kept
    ? `Snapshot taken at ${new Date().toLocaleTimeString()}.`
    : "No snapshot: the cache does not answer. You can go on writing; nothing is learnt meanwhile.";
  learnt.forEach(showLearnt);
  await Promise.all([showKept(), learnt.length ? showProfile() : showPanel()]);
}

function showLearnt({ wrong, right, category }) {
  $("nothing-learnt").hidden = true;
  $("learnt").prepend(made("li", {}, made("del", {}, wrong), " → ", made("ins", {}, right), ` · ${category}`));
  while ($("learnt").children.length > 12) $("learnt").lastChild.remove();
}

// --- privacy ----------------------------------------------------------------

async function showKept() {
  const { known, count, oldest, hours, text } = await ask("GET", "snapshots");
  $("hours").textContent = hours;
  const ends = oldest && new Date(new Date(oldest).getTime() + hours * 3600_000);
  if (!known) $("kept").textContent = "The cache does not answer: what it keeps cannot be shown now.";
  else if (!count) $("kept").textContent = "No snapshot is kept now.";
  else {
    const when = ends.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    $("kept").textContent = `${count} ${count === 1 ? "snapshot is" : "snapshots are"} kept now; the oldest ends ${when}.`;
  }
  return text;
}

onPress($("forget"), "click", async () => {
  // A snapshot that is on its way would arrive after the deletion.
  clearTimeout(timer);
  while (sending) await sending.catch(() => {});
  sent = $("text").value;
  unsent = false;
  const forgotten = await ask("DELETE", "snapshots");
  $("text-state").textContent = WRITING;
  await showKept();
  if (forgotten) notice("Your snapshots are gone. The text is on your screen alone, until you change it.", true);
  else notice("The cache does not answer. Your snapshots are deleted as soon as it does; in any case they end by themselves.");
});

// --- the class of the writer ---------------------------------------------------

async function showClass() {
  const mine = await ask("GET", "membership");
  $("join").hidden = mine !== null;
  $("joined").hidden = mine === null;
  if (!mine) return;
  $("my-class").textContent = mine.name;
  $("my-teacher").textContent = mine.teacher;
  $("my-task").textContent = mine.task || "No task yet.";
}

onPress($("join"), "submit", async () => {
  await ask("PUT", "membership", { code: $("class-code").value });
  $("class-code").value = "";
  await showClass();
  notice(`You are in the class ${$("my-class").textContent} now.`, true);
  $("leave").focus();
});

onPress($("leave"), "click", async () => {
  if (!confirm("Leave the class? Your teacher no longer sees your error profile then.")) return;
  await ask("DELETE", "membership");
  await showClass();
  $("class-code").focus();
});

// --- profile and cache --------------------------------------------------------

let healthy = true;
const workers = new Map(); // the newest figures of each worker: any of them may answer

onPress($("again"), "click", showProfile);

async function showProfile() {
  const { profile, outcome, seconds, age, figures } = await ask("GET", "profile");
  $("profile-none").hidden = profile.total > 0;
  $("profile-shown").hidden = profile.total === 0;
  $("total").textContent = profile.total;
  $("total-word").textContent = profile.total === 1 ? "correction" : "corrections";
  showBars($("categories"), profile.categories);
  $("habits").replaceChildren(...profile.habits.map(({ wrong, right, times }) =>
    made("tr", {}, made("td", { class: "wrong" }, wrong), made("td", { class: "right" }, right), made("td", {}, `${times} ×`))));
  showDays($("days"), profile.days);
  $("outcome").textContent = outcome;
  $("outcome").dataset.outcome = outcome;
  const how = { hit: "in", stale: "since the database does not answer: it took" }[outcome] ?? "assembled in";
  $("outcome-more").textContent = `${how} ${duration(seconds)}`;
  $("age").textContent = age < 1 ? "just now" : duration(age);
  showFigures(figures);
}

async function showPanel() {
  showFigures(await ask("GET", "panel"));
}

function showFigures(newest) {
  workers.set(newest.worker, newest);
  const sum = (figure) => [...workers.values()].reduce((total, figures) => total + (figure(figures) ?? 0), 0);
  const count = (event) => sum((figures) => figures.events[event]);
  const saved = (count("Hit") * sum((figures) => figures.load_seconds)) / Math.max(count("Loaded"), 1);
  $("hits").textContent = count("Hit").toLocaleString();
  $("misses").textContent = count("Missed").toLocaleString();
  $("queries").textContent = sum((figures) => figures.queries).toLocaleString();
  $("saved").textContent = `≈ ${duration(saved)}`;
  $("workers").textContent = workers.size;
  const back = newest.healthy && !healthy;
  healthy = newest.healthy;
  $("health").className = newest.healthy ? "small up" : "small down";
  $("health").textContent = newest.healthy
    ? "The cache answers."
    : "The cache does not answer. The page works on, slower, and takes no snapshots.";
  if (back) Promise.all([showProfile(), showKept(), showClass(), sendText()]).catch(failed);
}

setInterval(() => {
  if (!document.hidden && !$("desk").hidden) (unsent && !sending ? sendText() : showPanel()).catch(failed);
}, PANEL);

// --- the door or the desk ----------------------------------------------------------

function showDoor() {
  clearTimeout(timer);
  $("text").value = sent = "";
  unsent = false;
  $("learnt").replaceChildren();
  $("nothing-learnt").hidden = false;
  $("desk").hidden = $("who").hidden = $("pages").hidden = $("join").hidden = $("joined").hidden = true;
  $("door").hidden = false;
  $("new-name").focus();
}

async function showDesk({ name }) {
  $("name").textContent = name;
  // Before the user can type: the kept text must not replace typed text.
  $("text").value = sent = await showKept();
  $("text-state").textContent = WRITING;
  $("door").hidden = true;
  $("desk").hidden = $("who").hidden = $("pages").hidden = false;
  $("text").focus();
  await Promise.all([showProfile(), showClass()]);
}

try {
  const me = await ask("GET", "me");
  if (me) await showDesk(me);
  else showDoor();
} catch (error) {
  showDoor();
  failed(error);
}
