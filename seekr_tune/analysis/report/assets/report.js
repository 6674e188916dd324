"use strict";
(() => {
  const NARROW = 560; // pixels: below, a figure takes its narrow layout
  const PRINT_WIDTH = 680; // pixels: what fits on a page of A4 or Letter
  const template = JSON.parse(document.getElementById("figure-template").textContent);
  const canvases = [...document.querySelectorAll("[data-figure]")];
  let isPrinting = false; // the width of the window says nothing then
  const drawn = new Map(); // canvas -> whether it was drawn in its narrow layout

  // "yaxis2.domain" or "annotations[0].x" of a layout
  const assign = (layout, path, value) => {
    const keys = path.replace(/\[(\d+)\]/g, ".$1").split(".");
    const last = keys.pop();
    keys.reduce((inner, key) => (inner[key] ??= {}), layout)[last] = value;
  };

  const draw = (canvas, width = isPrinting ? PRINT_WIDTH : canvas.clientWidth) => {
    const figure = JSON.parse(canvas.closest("figure").querySelector("script").textContent);
    const layout = { ...figure.layout, template, autosize: true };
    const isNarrow = width > 0 && width < NARROW;
    if (isNarrow) {
      for (const [path, value] of Object.entries(layout.meta?.narrow ?? {})) assign(layout, path, value);
    }
    if (width > 0) layout.width = width;
    canvas.style.height = `${layout.height}px`;
    drawn.set(canvas, isNarrow);
    return Plotly.react(canvas, figure.data, layout, { displaylogo: false });
  };

  const fit = (canvas) => {
    const width = canvas.clientWidth;
    if (isPrinting || width === 0 || canvas.layout?.width === width) return;
    if (drawn.get(canvas) !== width < NARROW) draw(canvas);
    else Plotly.relayout(canvas, { width });
  };

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      if (drawn.has(entry.target)) fit(entry.target);
      else draw(entry.target);
    }
  }, { rootMargin: "300px" });
  for (const canvas of canvases) observer.observe(canvas);

  let resized;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => drawn.forEach((_, canvas) => fit(canvas)), 150);
  });

  const drawAll = () => Promise.all(canvases.filter((canvas) => !drawn.has(canvas)).map((canvas) => draw(canvas)));
  addEventListener("beforeprint", () => {
    isPrinting = true;
    for (const canvas of canvases) if (canvas.offsetParent) draw(canvas);
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      details.dataset.openedForPrint = "";
    }
  });
  addEventListener("afterprint", () => {
    isPrinting = false;
    drawn.forEach((_, canvas) => fit(canvas));
    for (const details of document.querySelectorAll("details[data-opened-for-print]")) {
      details.open = false;
      delete details.dataset.openedForPrint;
    }
  });

  // Panels: choosing a run shows it in every section that has it.
  const choosers = [...document.querySelectorAll("[data-chooses]")];
  const show = (chooser, value) => {
    chooser.value = value;
    for (const panel of document.querySelectorAll(`[data-panel="${chooser.dataset.chooses}"]`)) {
      panel.hidden = panel.dataset.value !== value;
    }
  };
  for (const chooser of choosers) {
    chooser.addEventListener("change", () => {
      for (const other of choosers) {
        if ([...other.options].some((option) => option.value === chooser.value)) show(other, chooser.value);
      }
    });
    show(chooser, chooser.value); // a browser may remember another choice than the first
  }

  // The ranking: sorted by its headings, filtered by text, method and status.
  const table = document.getElementById("ranking-table");
  const body = document.getElementById("ranking-rows");
  const headings = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  const compare = (column, isText, sign) => (one, other) => {
    const a = one.cells[column].dataset.sort;
    const b = other.cells[column].dataset.sort;
    if (a === "" || b === "") return (a === "") - (b === ""); // what has no value comes last, either way
    return sign * (isText || isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const isAscending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", isAscending ? "descending" : "ascending");
      rows.sort(compare(column, heading.dataset.kind === "text", isAscending ? -1 : 1));
      body.append(...rows);
    });
  });

  const filters = {
    text: document.getElementById("filter-text"),
    method: document.getElementById("filter-method"),
    status: document.getElementById("filter-status"),
  };
  const filter = () => {
    const words = filters.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = texts.get(row);
      row.hidden = !(
        words.every((word) => text.includes(word)) &&
        ["", row.dataset.method].includes(filters.method.value) &&
        ["", row.dataset.status].includes(filters.status.value)
      );
      shown += !row.hidden;
    }
    document.getElementById("filter-count").textContent = `${shown} of ${rows.length} configurations`;
  };
  for (const input of Object.values(filters)) input.addEventListener("input", filter);
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
  filter();

  for (const box of document.querySelectorAll("[data-group]")) {
    const apply = () => table.classList.toggle(`hide-${box.dataset.group}`, !box.checked);
    box.addEventListener("change", apply);
    apply();
  }

  window.seekrReport = { drawAll };
})();
