"use strict";
(() => {
  const $ = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const root = document.documentElement;
  root.classList.add("js");

  // Theme: system, light, dark. Storage may be forbidden for a page read from disk; the choice then lasts until reload.
  const themes = ["system", "light", "dark"];
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const setTheme = (name) => {
    if (name === "system") delete root.dataset.theme; else root.dataset.theme = name;
    $("#theme").textContent = `Theme: ${name}`;
    try { localStorage.setItem("theme", name); } catch { /* not kept */ }
  };
  setTheme(themes.includes(remembered()) ? remembered() : "system");
  $("#theme").addEventListener("click", () => setTheme(themes[(themes.indexOf(root.dataset.theme ?? "system") + 1) % 3]));

  const table = $("#table"), body = $("tbody", table), rows = [...body.rows];
  const heads = all("thead th", table);
  const position = new Map(heads.map((head, index) => [head.dataset.column, index]));
  const words = (cell) => (cell.firstElementChild?.matches("a, .pill") ? cell.firstElementChild : cell.firstChild)?.textContent.trim() ?? "";
  const haystacks = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const marks = new Map();
  for (const mark of all("svg [data-row], details.result")) {
    if (!marks.has(mark.dataset.row)) marks.set(mark.dataset.row, []);
    marks.get(mark.dataset.row).push(mark);
  }

  function sort(head) {
    const index = heads.indexOf(head), falling = head.getAttribute("aria-sort") === "ascending";
    const numeric = head.classList.contains("num");
    const value = (row) => numeric ? Number(row.cells[index].dataset.order ?? NaN) : words(row.cells[index]);
    const key = new Map(rows.map((row) => [row, value(row)]));
    rows.sort((a, b) => {
      const [x, y] = [key.get(a), key.get(b)];
      // Rows without a number stay last, whichever way the column is sorted.
      if (numeric && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y);
      const order = numeric ? x - y : x.localeCompare(y, undefined, { numeric: true });
      return falling ? -order : order;
    });
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    body.append(...rows);
  }
  for (const head of heads) $("button", head).addEventListener("click", () => sort(head));

  function filter() {
    const needles = $("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = all("select[data-column]").filter((select) => select.value);
    let shown = 0;
    for (const row of rows) {
      const keep = needles.every((needle) => haystacks.get(row).includes(needle))
        && chosen.every((select) => words(row.cells[position.get(select.dataset.column)]) === select.value);
      row.hidden = !keep;
      shown += keep;
      for (const mark of marks.get(row.dataset.row) ?? [])
        if (mark.matches("details")) mark.hidden = !keep; else mark.classList.toggle("dim", !keep);
    }
    $("#none").hidden = shown > 0;
    $("#status").textContent = `${shown} of ${rows.length} shown`;
  }
  $("#search").addEventListener("input", filter);
  for (const select of all("select[data-column]")) select.addEventListener("change", filter);
  $("#reset").addEventListener("click", () => {
    $("#search").value = "";
    for (const select of all("select[data-column]")) select.value = "";
    filter();
  });

  for (const box of all("input[data-column]")) box.addEventListener("change", () => {
    const index = position.get(box.dataset.column);
    heads[index].classList.toggle("off", !box.checked);
    for (const row of rows) row.cells[index].classList.toggle("off", !box.checked);
  });

  const latex = { "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "–": "--",
    "×": "$\\times$", "✓": "\\checkmark{}", "✗": "$\\times$", "\u2009": "\\," };
  const escapes = {
    markdown: (cell) => cell.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/[\\`*_{}[\]|~!]/g, "\\$&"),
    // A cell that a spreadsheet would run as a formula starts with an apostrophe.
    csv: (cell) => { const safe = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell; return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe; },
    latex: (cell) => [...cell].map((letter) => latex[letter] ?? letter).join(""),
  };
  function tableAs(form) {
    const columns = heads.map((head, index) => index).filter((index) => !heads[index].classList.contains("off"));
    const escaped = (cells) => cells.map(escapes[form]);
    const top = escaped(columns.map((index) => $("button", heads[index]).textContent));
    const lines = rows.filter((row) => !row.hidden).map((row) => escaped(columns.map((index) => words(row.cells[index]))));
    const numeric = columns.map((index) => heads[index].classList.contains("num"));
    if (form === "csv") return [top, ...lines].map((line) => line.join(",")).join("\n") + "\n";
    if (form === "latex") return `\\begin{tabular}{${numeric.map((is) => is ? "r" : "l").join("")}}\n\\toprule\n${top.join(" & ")} \\\\\n\\midrule\n`
      + lines.map((line) => `${line.join(" & ")} \\\\\n`).join("") + "\\bottomrule\n\\end{tabular}\n";
    return [top, numeric.map((is) => is ? "---:" : "---"), ...lines].map((line) => `| ${line.join(" | ")} |`).join("\n") + "\n";
  }
  for (const button of all("button[data-copy]")) button.addEventListener("click", async () => {
    const made = tableAs(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(made);
      $("#status").textContent = `Copied ${rows.filter((row) => !row.hidden).length} rows as ${button.textContent}`;
    } catch {
      // No clipboard for this page: show the text, selected, to be copied by hand.
      const area = $("#copied textarea");
      area.value = made;
      $("#copied").showModal();
      area.select();
    }
  });

  // A link to a result opens it; a click on a mark goes there too.
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const around = target?.closest("details.result");
    if (around) { around.hidden = false; around.open = true; target.scrollIntoView({ block: "nearest" }); }
  };
  addEventListener("hashchange", open);
  open();
  document.addEventListener("click", (event) => {
    const mark = event.target.closest?.("svg [data-row]");
    if (mark) location.hash = mark.dataset.row;
  });
})();
