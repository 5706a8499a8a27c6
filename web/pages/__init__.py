"""The pages that the service renders: an upload page for each session, the owner's page, and errors."""
