// One tooltip, shown where the pointer or the focus is. Whoever has one also has its text as a label.

const tooltip = byId("tooltip");
const tips = new WeakMap();

/** Give `node` a tooltip of some lines, the first as a heading. */
function explained(node, lines) {
  node.setAttribute("data-tip", "");
  tips.set(node, lines);
  return node;
}

let explainedNow = null;

function hideTip() {
  tooltip.hidden = true;
  explainedNow = null;
}

function showTip(target) {
  const node = target instanceof Element ? target.closest("[data-tip]") : null;
  if (!node) return hideTip();
  explainedNow = node;
  const [first, ...rest] = tips.get(node);
  tooltip.replaceChildren(element("strong", {}, first), ...rest.map((line) => element("span", {}, line)));
  tooltip.hidden = false;
  placeTip(node);
}

function placeTip(node) {
  const around = node.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = tooltip;
  const left = Math.min(Math.max(8, around.left + around.width / 2 - width / 2), innerWidth - width - 8);
  const above = around.top - height - 8;
  tooltip.style.left = `${Math.max(8, left)}px`;
  tooltip.style.top = `${above < 8 ? around.bottom + 8 : above}px`;
}

document.addEventListener("pointerover", (event) => showTip(event.target));
document.addEventListener("focusin", (event) => showTip(event.target));
document.addEventListener("focusout", hideTip);
// a focus that moves scrolls the page, and what it shows stays; what the pointer showed does not
document.addEventListener("scroll", () => (explainedNow === document.activeElement ? placeTip(explainedNow) : hideTip()), true);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});
