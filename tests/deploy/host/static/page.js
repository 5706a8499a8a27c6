"of the host";
