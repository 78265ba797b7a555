// Elements of the page. Strings become text, never markup; style goes through CSSOM, which the policy allows.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. An attribute that is null or false is left out; a function listens to the event of its name. */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
function shape(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function byId(id) {
  return document.getElementById(id);
}

let lastId = 0;

/** An id that no other element has. */
function newId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** A labelled field of a form. */
function field(label, control) {
  return element("label", { class: "field" }, element("span", {}, label), control);
}

/** A select; `options`: [value, text]. */
function select(options, value, changed) {
  const made = element("select", { change: () => changed(made.value) });
  made.append(...options.map(([key, text]) => element("option", { value: key, selected: key === value }, text)));
  return made;
}
