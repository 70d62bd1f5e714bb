// Draws the tables of figures, and keeps a page that renews itself as its reader had it.
"use strict";

// The colours of series come from the style sheet, so that both looks have theirs. A property is
// a pair of colours until something is painted with it.
const probe = document.createElement("span");
probe.hidden = true;
function colour(name) {
  document.body.append(probe);
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

// Numbers along the axis, in the unit of the column.
const units = {
  share: (value) => `${Number((value * 100).toFixed(1))}%`,
  fen: (value) => `¥${(value / 100).toLocaleString()}`,
};

function read(table) {
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows];
  const value = (cell) => (cell.dataset.value === "" ? null : Number(cell.dataset.value));
  const unit = units[[...table.tHead.rows[0].cells].at(-1).dataset.kind];
  const numbers = heads
    .map((label, place) => ({ label, place }))
    .filter(({ place }) => rows[0].cells[place].dataset.value !== undefined);
  return {
    unit,
    labels: rows.map((row) => row.cells[0].textContent),
    series: numbers.map(({ label, place }) => ({
      label,
      data: rows.map((row) => value(row.cells[place])),
      shown: rows.map((row) => row.cells[place].textContent),
    })),
  };
}

function draw(figure) {
  const shape = figure.dataset.chart;
  const paint = (number) => colour(`--${figure.dataset.scale}-${(number % 8) + 1}`);
  const { labels, series, unit } = read(figure.querySelector("table"));
  const plot = figure.querySelector(".plot");
  plot.replaceChildren(document.createElement("canvas"));
  const stacked = shape === "stack";
  const axis = { stacked, border: { display: false }, ticks: { color: colour("--soft") } };
  new Chart(plot.firstChild, {
    type: shape === "line" ? "line" : "bar",
    data: {
      labels,
      datasets: series.map((one, number) => ({
        ...one,
        backgroundColor: paint(number),
        borderColor: paint(number),
        borderWidth: shape === "line" ? 2 : 0,
        pointRadius: labels.length > 40 ? 0 : 3,
        maxBarThickness: 48,
        spanGaps: true,
      })),
    },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { ...axis, grid: { display: false }, ticks: { ...axis.ticks, maxRotation: 0, autoSkipPadding: 12 } },
        y: {
          ...axis,
          beginAtZero: true,
          grid: { color: colour("--line") },
          ticks: { ...axis.ticks, ...(unit ? { callback: unit } : { precision: 0 }) },
        },
      },
      plugins: {
        legend: { display: series.length > 1, labels: { color: colour("--ink"), boxWidth: 12 } },
        tooltip: {
          callbacks: { label: (at) => `${at.dataset.label}: ${at.dataset.shown[at.dataIndex]}` },
        },
      },
    },
  });
}

function drawAll() {
  if (typeof Chart !== "undefined") document.querySelectorAll("[data-chart]").forEach(draw);
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelector(".menu [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
});

// A page that is slow to come says so; a file to keep leaves the page as it is.
const coming = (is) => document.body.classList.toggle("coming", is);
addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
  else coming(true);
});
addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const elsewhere = event.button || event.ctrlKey || event.metaKey || event.shiftKey;
  if (link && !elsewhere && !link.matches("[href^='#'], [data-file]")) coming(true);
});
addEventListener("pageshow", () => coming(false));

// A page that renews itself: not while its reader has stopped it, not if nothing changed.
let seen = "";
let opened = [];
let focused = null;
const stopped = () => document.getElementById("pause")?.getAttribute("aria-pressed") === "true";

document.addEventListener("click", (event) => {
  if (event.target.id !== "pause") return;
  event.target.setAttribute("aria-pressed", String(!stopped()));
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (stopped() || document.hidden) event.preventDefault();
});
document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-Seen"] = seen;
});
document.addEventListener("htmx:beforeSwap", (event) => {
  seen = (event.detail.xhr.getResponseHeader("ETag") || "").replaceAll('"', "");
  opened = [...document.querySelectorAll("details[open]")].map((one) => one.id);
  const link = document.activeElement?.closest("#live a[href]");
  focused = link && { to: link.getAttribute("href"), place: same(link.getAttribute("href")).indexOf(link) };
});
const same = (to) => [...document.querySelectorAll("#live a[href]")].filter((one) => one.getAttribute("href") === to);
document.addEventListener("htmx:afterSwap", () => {
  opened.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  if (focused) same(focused.to)[focused.place]?.focus({ preventScroll: true });
  document.body.classList.remove("cut-off");
  drawAll();
});
// The server went away: what is shown is old, and says so until it is back.
for (const name of ["htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(name, () => document.body.classList.add("cut-off"));
}
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) document.body.classList.remove("cut-off");
});
