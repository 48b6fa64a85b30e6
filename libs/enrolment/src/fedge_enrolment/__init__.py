"""How a gateway becomes a node and proves ever after that it is that one.

The cloud keeps a certificate authority and records of tokens and nodes (`registrar`, `authority`,
`records`); a gateway makes its key, shows a token and is given a certificate (`joining`), which
lies in its identity folder (`identity`). Modules are imported by name: a gateway that has joined
loads the least of it.
"""
