"""Names, versions and typed views of the Kubernetes objects that fedge handles."""
