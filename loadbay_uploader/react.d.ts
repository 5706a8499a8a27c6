/** The element's properties and events in JSX, for React 19: `import "loadbay-uploader/react"`. */
import type { DetailedHTMLProps, HTMLAttributes } from "react";
import type { LoadbayUploader, LoadbayUploaderEvents } from "./uploader.js";

type Events = {
  [Name in keyof LoadbayUploaderEvents as `on${Name}`]?: (event: CustomEvent<LoadbayUploaderEvents[Name]>) => void;
};
type Properties = Partial<Pick<LoadbayUploader, "session" | "server" | "partSize" | "retryDelay" | "finish" | "messages">>;

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "loadbay-uploader": DetailedHTMLProps<HTMLAttributes<LoadbayUploader>, LoadbayUploader> & Properties & Events;
    }
  }
}

export * from "./uploader.js";
