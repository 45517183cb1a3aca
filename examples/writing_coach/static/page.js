// The parts that the pages share: no framework, no build step. Replies of the server are inserted as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export const NO_SERVER = "The server does not answer. What you write stays on this page, and is sent when it answers again.";

class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export async function ask(method, path, body) {
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

export function notice(sentence, done = false) {
  $("notice").textContent = sentence;
  $("notice").classList.toggle("done", done);
  $("notice").hidden = !sentence;
}

/** Show the reason of a refusal. The page itself says what it does for a user who is signed out. */
export function failed(error) {
  if (error.status === 401) document.dispatchEvent(new Event("signed-out"));
  else notice(error.name === "NotAllowedError" ? "No passkey was used: the request was cancelled, or it took too long." : error.message);
}

/** Run the action of a button, once at a time, and show the reason of a refusal. */
export function onPress(element, kind, work) {
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

export function made(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function duration(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(1)} ms`;
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

/** Show counts as a table of bars; the longest fills its column. */
export function showBars(body, counts) {
  const most = Math.max(...Object.values(counts), 1);
  body.replaceChildren(...Object.entries(counts).map(([name, count]) =>
    made("tr", {}, made("th", { scope: "row" }, name), made("td", {}, barOf(count, most)))));
}

export function barOf(count, most) {
  const bar = made("i", {});
  bar.style.setProperty("--share", count / most);
  return made("div", { class: "bar" }, bar, String(count));
}

/** Show the counts of days as columns; the highest fills its list. */
export function showDays(list, days) {
  const highest = Math.max(...Object.values(days), 1);
  list.replaceChildren(...Object.entries(days).map(([day, count]) => {
    const bar = made("li", { title: `${day}: ${count}` }, made("span", { class: "hidden" }, `${day}: ${count}`));
    bar.style.height = `${(100 * count) / highest}%`;
    return bar;
  }));
}
