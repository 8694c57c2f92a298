"""Trees of files: what they are (manifests), how they get off and onto a disk, their hash."""
