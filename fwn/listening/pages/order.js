// The order of the trials: random, and always the same for one test and one listener.
"use strict";

// Random numbers in [0, 1), seeded by a text: FNV-1a into mulberry32.
function randomOf(text) {
  let h = 2166136261;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 16777619);
  return () => {
    h = (h + 0x6d2b79f5) | 0;
    let t = Math.imul(h ^ (h >>> 15), h | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(items, random) {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

// Avoids playing one utterance twice in a row. One that makes up more than half of the remaining items goes first.
function spread(items) {
  const left = [...items], out = [];
  const count = (u) => left.filter((item) => item.at(-1) === u).length;
  while (left.length) {
    const last = out.at(-1)?.at(-1);
    const many = left.findIndex((item) => item.at(-1) !== last && count(item.at(-1)) * 2 > left.length);
    const other = left.findIndex((item) => item.at(-1) !== last);
    out.push(...left.splice(Math.max(many, many < 0 ? other : 0, 0), 1));
  }
  return out;
}

// Each listener gets another order and other sides for A and B.
function trialsOf(listener) {
  const random = randomOf(`${TEST.id}/${listener}`);
  const mos = spread(shuffled(TEST.mos, random)).map(([clip]) => ({ kind: "mos", clips: [clip] }));
  const ab = spread(shuffled(TEST.ab, random)).map(([one, two]) => ({
    kind: "ab",
    clips: random() < 0.5 ? [one, two] : [two, one],
  }));
  return [...mos, ...ab];
}
