// What is chosen on the page. It is the address's part after #, so that a link shows the same.

let chosen = new URLSearchParams(stated() ? location.hash.slice(1) : "");
const listeners = [];

/** Whether the address has choices in it, not the name of a section. */
function stated() {
  return location.hash.includes("=");
}

function values(key) {
  return chosen.getAll(key);
}

function value(key, otherwise = "") {
  return chosen.get(key) ?? otherwise;
}

/** Choose `several` for `key`, or nothing. */
function choose(key, ...several) {
  chosen.delete(key);
  for (const one of several) if (one !== "") chosen.append(key, one);
  const text = chosen.toString();
  history.replaceState(null, "", text ? `#${text}` : location.href.split("#")[0]);
  changed(key);
}

function changed(key) {
  for (const listener of listeners) listener(key);
}

/** `listener` gets the key of what was chosen, or null where all may be new. */
function whenChosen(listener) {
  listeners.push(listener);
}

window.addEventListener("hashchange", () => {
  if (!stated()) return;
  chosen = new URLSearchParams(location.hash.slice(1));
  changed(null);
});
