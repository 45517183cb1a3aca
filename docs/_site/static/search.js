/*
 * How the search ranks. Sphinx's own finds only pages that have every word of a question, in any place. This one looks at
 * sections: a word counts more the fewer sections have it, the more often a section has it, in a heading, and in a short
 * section. A page is as good as its best sections, and a little as good as it is as a whole. A result leads to its best
 * section. It reads sections.js, which sections.py writes.
 */
"use strict";

// Words by which people ask: and the words of these pages for them, which docs/glossary.md explains.
const SYNONYMS = `
  accessible broken crash dead down inaccessible outage resilience resilient robust unavailable unreachable: outage fault
  acl denied: permission right
  arg args argument arguments keyword kwargs param parameter parameters params positional: argument parameter
  atomic atomically consume getdel nonce once onetime otp singleuse: take once
  auth auth_pass authentication elasticache entra iam login rotate rotation username: credentials password
  authenticated authorised authorization authorized bearer identity personal: user
  based depending dynamic: depend
  blocking def non nonasync sync synchronous: synchronous thread
  bounded capacity lfu lru max maxsize size: maxsize bytes limit
  browse console contents inspect introspect list show: look
  builder: template key
  bulk mget mset multi multiget multiple: batch
  bust clear del delete drop evict eviction forget purge remove reset wipe: invalidate remove
  bypass force forced ignore recalculate recompute regenerate reload renew skip: refresh
  ca cert certificate https pem selfsigned ssl: tls certificate
  cancel cancellation cancelled: cancelled
  cascade collection depend dependencies dependency dependent glob group pattern region related wildcard: tag group
  celery container containers distributed fork gunicorn kubernetes multiprocess multiprocessing pod pods uvicorn worker: process worker
  clientside inmemory l1 l2 layer layered local multilevel tier: near
  coalesce dogpile dogpiling herd lock locking locks mutex redlock: stampede
  coder decoder deserialization deserialize encoder msgpack pickle serializable serialization serialize serializer unpickle: json
  coherence sync synchronize: near report
  compress compressed gzip lz4 zlib: compression
  condition conditional conditionally unless: condition store
  cookie etag max-age: header
  copy deepcopy immutable modified modify mutable mutate mutated mutation: change copy
  crud patch post put: write
  custom existing inject own pass passing provide: inject
  dataclass pydantic schema: model
  datadog monitor monitoring observability statistics stats statsd: metrics
  deactivate: disable off
  deploy deployment obsolete release restart rollout upgrade version: release deploys
  dragonfly keydb memorystore valkey: server valkey
  duration seconds time: ttl
  empty nil null: none
  encrypt encrypted encryption pii plaintext secret sensitive: seal private
  error exception fail failing failure: fail raise error
  executor thread threading threads: thread
  expiration expiry lifetime sliding: ttl expire
  fall fallback: stand stale
  flush: clear invalidate
  freeze hang hangs hung stuck timeout timeouts: hang deadline timeout
  gdpr: erase
  host instance machine node: process
  immediate immediately instantly: once wait
  jaeger otel sentry span spans trace tracing: opentelemetry span trace
  logger logging logs noise spam verbose: log record
  memo memoisation memoise memoization memoize: decorate memoization
  grow grows growth maxmemory memory oom ram unbounded: memory maxmemory
  mock pytest unittest: tests
  multitenant: tenant
  mutex: lease
  mypy paramspec pyright signature typed typehint typing: annotation checker
  namespace: prefix
  old outdated: stale old
  outcome output response return returned returning: result
  passkey webauthn: challenge passkey
  pool: connection
  prefill preheat preload prewarm prime startup warmup: warm
  random: jitter
  ratio report summary: metrics
  resource resources storage usage: memory store
  rollback transaction: commit
`;

// Words of questions that say little about the answer.
const ASKING_WORDS = `
  able action add allow avoid cache cached caching case decorated decorator error example exception feature function
  functionality get happen happens help implement issue library make making need option per please possible prevent
  problem question record redis request return returned returning returns single support supporting tell use using value
  want way work
`;

// Pages that few questions are about, or more than usual: a part of a name, and how much their words count.
const PAGES = [
  [/(^|\/)index$/, 0.4],
  [/^(changelog|contributing|releasing|writing-coach)$/, 0.6],
  [/^(migrate\/|tutorial)/, 0.6],
  [/^(benchmarks|performance|glossary)$/, 0.7],
  [/^reference\/api\//, 0.8],
  [/^(architecture|consistency|faults|promises)$/, 0.9],
  [/^(how-to\/|operations|testing|faq)/, 1.1],
  [/^reference\//, 1.1],
];

// How much a word counts in the title of the page, in the heading of a section, in one above it, and in its code, in place
// of once in its text; a synonym, and a word that says little, in place of a word.
const TITLE = 6, HEADING = 5, ABOVE = 1.6, CODE = 0.1, SYNONYM = 0.85, LITTLE = 0.3;
// How much a page counts as a whole beside its best section, and the best sections behind that, each half of the one before.
const WHOLE = 0.3, OTHERS = 0.4;
// How much a text that is twice as long as usual takes from a word, and how soon a word that comes again counts no more.
const LENGTH = { section: 0.6, page: 0.4 }, AGAIN = 2.5;

const wordsOf = (text) =>
  splitQuery(text)
    .flatMap((word) => {
      const parts = word.replace(/([a-z0-9])([A-Z])/g, "$1_$2").split("_").filter((part) => part);
      return parts.length > 1 ? [word, ...parts] : [word];
    })
    .map((word) => word.toLowerCase())
    .filter((word) => !stopwords.has(word) && !/^\d+$/.test(word));

/* The index: what a word says about each section, and about each page. A word is looked up when it is asked for. */
class Index {
  constructor(stem) {
    this.pages = Object.keys(SECTIONS.places);
    this.sections = this.pages.flatMap((page, file) =>
      SECTIONS.places[page].map(([anchor, heading, level, size]) => ({ file, anchor, heading, level, size })),
    );
    this.pageSizes = this.pages.map((page) => SECTIONS.places[page].reduce((sum, place) => sum + place[3], 0));
    const words = this.pageSizes.reduce((sum, size) => sum + size, 0);
    this.usual = { section: words / this.sections.length, page: words / this.pages.length };
    this.headings = this.readHeadings(stem);
  }

  /* Map of word -> Map of section -> how much it counts that the word is in its heading, or in one above it. */
  readHeadings(stem) {
    const headings = new Map();
    const above = [];
    const add = (word, section, weight) => {
      if (!headings.has(word)) headings.set(word, new Map());
      headings.get(word).set(section, weight);
    };
    this.sections.forEach(({ heading, level }, section) => {
      above.length = level;
      above.flatMap((words) => words).forEach((word) => add(word, section, ABOVE));
      above[level] = wordsOf(heading).map(stem);
      above[level].forEach((word) => add(word, section, level ? HEADING : TITLE));
    });
    return headings;
  }

  has(word) {
    return Object.hasOwn(SECTIONS.words, word) || this.headings.has(word);
  }

  /* Map of section -> how often it has the word. */
  counts(word) {
    const counts = new Map();
    let section = 0;
    (Object.hasOwn(SECTIONS.words, word) ? SECTIONS.words[word].split(" ") : []).forEach((one) => {
      const [distance, count] = one.split("*");
      section += parseInt(distance, 36);
      counts.set(section, count === undefined ? 1 : Number(count) || CODE);
    });
    return counts;
  }

  /* What a word says: Map of section -> weight, and Map of page -> weight. */
  weights(word) {
    const counts = this.counts(word);
    const ofSections = new Map(), ofPages = new Map();
    const add = (weights, place, by) => weights.set(place, (weights.get(place) ?? 0) + by);
    counts.forEach((count, section) => {
      const { file, size } = this.sections[section];
      add(ofSections, section, count / (1 - LENGTH.section + (LENGTH.section * size) / this.usual.section));
      add(ofPages, file, count / (1 - LENGTH.page + (LENGTH.page * this.pageSizes[file]) / this.usual.page));
    });
    const pages = ofPages.size;
    this.headings.get(word)?.forEach((weight, section) => {
      add(ofSections, section, weight);
      if (weight === TITLE) add(ofPages, this.sections[section].file, TITLE);
    });
    const said = (weights, had, all) => {
      const rareness = Math.log(1 + (all - (had || 0.5) + 0.5) / ((had || 0.5) + 0.5));
      weights.forEach((count, place) => weights.set(place, (rareness * count * (AGAIN + 1)) / (count + AGAIN)));
      return weights;
    };
    return [said(ofSections, counts.size, this.sections.length), said(ofPages, pages, this.pages.length)];
  }
}

/* Whether one letter more, less or other, or two that have changed places, makes one word of the other. */
const isTypo = (one, other) => {
  const [short, long] = one.length <= other.length ? [one, other] : [other, one];
  if (long.length - short.length > 1 || short[0] !== long[0]) return false;
  let at = 0;
  while (short[at] === long[at] && at < short.length) at += 1;
  const same = (from, to) => short.slice(at + from) === long.slice(at + to);
  const changed = short[at] === long[at + 1] && short[at + 1] === long[at] && same(2, 2);
  return long.length > short.length ? same(0, 1) : same(1, 1) || changed;
};

const rankPages = () => {
  const stemmer = new Stemmer();
  const stem = (word) => stemmer.stemWord(word);
  const stemsOf = (text) => text.split(/\s+/).filter((word) => word).map(stem);
  const index = new Index(stem);
  const little = new Set(stemsOf(ASKING_WORDS));
  const synonyms = new Map();
  SYNONYMS.trim().split("\n").forEach((line) => {
    const [asked, written] = line.split(":").map(stemsOf);
    asked.forEach((word) => synonyms.set(word, [...(synonyms.get(word) ?? []), ...written]));
  });

  // A word that no page has may be the beginning of some, or have a letter that is wrong.
  const meant = (word) => {
    if (synonyms.has(word) || index.has(word) || word.length < 3) return [word];
    const all = Object.keys(SECTIONS.words);
    const begun = all.filter((other) => other.startsWith(word));
    return (begun.length || word.length < 5 ? begun : all.filter((other) => isTypo(word, other))).slice(0, 5);
  };

  // For each word that was asked: it and its synonyms, and how much each of them counts.
  const ask = (query) => {
    const asked = [...new Set(wordsOf(query).map(stem))];
    return asked.map((word) => {
      const part = asked.length > 2 && little.has(word) ? LITTLE : 1;
      const others = (synonyms.get(word) ?? []).map((other) => [other, part * SYNONYM]);
      return new Map([...others, ...meant(word).map((one) => [one, part])]);
    });
  };

  // The sum over the words that were asked. Of a word and its synonyms the one that says most counts.
  const score = (asked) => {
    const sums = [new Map(), new Map()];
    asked.forEach((forms) => {
      const best = [new Map(), new Map()];
      forms.forEach((part, word) =>
        index.weights(word).forEach((weights, kind) =>
          weights.forEach((weight, place) => best[kind].set(place, Math.max(best[kind].get(place) ?? 0, part * weight))),
        ),
      );
      best.forEach((weights, kind) =>
        weights.forEach((weight, place) => sums[kind].set(place, (sums[kind].get(place) ?? 0) + weight)),
      );
    });
    return sums;
  };

  return (query) => {
    const [ofSections, ofPages] = score(ask(query));
    const best = index.pages.map(() => []);
    ofSections.forEach((weight, section) => best[index.sections[section].file].push([weight, index.sections[section]]));
    return index.pages
      .map((page, file) => {
        const found = best[file].sort((one, other) => other[0] - one[0]).slice(0, 4);
        const many = found.reduce((sum, [weight], place) => sum + weight * (place ? OTHERS / 2 ** (place - 1) : 1), 0);
        const [, kind] = PAGES.find(([name]) => name.test(page)) ?? [null, 1];
        return { page, score: kind * (many + WHOLE * (ofPages.get(file) ?? 0)), section: found[0]?.[1] };
      })
      .filter((found) => found.section);
  };
};

if (typeof Search !== "undefined") {
  // The page that is called so comes before a member of some class that is.
  Scorer.title = 30;
  let ranked = null;
  let asked = "";
  const perform = Search._performSearch;
  // The words as they were written: the others have lost their capitals.
  Search._performSearch = (query, ...words) => perform((asked = query), ...words);
  Search.performTermsSearch = () => {
    const found = (ranked ??= rankPages())(asked);
    const most = Math.max(...found.map(({ score }) => score));
    const { docnames, filenames, titles } = Search._index;
    return found
      .filter(({ score }) => score > most / 5)
      .map(({ page, score, section }) => {
        const file = docnames.indexOf(page);
        const title = section.level ? `${titles[file]} > ${section.heading}` : titles[file];
        const anchor = section.level ? `#${section.anchor}` : "";
        return [page, title, anchor, null, (10 * score) / most, filenames[file], SearchResultKind.text];
      });
  };
}
