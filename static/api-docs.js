/* The API reference: Swagger UI with a search over method, path, name and description. */

/**
 * Keep the operations whose method, path, name or description contain every word of the search.
 * @param {any} taggedOperations Swagger UI's operations by tag, in collections of Immutable.js.
 * @param {string} phrase
 */
function search(taggedOperations, phrase) {
  const terms = phrase.toLowerCase().split(/\s+/).filter(Boolean);
  /** @param {any} operation */
  const matches = (operation) => {
    const fields = ["summary", "description", "operationId"].map((name) => operation.getIn(["operation", name]));
    const text = [operation.get("method"), operation.get("path"), ...fields].join(" ").toLowerCase();
    return terms.every((term) => text.includes(term));
  };
  return taggedOperations
    .map((/** @type {any} */ tag) => tag.update("operations", (/** @type {any} */ all) => all.filter(matches)))
    .filter((/** @type {any} */ tag) => tag.get("operations").size > 0);
}

/** Name the search field, which Swagger UI would use for tags alone. */
function labelSearch() {
  const field = /** @type {HTMLInputElement} */ (document.querySelector(".operation-filter-input"));
  field.placeholder = "Search";
  field.setAttribute("aria-label", "Search");
}

/** @type {any} */ (window).SwaggerUIBundle({
  dom_id: "#api-docs",
  url: new URL("openapi.json", document.baseURI).href,
  deepLinking: true,
  displayOperationId: false,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [{ fn: { opsFilter: search } }],
  onComplete: labelSearch,
});
