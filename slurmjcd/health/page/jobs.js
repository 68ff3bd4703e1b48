// SPDX-License-Identifier: MIT
// Search and reports, for whoever has the token. It is kept in this tab's sessionStorage and sent as a header only;
// whatever a job is called becomes text, never markup.

const KEPT = "slurmjcd-token";
const ROWS = 100;
const ROWS_MAX = 500;
const root = document.getElementById("jobs");

class Refused extends Error {}

/** The answer to a question, as JSON; Refused when the token is not (any more) the right one. */
async function ask(path) {
  let answer;
  try {
    answer = await fetch(path, { headers: { Authorization: `Bearer ${sessionStorage.getItem(KEPT)}` } });
  } catch {
    throw new Error("slurmjcd gives no answer.");
  }
  const body = await answer.json().catch(() => ({ error: `an answer that is none, status ${answer.status}` }));
  if (answer.status === 401 || answer.status === 403) throw new Refused(body.error);
  if (!answer.ok) throw new Error(sentence(body.error));
  return body;
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

function cell(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  if (kind === "long") made.title = text;
  return made;
}

/** A table: `columns` are [title, kind], rows are lists of texts or nodes; the first of each is its header. */
function table(caption, columns, rows) {
  const made = document.createElement("table");
  made.className = "rows";
  const head = made.createTHead().insertRow();
  for (const [title, kind] of columns) {
    const header = cell("th", title, kind);
    header.scope = "col";
    head.append(header);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((value, at) => {
      const made = cell(at ? "td" : "th", value instanceof Node ? "" : value, columns[at][1]);
      if (!at) made.scope = "row";
      if (value instanceof Node) made.append(value);
      line.append(made);
    });
  }
  made.setAttribute("aria-label", caption);
  return made;
}

const number = (value) => value.toLocaleString("en");
const hours = (seconds) => (seconds / 3600).toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

function span(seconds) {
  const clock = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map((part) => String(Math.floor(part)).padStart(2, "0"));
  return clock.join(":");
}

/** A time in this browser's zone. */
function moment(epoch) {
  const there = new Date(epoch * 1000);
  const local = new Date(there.getTime() - there.getTimezoneOffset() * 60000);
  return local.toISOString().slice(0, 19).replace("T", " ");
}

function exit(status) {
  return status ? `${status.code}:${status.signal}` : "";
}

function jobsTable(answer) {
  const columns = [
    ["Job"], ["Name", "long"], ["User"], ["Account"], ["Partition"], ["State"], ["Exit", "number"], ["Ended"],
    ["Ran", "number"], ["Nodes", "long"],
  ];
  const rows = answer.jobs.map((job) => [
    job.id, job.name ?? "", job.user ?? String(job.uid ?? ""), job.account ?? "", job.partition ?? "", job.state,
    exit(job.exit_code), job.end ? moment(job.end) : "", span(job.elapsed_s), job.nodes ?? "",
  ]);
  return table("Jobs that were found", columns, rows);
}

function bar(share) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rect.setAttribute("width", `${Math.max(share * 100, 0.5)}%`);
  rect.setAttribute("height", "100%");
  svg.setAttribute("aria-hidden", "true");
  svg.append(rect);
  return svg;
}

function key(field, value) {
  if (value === null) return "(none)";
  if (field === "day") return new Date(value * 1000).toISOString().slice(0, 10);
  return field === "hour" ? `${new Date(value * 1000).toISOString().slice(0, 13)}:00Z`.replace("T", " ") : String(value);
}

function reportTable(answer) {
  const fields = answer.meta.by;
  const most = Math.max(...answer.groups.map((group) => group.jobs), 1);
  const columns = [
    ...fields.map((field) => [field[0].toUpperCase() + field.slice(1), "long"]), ["Jobs", "number"], ["", "bar"],
    ["Node-hours", "number"], ["CPU-hours", "number"], ["Mean wait", "number"], ["Mean run", "number"],
  ];
  const rows = answer.groups.map((group) => [
    ...fields.map((field) => key(field, group[field])), number(group.jobs), bar(group.jobs / most),
    hours(group.node_seconds), hours(group.cpu_seconds), span(group.wait_seconds / group.jobs), span(group.run_seconds / group.jobs),
  ]);
  const made = table("Groups of jobs", columns, rows);
  made.querySelector("thead .bar").setAttribute("aria-hidden", "true");
  made.querySelectorAll("tbody .bar").forEach((drawn) => drawn.setAttribute("aria-hidden", "true"));
  return made;
}

function query(form, limit) {
  const words = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    const text = value.trim();
    if (!text) continue;
    words.set(name, words.has(name) ? `${words.get(name)},${text}` : text);
  }
  // job ids mean these jobs, whenever they ended
  if (words.has("jobs")) words.delete("starttime");
  words.set("limit", limit);
  return words;
}

function setUp(form, { path, draw, say }) {
  const [wrong, found, scroll] = [".wrong", ".found", ".scroll"].map((name) => form.querySelector(name));
  const button = form.querySelector("button");
  let asked = 0;
  const run = async (limit) => {
    const mine = ++asked;
    button.setAttribute("aria-busy", "true");
    wrong.hidden = true;
    try {
      const answer = await ask(`${path}?${query(form, limit)}`);
      if (mine !== asked) return;
      const count = (answer.jobs ?? answer.groups).length;
      found.replaceChildren(say(answer));
      if (answer.meta.truncated && limit < ROWS_MAX) found.append(more(() => run(ROWS_MAX)));
      scroll.replaceChildren(...(count ? [draw(answer)] : []));
      scroll.hidden = !count;
    } catch (error) {
      if (mine !== asked) return;
      if (error instanceof Refused) return lock("The token is not valid any more.");
      wrong.textContent = error.message;
      wrong.hidden = false;
      found.replaceChildren();
      scroll.hidden = true;
    } finally {
      if (mine === asked) button.removeAttribute("aria-busy");
    }
  };
  scroll.tabIndex = 0; // so that the arrow keys can move what is wider than the page
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `Result of the ${form.id}`);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(ROWS);
  });
}

function more(run) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = `Show ${ROWS_MAX}`;
  button.addEventListener("click", run);
  const holder = document.createElement("span");
  holder.append(" ", button);
  return holder;
}

function sayJobs(answer) {
  const { runs } = answer.meta;
  if (!answer.jobs.length) return "No job matches.";
  if (answer.meta.truncated) return `The newest of ${number(runs)} runs of jobs. Times are this browser's.`;
  return `${number(answer.jobs.length)} ${answer.jobs.length === 1 ? "job" : "jobs"}, the newest first. Times are this browser's.`;
}

function sayGroups(answer) {
  const left = answer.meta.groups_left_out;
  if (!answer.groups.length) return "No job matches.";
  const all = `${number(answer.groups.length)} ${answer.groups.length === 1 ? "group" : "groups"}. Every run of a job counts; days and hours are UTC.`;
  return left ? `${all} ${number(left)} smaller ones are left out.` : all;
}

const unlockForm = document.getElementById("unlock");
const unlocked = document.getElementById("unlocked");
const wrongToken = document.getElementById("unlock-wrong");

function lock(why = "") {
  sessionStorage.removeItem(KEPT);
  unlocked.querySelectorAll(".scroll, .found").forEach((shown) => shown.replaceChildren());
  unlocked.querySelectorAll(".scroll").forEach((shown) => (shown.hidden = true));
  unlocked.hidden = true;
  unlockForm.hidden = false;
  wrongToken.textContent = why;
  wrongToken.hidden = !why;
}

async function unlock() {
  try {
    await ask("/api/token");
    unlockForm.hidden = true;
    unlocked.hidden = false;
    return true;
  } catch (error) {
    lock(error instanceof Refused ? "This is not the token." : error.message);
    return false;
  }
}

if (root) {
  root.hidden = false;
  setUp(document.getElementById("search"), { path: "/api/jobs", draw: jobsTable, say: sayJobs });
  setUp(document.getElementById("report"), { path: "/api/report", draw: reportTable, say: sayGroups });
  unlockForm.addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = document.getElementById("token");
    const token = field.value.trim();
    if (!/^[\x21-\x7e]+$/.test(token)) return lock("A token has no blanks and only letters, digits and signs of ASCII.");
    sessionStorage.setItem(KEPT, token);
    field.value = "";
    if (await unlock()) document.getElementById("f-jobs").focus();
    else field.focus();
  });
  document.getElementById("lock").addEventListener("click", () => {
    lock();
    document.getElementById("token").focus();
  });
  if (sessionStorage.getItem(KEPT)) unlock();
}
