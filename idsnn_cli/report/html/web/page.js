"use strict";
(() => {
  const map = document.getElementById("map");
  const svg = document.getElementById("lines");
  const nothing = document.getElementById("nothing");
  const panel = document.getElementById("panel");
  const nodes = [...map.querySelectorAll(".node")];
  const lines = [];
  let kept = null;
  let shown = null;

  const ends = (node) => node.dataset.ends.split(" ").filter(Boolean).map((id) => document.getElementById(id));

  function makeLines() {
    for (const left of nodes.filter((node) => node.id.startsWith("left-"))) {
      for (const right of ends(left)) {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        svg.append(path);
        lines.push({ path, left, right });
      }
    }
  }

  function placeLines() {
    const origin = map.getBoundingClientRect();
    for (const { path, left, right } of lines) {
      const from = left.getBoundingClientRect();
      const to = right.getBoundingClientRect();
      const x0 = from.right - origin.left;
      const y0 = from.top + from.height / 2 - origin.top;
      const x1 = to.left - origin.left;
      const y1 = to.top + to.height / 2 - origin.top;
      const bend = (x1 - x0) / 2;
      path.setAttribute("d", `M${x0} ${y0} C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`);
    }
  }

  function show(node) {
    if (shown === node) return;
    shown = node;
    const near = node ? ends(node) : [];
    for (const each of nodes) {
      each.setAttribute("aria-expanded", String(each === node));
      each.classList.toggle("near", near.includes(each));
      document.getElementById(each.getAttribute("aria-controls")).hidden = each !== node;
    }
    for (const { path, left, right } of lines) path.classList.toggle("near", left === node || right === node);
    nothing.hidden = Boolean(node);
    panel.scrollTop = 0;
  }

  function keep(node) {
    kept = node;
    for (const each of nodes) each.classList.toggle("kept", each === node);
  }

  for (const node of nodes) {
    node.addEventListener("pointerenter", (event) => { if (!kept && event.pointerType !== "touch") show(node); });
    node.addEventListener("focus", () => { if (!kept) show(node); });
    // Enter and Space arrive here as clicks, too.
    node.addEventListener("click", () => {
      keep(kept === node ? null : node);
      show(node);
      // From here the arrow keys scroll the details.
      if (kept) panel.focus({ preventScroll: true });
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const back = kept;
    keep(null);
    show(null);
    if (back) back.focus();
  });

  makeLines();
  placeLines();
  new ResizeObserver(placeLines).observe(map);
  JSON.parse(document.getElementById("document").textContent);
  document.documentElement.dataset.ready = String(lines.length);
})();
