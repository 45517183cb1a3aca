/*
 * How the search ranks. Sphinx's own finds only pages that have every word of a question, in any place. This one takes
 * the pages that have some of the words. A word that few pages have counts more, one in a title or heading more again, and
 * one of a long page less. A result leads to the heading that fits best. It reads the index that Sphinx has written.
 */
"use strict";

// Words by which people ask, and the words of these pages for them: docs/glossary.md.
const SAME_WORDS = {
  dogpile: "stampede", dogpiling: "stampede", herd: "stampede", coalesce: "stampede", lock: "lease", mutex: "lease",
  locking: "lease", concurrent: "stampede", monitoring: "metrics", monitor: "metrics", statistics: "metrics", stats: "metrics",
  namespace: "prefix", serialize: "json", serializable: "json", serializer: "json", serialization: "json", pickle: "json",
  encoder: "json", pydantic: "model", unavailable: "outage", down: "outage", broken: "fault", fallback: "stale",
  authentication: "password", auth: "password", ssl: "tls", https: "tls", certificate: "tls", remove: "invalidate",
  clear: "invalidate", delete: "invalidate", purge: "invalidate", flush: "clear", evict: "invalidate", expire: "ttl",
  expiration: "ttl", expiry: "ttl", bulk: "batch", multi: "batch", multiget: "batch", pytest: "tests", unittest: "tests",
  mock: "tests", disable: "off", deactivate: "off", builder: "template", transaction: "commit", rollback: "commit",
  local: "near", memory: "near", client: "near", preload: "warm", warmup: "warm", tracing: "traces", observability: "metrics",
  gdpr: "erase", multitenant: "tenant", migrate: "deploys", upgrade: "deploys", sync: "synchronous",
};

const rankPages = () => {
  const stemmer = new Stemmer();
  const stem = (word) => stemmer.stemWord(word.toLowerCase());
  const list = (found) => (found === undefined ? [] : typeof found === "number" ? [found] : found);
  const own = (index, word) => list(Object.hasOwn(index, word) ? index[word] : undefined);
  const same = new Map(Object.entries(SAME_WORDS).map(([word, other]) => [stem(word), stem(other)]));
  const { terms, titleterms, alltitles, titles, docnames, filenames } = Search._index;

  const lengths = titles.map(() => 0);
  Object.values(terms).forEach((files) => list(files).forEach((file) => (lengths[file] += 1)));
  const usual = lengths.reduce((sum, length) => sum + length, 0) / lengths.length;

  const headings = titles.map(() => []);
  Object.entries(alltitles).forEach(([text, places]) => {
    const words = new Set(splitQuery(text).map(stem));
    places.forEach(([file, id]) => headings[file].push({ text, id, words }));
  });

  // How much one word says about each page: by its place, its rareness, and the length of the page.
  const weights = (word, part) => {
    const found = new Map();
    const inText = own(terms, word), inTitles = own(titleterms, word);
    const pages = new Set([...inText, ...inTitles]);
    const rare = Math.log(1 + (titles.length - pages.size + 0.5) / (pages.size + 0.5));
    pages.forEach((file) => {
      const inTitle = splitQuery(titles[file]).map(stem).includes(word);
      const place = inTitle ? 4 : inTitles.includes(file) ? 2 : 1;
      found.set(file, (part * rare * place) / (0.4 + (0.6 * lengths[file]) / usual));
    });
    return found;
  };

  const heading = (file, words) => {
    const fit = (one) => words.filter((word) => one.words.has(word)).length;
    return headings[file].reduce((best, one) => (one.id !== null && fit(one) > (best ? fit(best) : 0) ? one : best), null);
  };

  return (searchTerms, excludedTerms) => {
    const scores = new Map();
    const asked = [...searchTerms].flatMap((word) => (same.has(word) ? [[word, 0.7], [same.get(word), 0.7]] : [[word, 1]]));
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
  let ranked = null;
  Search.performTermsSearch = (...words) => (ranked ??= rankPages())(...words);
}
