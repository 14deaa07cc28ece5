"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const say = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; say(); });
  say();

  for (const block of document.querySelectorAll("[data-rows]")) {
    const body = block.querySelector("tbody");
    const rows = [...body.rows];
    const search = block.querySelector("input");
    const status = block.querySelector("select[data-status-filter]");
    const order = block.querySelector("select[data-order]");
    const count = block.querySelector("output");
    // "amelie" finds "Amélie".
    const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
    const texts = new Map(rows.map((row) => [row, plain(row.textContent)]));
    block.querySelector(".filters").hidden = false;
    const filter = () => {
      const words = plain(search.value).split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const fits = (!status.value || row.dataset.status === status.value)
          && words.every((word) => texts.get(row).includes(word));
        row.hidden = !fits;
        shown += fits;
      }
      count.textContent = `${shown} of ${rows.length} rows shown`;
    };
    search.addEventListener("input", filter);
    status.addEventListener("change", filter);
    filter();
    const heads = [...block.querySelectorAll("th")];
    const collator = new Intl.Collator(undefined, { numeric: true });
    const sort = () => {
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      if (!order.value) { body.append(...rows); return; }
      const [place, way] = order.value.split(" ");
      const up = way === "up";
      heads[place].setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[place].textContent.trim();
      body.append(...[...rows].sort((a, b) => collator.compare(key(a), key(b)) * (up ? 1 : -1)));
    };
    order.addEventListener("change", sort);
    heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
      order.value = `${place} ${head.getAttribute("aria-sort") === "ascending" ? "down" : "up"}`;
      sort();
    }));
  }

  const opened = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      opened.push(details);
    }
  });
  addEventListener("afterprint", () => { for (const details of opened.splice(0)) details.open = false; });
})();
