// SPDX-License-Identifier: MIT
// Keeps the page fresh: the server draws the state, this puts its newest drawing in place.

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

async function refresh() {
  try {
    take(await fetchDocument("/"));
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
