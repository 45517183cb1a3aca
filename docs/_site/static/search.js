/*
 * How the search ranks. Sphinx's own finds only pages that have every word of a question, in any place. This one takes
 * the pages that have some of the words. A word that few pages have counts more, one in a title or heading more again, and
 * one of a long page less. A result leads to the heading that fits best. It reads the index that Sphinx has written.
 */
"use strict";

// Words by which people ask, and the words of these pages for them: docs/glossary.md.
const SAME_WORDS = {
  dogpile: "stampede", dogpiling: "stampede", herd: "stampede", coalesce: "stampede", lock: "stampede", mutex: "lease",
  locking: "stampede", concurrent: "stampede", monitoring: "metrics", monitor: "metrics", statistics: "metrics", stats: "metrics",
  namespace: "prefix", serialize: "json", serializable: "json", serializer: "json", serialization: "json", pickle: "json",
  encoder: "json", pydantic: "model", unavailable: "outage", down: "outage", broken: "fault", fallback: "stale",
  authentication: "password", auth: "password", ssl: "tls", https: "tls", certificate: "tls", remove: "invalidate",
  clear: "invalidate", delete: "invalidate", purge: "invalidate", flush: "clear", evict: "invalidate",
  force: "refresh", reload: "refresh", bulk: "batch", multi: "batch", multiget: "batch", pytest: "tests", unittest: "tests",
  mock: "tests", deactivate: "disable", builder: "template", transaction: "commit", rollback: "commit",
  local: "near", preload: "warm", warmup: "warm", tracing: "traces", observability: "metrics",
  gdpr: "erase", multitenant: "tenant", migrate: "deploys", upgrade: "deploys", sync: "synchronous",
};

// Words of questions that say little about the answer.
const ASKING_WORDS = [
  "able", "add", "allow", "cache", "cached", "caching", "example", "feature", "function", "functionality", "get", "help",
  "implement", "issue", "library", "make", "making", "need", "option", "please", "possible", "problem", "question", "redis",
  "request", "support", "supporting", "use", "using", "value", "want", "way", "work",
];

// How much more a word counts in the title of a page, and in one of its headings, than in the text of a usual page.
const TITLE = 1.5;
const HEADING = 0.7;

const rankPages = () => {
  const stemmer = new Stemmer();
  const stem = (word) => stemmer.stemWord(word.toLowerCase());
  const list = (found) => (found === undefined ? [] : typeof found === "number" ? [found] : found);
  const own = (index, word) => list(Object.hasOwn(index, word) ? index[word] : undefined);
  const asking = new Set(ASKING_WORDS.map(stem));
  const same = new Map(Object.entries(SAME_WORDS).map(([word, other]) => [stem(word), stem(other)]));
  const { terms, titleterms, alltitles, titles, docnames, filenames } = Search._index;

  const lengths = titles.map(() => 0);
  Object.values(terms).forEach((files) => list(files).forEach((file) => (lengths[file] += 1)));
  const usual = lengths.reduce((sum, length) => sum + length, 0) / lengths.length;

  const pageTitles = titles.map((title) => new Set(splitQuery(title).map(stem)));
  const headings = titles.map(() => []);
  Object.entries(alltitles).forEach(([text, places]) => {
    const words = new Set(splitQuery(text).map(stem));
    places.forEach(([file, id]) => headings[file].push({ text, id, words }));
  });

  // How much one word says about each page: by its rareness in titles, in headings, and in text, there by the length as well.
  const rareness = (count) => Math.log(1 + (titles.length - count + 0.5) / (count + 0.5));
  const weights = (word, part) => {
    const found = new Map();
    const inText = own(terms, word), inHeadings = own(titleterms, word);
    const inTitles = inHeadings.filter((file) => pageTitles[file].has(word));
    const add = (files, weight) => files.forEach((file) => found.set(file, (found.get(file) ?? 0) + part * weight(file)));
    add(inText, (file) => rareness(inText.length) / (0.4 + (0.6 * lengths[file]) / usual));
    add(inHeadings, () => HEADING * rareness(inHeadings.length));
    add(inTitles, () => TITLE * rareness(inTitles.length));
    return found;
  };

  // A word that no page has may be the beginning of some.
  const all = [...new Set([...Object.keys(terms), ...Object.keys(titleterms)])];
  const completed = (word) =>
    same.has(word) || own(terms, word).length || own(titleterms, word).length || word.length < 3
      ? [word]
      : all.filter((other) => other.startsWith(word)).slice(0, 5);

  const heading = (file, words) => {
    const fit = (one) => words.filter((word) => one.words.has(word)).length;
    return headings[file].reduce((best, one) => (one.id !== null && fit(one) > (best ? fit(best) : 0) ? one : best), null);
  };

  return (searchTerms, excludedTerms) => {
    const scores = new Map();
    const many = searchTerms.size > 2;
    const words = [...searchTerms].flatMap((word) => [...new Set([word, ...word.split("_").map(stem)])]).flatMap(completed);
    const asked = words.flatMap((word) =>
      same.has(word) ? [[word, 0.7], [same.get(word), 0.7]] : [[word, many && asking.has(word) ? 0.3 : 1]],
    );
    asked.forEach(([word, part]) =>
      weights(word, part).forEach((weight, file) => scores.set(file, (scores.get(file) ?? 0) + weight)),
    );
    excludedTerms.forEach((word) => [...own(terms, word), ...own(titleterms, word)].forEach((file) => scores.delete(file)));
    const most = Math.max(...scores.values());
    return [...scores]
      .filter(([, score]) => score > most / 5)
      .map(([file, score]) => {
        const best = heading(file, asked.map(([word]) => word));
        const title = best && best.text !== titles[file] ? `${titles[file]} > ${best.text}` : titles[file];
        const anchor = best && best.text !== titles[file] ? `#${best.id}` : "";
        return [docnames[file], title, anchor, null, (10 * score) / most, filenames[file], SearchResultKind.text];
      });
  };
};

if (typeof Search !== "undefined") {
  // The page that is called so comes before a member of some class that is.
  Scorer.title = 30;
  let ranked = null;
  Search.performTermsSearch = (...words) => (ranked ??= rankPages())(...words);
}
