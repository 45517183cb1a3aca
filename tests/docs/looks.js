/*
 * How the pages of the site look: each is opened in a frame, narrow and wide, and judged in light and dark.
 * `PAGES` is the list of them. The complaints stand as JSON in the element `told`, once all pages are judged.
 */
"use strict";

const WIDTHS = [390, 1400];
const SCHEMES = ["light", "dark"];
// WCAG 2: text that can be read on its ground.
const READABLE = 4.5;
// So wide is a drawn picture at least. Its text is large enough then: tests/application/test_pictures.py.
const NARROWEST = 340;
const AT_ONCE = 6;

const brush = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
const painted = new Map();
const paint = (colour) => {
  if (!painted.has(colour)) {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    painted.set(colour, [...brush.getImageData(0, 0, 1, 1).data]);
  }
  return painted.get(colour);
};
const over = (above, below) => [0, 1, 2].map((part) => (above[part] * above[3] + below[part] * (255 - above[3])) / 255);
const luminance = (colour) => {
  const [red, green, blue] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const contrast = (one, other) => {
  const [darker, lighter] = [luminance(one), luminance(other)].sort((left, right) => left - right);
  return (lighter + 0.05) / (darker + 0.05);
};

const ground = (element, style) => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    layers.push(paint(style(each).backgroundColor));
    if (layers.at(-1)[3] === 255) break;
  }
  return layers.reverse().reduce((below, above) => over(above, below), [255, 255, 255]);
};

function* faint(page, style) {
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || seen.has(element) || element.closest("svg, script, style, noscript")) continue;
    seen.add(element);
    const look = style(element);
    if (look.visibility !== "visible" || !element.getClientRects().length) continue;
    const paper = ground(element, style);
    const ratio = contrast(over(paint(look.color), paper), paper);
    if (ratio < READABLE) yield `contrast ${ratio.toFixed(2)}: ${look.color} in <${element.localName} class="${element.className}">: ${node.data.trim().slice(0, 40)}`;
  }
}

function* outside(page, style, width) {
  const scrolls = new Map();
  const scrolled = (element) => {
    if (!element || element === page.body) return false;
    if (!scrolls.has(element)) {
      const own = ["auto", "scroll"].includes(style(element).overflowX) && !element.matches(".content");
      scrolls.set(element, own || scrolled(element.parentElement));
    }
    return scrolls.get(element);
  };
  for (const element of page.querySelectorAll("article *")) {
    const { left, right, width: wide } = element.getBoundingClientRect();
    if (wide && (right > width + 1 || left < -1) && !scrolled(element)) yield `outside of the window: <${element.localName}> ${element.textContent.trim().slice(0, 40)}`;
    if (element.scrollWidth > element.clientWidth + 1 && ["auto", "scroll"].includes(style(element).overflowX) && style(element).backgroundImage === "none") {
      yield `scrolls, and nothing shows it: <${element.localName}> ${element.textContent.trim().slice(0, 40)}`;
    }
  }
  for (const box of [page.documentElement, ...page.querySelectorAll(".content")]) {
    if (box.scrollWidth > box.clientWidth + 1) yield `scrolls sideways: <${box.localName}> is ${box.scrollWidth} px wide`;
  }
}

function* pictures(page) {
  for (const image of page.images) {
    if (!image.naturalWidth) yield `no picture: ${image.src}`;
    if (!image.alt) yield `no words in place of ${image.src}`;
    if (/\.svg|svg\+xml/.test(image.src) && image.clientWidth < Math.min(image.naturalWidth, NARROWEST)) yield `a small picture: ${image.src}`;
  }
  if (!page.title) yield "no title";
}

const opened = (name, width) =>
  new Promise((done) => {
    const frame = Object.assign(document.createElement("iframe"), { src: name, width, height: 900 });
    frame.style.border = "0";
    frame.addEventListener("load", () => done(frame));
    document.body.append(frame);
  });

const judge = async (name, width) => {
  const frame = await opened(name, width);
  const page = frame.contentDocument;
  const style = (element) => frame.contentWindow.getComputedStyle(element);
  // A colour that changes slowly is not yet the one of its scheme.
  page.head.append(Object.assign(page.createElement("style"), { textContent: "* { transition: none !important }" }));
  const found = [...outside(page, style, page.documentElement.clientWidth), ...pictures(page)];
  for (const scheme of SCHEMES) {
    page.body.dataset.theme = scheme;
    found.push(...[...faint(page, style)].map((complaint) => `${scheme}: ${complaint}`));
  }
  frame.remove();
  return [...new Set(found)].map((complaint) => `${name}, ${width} px: ${complaint}`);
};

addEventListener("load", async () => {
  const waiting = PAGES.flatMap((name) => WIDTHS.map((width) => [name, width]));
  const found = [];
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) found.push(...(await judge(...next)));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  document.getElementById("told").append(JSON.stringify(found.sort()));
});
