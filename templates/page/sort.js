for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const up = head.ariaSort !== "ascending";
    const text = (row) => row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows].sort((a, b) => text(a).localeCompare(text(b), "en", {numeric: true}));
    heads.forEach((each) => { each.ariaSort = each === head ? (up ? "ascending" : "descending") : "none"; });
    table.tBodies[0].append(...(up ? rows : rows.reverse()));
  }));
}
