"use strict";
(() => {
  // Sort a table by a column.
  const valueAt = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" || Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  const sort = (heading, column) => {
    const body = heading.closest("table").tBodies[0];
    const rows = [...body.rows];
    const isNumber = typeof valueAt(rows[0], column) === "number";
    const first = isNumber ? "descending" : "ascending";
    const second = isNumber ? "ascending" : "descending";
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    rows.sort((a, b) => sign * compare(valueAt(a, column), valueAt(b, column)));
    body.append(...rows);
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    if (!table.tBodies[0].rows.length) continue;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      if (table.tBodies[0].rows[0].cells[column].querySelector(".map")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      button.addEventListener("click", () => sort(heading, column));
    });
  }

  // Show the neuron of the point under the mouse.
  const show = (link) => {
    const row = document.getElementById(link.getAttribute("href").slice(1));
    const card = link.closest("figure").querySelector(".card");
    const headings = row.closest("table").tHead.rows[0].cells;
    const lines = [...row.cells].flatMap((cell, column) => {
      const text = cell.textContent.trim();
      if (!text) return [];
      const line = document.createElement("p");
      line.textContent = `${headings[column].textContent}: ${text}`;
      return [line];
    });
    const words = document.createElement("div");
    words.append(...lines);
    const large = document.createElement("span");
    large.className = "large";
    large.append(row.querySelector(".map").cloneNode());
    card.replaceChildren(large, words);
  };
  for (const card of document.querySelectorAll(".card")) card.hidden = false;
  for (const link of document.querySelectorAll("figure svg a")) {
    link.addEventListener("pointerenter", () => show(link));
  }

  // Unfold what is linked to, and everything before it is printed.
  const unfold = (element) => {
    for (let at = element; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  };
  addEventListener("hashchange", () => unfold(document.getElementById(location.hash.slice(1))));
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(unfold));
})();
