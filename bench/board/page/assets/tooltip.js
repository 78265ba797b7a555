// One tooltip, shown where the pointer or the focus is. Whoever has one also has its text as a label.

const tooltip = byId("tooltip");
const tips = new WeakMap();

/** Give `node` a tooltip of some lines, the first as a heading. */
function explained(node, lines) {
  node.setAttribute("data-tip", "");
  tips.set(node, lines);
  return node;
}

function hideTip() {
  tooltip.hidden = true;
}

function showTip(target) {
  const node = target instanceof Element ? target.closest("[data-tip]") : null;
  if (!node) return hideTip();
  const [first, ...rest] = tips.get(node);
  tooltip.replaceChildren(element("strong", {}, first), ...rest.map((line) => element("span", {}, line)));
  tooltip.hidden = false;
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
document.addEventListener("scroll", hideTip, true);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});
