"""For host applications: the API in this process, without HTTP."""
