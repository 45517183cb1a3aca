// The page: no framework, no build step. Replies of the server are inserted as text, never as HTML.

const $ = (id) => document.getElementById(id);

const PAUSE = 700; // milliseconds without a key before a snapshot
const WORD_PAUSE = 2000; // the same while the caret stands in or behind a word, which may not be finished
const PANEL = 5000; // milliseconds between two looks at the cache
const NO_SERVER = "The server does not answer. What you write stays on this page, and is sent when it answers again.";
const WRITING = "Snapshots are taken while you write.";

class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(`/api/${path}`, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, NO_SERVER);
  }
  if (response.ok) return response.json();
  const told = await response.json().catch(() => ({}));
  throw new Refused(response.status, told.detail ?? "Something went wrong here. Please try again.");
}

function notice(sentence, done = false) {
  $("notice").textContent = sentence;
  $("notice").classList.toggle("done", done);
  $("notice").hidden = !sentence;
}

function failed(error) {
  if (error.status === 401) {
    // The text stays on the page, so that the writer can copy it.
    if (!$("desk").hidden) notice("You are signed out. Your text is still here: copy what you want to keep, then reload the page to sign in.");
    return;
  }
  notice(error.name === "NotAllowedError" ? "No passkey was used: the request was cancelled, or it took too long." : error.message);
}

/** Run the action of a button, once at a time, and show the reason of a refusal. */
function onPress(element, kind, work) {
  element.addEventListener(kind, async (event) => {
    event.preventDefault();
    const button = element.matches("button") ? element : element.querySelector("button");
    if (button.disabled) return;
    button.disabled = true;
    notice("");
    try {
      await work();
    } catch (error) {
      failed(error);
    } finally {
      button.disabled = false;
    }
  });
}

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
  await sendText().catch(() => {});
  if (unsent && !confirm("Your last changes could not be kept. Sign out, and lose them?")) return;
  await ask("POST", "sign-out");
  showDoor();
});

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
  const most = Math.max(...Object.values(profile.categories), 1);
  $("categories").replaceChildren(...Object.entries(profile.categories).map(([category, count]) => {
    const bar = made("i", {});
    bar.style.width = `${(100 * count) / most}%`;
    const cell = made("td", {}, made("div", { class: "bar" }, bar, String(count)));
    return made("tr", {}, made("th", { scope: "row" }, category), cell);
  }));
  $("habits").replaceChildren(...profile.habits.map(({ wrong, right, times }) =>
    made("tr", {}, made("td", { class: "wrong" }, wrong), made("td", { class: "right" }, right), made("td", {}, `${times} ×`))));
  const highest = Math.max(...Object.values(profile.days), 1);
  $("days").replaceChildren(...Object.entries(profile.days).map(([day, count]) => {
    const bar = made("li", { title: `${day}: ${count}` }, made("span", { class: "hidden" }, `${day}: ${count}`));
    bar.style.height = `${(100 * count) / highest}%`;
    return bar;
  }));
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
  if (back) Promise.all([showProfile(), showKept(), sendText()]).catch(failed);
}

setInterval(() => {
  if (!document.hidden && !$("desk").hidden) (unsent && !sending ? sendText() : showPanel()).catch(failed);
}, PANEL);

function duration(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(1)} ms`;
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

// --- the door or the desk ----------------------------------------------------------

function made(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function showDoor() {
  clearTimeout(timer);
  $("text").value = sent = "";
  unsent = false;
  $("learnt").replaceChildren();
  $("nothing-learnt").hidden = false;
  $("desk").hidden = $("who").hidden = true;
  $("door").hidden = false;
  $("new-name").focus();
}

async function showDesk({ name }) {
  $("name").textContent = name;
  // Before the user can type: the kept text must not replace typed text.
  $("text").value = sent = await showKept();
  $("text-state").textContent = WRITING;
  $("door").hidden = true;
  $("desk").hidden = $("who").hidden = false;
  $("text").focus();
  await showProfile();
}

try {
  const me = await ask("GET", "me");
  if (me) await showDesk(me);
  else showDoor();
} catch (error) {
  showDoor();
  failed(error);
}
