"use strict";
const send = async (path, csrf, body) => {
  const headers = { "content-type": "application/json", "x-csrf-token": csrf };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
};
const ask = (options, make) => make
  ? navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
  : navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
const use = async ({ path, csrf }, name) => {
  const { publicKey } = await send(`${path}/begin`, csrf, {});
  const credential = (await ask(publicKey, name !== undefined)).toJSON();
  return send(path, csrf, { name, credential });
};
const element = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
const keep = ({ keep, next, goOn }, codes) => {
  const link = Object.assign(element("a", goOn), { href: next });
  document.querySelector("main").replaceChildren(element("p", keep), element("pre", codes.join("\n")), link);
};
for (const place of document.querySelectorAll("[data-path]")) {
  const [button, input, reason] = ["button", "input", ".reason"].map((part) => place.querySelector(part));
  place.hidden = !window.PublicKeyCredential?.parseRequestOptionsFromJSON;
  button.addEventListener("click", async () => {
    try {
      const { recovery_codes: codes } = await use(place.dataset, input?.value);
      codes?.length ? keep(place.dataset, codes) : location.replace(place.dataset.next);
    } catch (error) {
      console.warn(error);
      reason.hidden = false;
    }
  });
}
