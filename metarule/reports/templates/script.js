"use strict";
for (const head of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const place = head.cellIndex, body = head.closest("table").tBodies[0];
    const order = head.ariaSort === "ascending" ? "descending" : "ascending", sign = order === "ascending" ? 1 : -1;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const number = (cell) => ("key" in cell.dataset ? Number(cell.dataset.key) : NaN);
    const compare = (one, other) => {
      const [a, b] = [number(one), number(other)];
      if (isNaN(a) && isNaN(b)) return sign * one.textContent.localeCompare(other.textContent);
      if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
      return a === b ? 0 : sign * (a < b ? -1 : 1);
    };
    body.append(...[...body.rows].sort((one, other) => compare(one.cells[place], other.cells[place])));
  });
}
for (const figure of document.querySelectorAll("figure")) {
  const parts = [...figure.querySelectorAll("[data-curve]")];
  const names = [...new Set(parts.map((part) => part.dataset.curve))];
  if (names.length < 2) continue;
  const list = document.createElement("div");
  list.className = "curves";
  for (const name of names) {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      for (const part of parts) if (part.dataset.curve === name) part.classList.toggle("off", !box.checked);
    });
    label.append(box, " ", name);
    list.append(label);
  }
  figure.append(list);
}
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) target.previousElementSibling.hidden = target.scrollWidth <= target.clientWidth;
});
for (const frame of document.querySelectorAll(".frame")) {
  const hint = document.createElement("p");
  Object.assign(hint, { className: "hint", textContent: "scroll sideways for more →", hidden: true });
  frame.before(hint);
  resized.observe(frame);
}
if (typeof refresh === "number") {
  setInterval(async () => {
    const answer = await fetch("/", { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (answer && answer.ok && answer.headers.get("ETag") !== JSON.stringify(shown)) location.reload();
  }, 1000 * refresh);
}
