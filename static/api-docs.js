/* The API reference: Swagger UI with a search over method, path, name and description. */

/** Keep the operations whose method, path, name or description contain every word of the search. */
function search(taggedOperations, phrase) {
  const words = phrase.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (operation) => {
    const fields = ["summary", "description", "operationId"].map((name) => operation.getIn(["operation", name]));
    const text = [operation.get("method"), operation.get("path"), ...fields].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return taggedOperations
    .map((tag) => tag.update("operations", (operations) => operations.filter(matches)))
    .filter((tag) => tag.get("operations").size > 0);
}

/** Name the search field, which Swagger UI would use for tags alone. */
function labelSearch() {
  const field = document.querySelector(".operation-filter-input");
  field.placeholder = "Search";
  field.setAttribute("aria-label", "Search");
}

window.SwaggerUIBundle({
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
