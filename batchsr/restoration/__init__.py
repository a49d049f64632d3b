"""One recording, from its file to its output: windows, scratch, the joining, the sidecar."""
