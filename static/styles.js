/** The component's styles as text. Empty here, where they are a file of their own: `make assets` puts them in. */
export const STYLES = "";
