// SPDX-License-Identifier: MIT
// Keeps the page fresh: the server draws the state, this puts its newest drawing in place; plots are drawn here.

import { Plot } from "./plot.js";

const EVERY_MS = 10000;
const FRESH = ["asof", "stages", "troubles", "overall"];
const stale = document.getElementById("stale");
let lastAnswer = Date.now();

/** The page as the server draws it now, as a document. No markup is made from text here. */
function fetchDocument(path) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", path);
    request.responseType = "document";
    request.timeout = EVERY_MS - 1000;
    request.onload = () => (request.status === 200 && request.response ? resolve(request.response) : reject());
    request.onerror = request.ontimeout = () => reject();
    request.send();
  });
}

/** Put what has changed in place; what hasn't stays, so that a screen reader isn't told it again. */
function take(fresh) {
  document.title = fresh.title;
  for (const id of FRESH) {
    const old = document.getElementById(id);
    const young = fresh.getElementById(id);
    if (!young || old.isEqualNode(young)) continue;
    old.className = young.className;
    old.replaceChildren(...young.childNodes);
  }
}

const PLOTS = {
  records: ["count", { column: "received_s", label: "in" }, { column: "stored_s", label: "to Redis" }],
  waiting: ["count", { column: "waiting", label: "" }],
  oldest: ["seconds", { column: "oldest_s", label: "" }],
  answered: ["count", { column: "answered_s", label: "" }],
  answer: ["milliseconds", { column: "answer_ms", label: "" }],
  commit: ["milliseconds", { column: "commit_ms", label: "" }],
};
const HOUR_S = 3600;
let plots = [];
let rows = [];
let next = 0;
let started = 0;

/** Fetch the rows that came since the last time, and draw them. */
async function refreshPlots() {
  let answer = await (await fetch(`/api/history?after=${next}`)).json();
  if (answer.started !== started && started) answer = await (await fetch("/api/history")).json(); // numbered anew
  started = answer.started;
  const added = answer.rows.map((row) => Object.fromEntries(answer.columns.map((name, at) => [name, row[at]])));
  const newest = added.at(-1)?.time ?? 0;
  rows = [...rows, ...added].filter((row) => row.time > newest - HOUR_S - answer.step_s || !added.length);
  next = answer.next;
  if (!rows.length) return;
  document.getElementById("plots").hidden = false;
  if (!plots.length) {
    plots = [...document.querySelectorAll("[data-plot]")].map((figure) => {
      const [unit, ...lines] = PLOTS[figure.dataset.plot];
      return new Plot(figure, unit, lines);
    });
  }
  if (added.length) plots.forEach((plot) => plot.show(rows, answer.utc_offset_s));
}

async function refresh() {
  try {
    take(await fetchDocument("/"));
    await refreshPlots();
    lastAnswer = Date.now();
    stale.hidden = true;
  } catch {
    const seconds = Math.round((Date.now() - lastAnswer) / 1000);
    const text = `slurmjcd gives no answer. What is below is ${seconds} s old.`;
    if (stale.textContent !== text) stale.textContent = text;
    stale.hidden = false;
  }
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && Date.now() - lastAnswer > EVERY_MS) refresh();
});
setTimeout(keepFresh, EVERY_MS);
refreshPlots().catch(() => {}); // if it fails, the next round says so
