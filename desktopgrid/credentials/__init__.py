"""X.509 certificates and RFC 3820 proxies: read, signed and sealed, wherever we run but on a
worker node. Whom one believes is not decided here. Needs the package `cryptography`.
"""
