// @ts-check
// A tree of elements, and the page made like it: elements that stay keep their focus, their scroll and their listeners.

/**
 * @typedef {{tag: string, props: Record<string, any>, children: (Node | string)[]}} Node
 * @typedef {Node | string | number | false | null | undefined | Child[]} Child
 */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Makes an element. Properties that begin with `on` are listeners, `key` tells it from its neighbours, and what is false or null is left out.
 * @param {string} tag
 * @param {Record<string, any> | null} [props]
 * @param {...Child} children
 * @returns {Node}
 */
export function h(tag, props, ...children) {
  /** @type {(Node | string)[]} */
  const flat = [];
  /** @param {Child} child */
  const add = child => {
    if (Array.isArray(child)) child.forEach(add);
    else if (typeof child === 'number') flat.push(String(child));
    else if (child) flat.push(child);
  };
  children.forEach(add);
  return { tag, props: props ?? {}, children: flat };
}

/**
 * Makes the children of an element like `wanted`.
 * @param {Element} parent
 * @param {(Node | string)[]} wanted
 */
export function patch(parent, wanted) {
  /** @type {Map<string, Element>} */
  const keyed = new Map();
  for (const child of parent.children) {
    const key = /** @type {any} */ (child).tlKey;
    if (key !== undefined) keyed.set(`${child.localName} ${key}`, child);
  }
  let at = parent.firstChild;
  for (const node of wanted) {
    if (typeof node === 'string') {
      if (at?.nodeType === 3) {
        if (at.nodeValue !== node) at.nodeValue = node;
        at = at.nextSibling;
      } else {
        parent.insertBefore(document.createTextNode(node), at);
      }
      continue;
    }
    const { tag, props } = node;
    const key = props.key;
    /** @type {Element | undefined} */
    let element;
    if (key !== undefined) {
      element = keyed.get(`${tag} ${key}`);
      keyed.delete(`${tag} ${key}`);
    } else if (at instanceof Element && at.localName === tag && /** @type {any} */ (at).tlKey === undefined) {
      element = at;
    }
    if (!element) {
      const isSvg = tag === 'svg' || parent.namespaceURI === SVG;
      element = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
      if (key !== undefined) /** @type {any} */ (element).tlKey = key;
    }
    if (element === at) at = at.nextSibling;
    else parent.insertBefore(element, at);
    dress(element, props);
    // custom elements see to their own children
    if (!tag.includes('-')) patch(element, node.children);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/**
 * @param {any} element
 * @param {Record<string, any>} props
 */
function dress(element, props) {
  const before = element.tlProps ?? {};
  for (const name of Object.keys(before)) {
    if (!(name in props)) set(element, name, null);
  }
  for (const [name, value] of Object.entries(props)) {
    if (before[name] !== value) set(element, name, value);
  }
  element.tlProps = props;
}

/**
 * @param {any} element
 * @param {string} name
 * @param {any} value
 */
function set(element, name, value) {
  if (name === 'key') return;
  if (name.startsWith('on')) element[name] = value;
  else if (name === 'value' && element !== document.activeElement) element.value = value ?? '';
  else if (name === 'checked' || name === 'disabled') element[name] = Boolean(value);
  else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? '' : String(value));
}
