// Keys: / query, j and k down and up a list, Enter opens, u goes back to the list. Everything works without this file too.
const rows = [...document.querySelectorAll("table.hits tbody tr")];
const query = document.querySelector("form.query input[type=search]");
const back = document.querySelector("a.back");
const fromList = sessionStorage.getItem("from") === "list"; // this page was opened by a link in the list right before it
let at = -1;

sessionStorage.removeItem("from");

// select marks a row and puts the focus on its link. The place is kept in the history, for the way back.
function select(i) {
	rows[at]?.classList.remove("at");
	at = Math.min(rows.length - 1, Math.max(0, i));
	rows[at].classList.add("at");
	rows[at].querySelector("a").focus({ preventScroll: true });
	rows[at].scrollIntoView({ block: "nearest" });
	history.replaceState({ at }, "");
}

if (rows.length > 0 && Number.isInteger(history.state?.at)) select(history.state.at);

for (const [i, row] of rows.entries()) {
	row.addEventListener("focusin", () => { if (i !== at) select(i); });
	row.addEventListener("click", (e) => {
		if (e.target.closest("a")) {
			if (!e.ctrlKey && !e.metaKey && !e.shiftKey) sessionStorage.setItem("from", "list");
		} else if (getSelection().toString() === "") {
			row.querySelector("a").click();
		}
	});
}

document.addEventListener("keydown", (e) => {
	if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
	if (e.target === query) {
		if (e.key === "Escape") query.blur();
		return;
	}
	switch (e.key) {
	case "/":
		query?.focus();
		query?.select();
		break;
	case "j":
		if (rows.length > 0) select(at + 1);
		break;
	case "k":
		if (rows.length > 0) select(at - 1);
		break;
	case "u":
		if (fromList) history.back(); // which keeps the place in the list
		else back?.click();
		break;
	default:
		return;
	}
	e.preventDefault();
});
