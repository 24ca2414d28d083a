"""A TLS client of Python's: one argument, JSON; prints what the library says."""
import json, socket, ssl, sys

a = json.loads(sys.argv[1])
try:
    ctx = ssl.create_default_context(cafile=a["ca"])
    if a.get("cert"):
        ctx.load_cert_chain(a["cert"], a["key"])
    if a.get("max") == "1.1":
        ctx.minimum_version, ctx.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        ctx.set_ciphers("DEFAULT:@SECLEVEL=0")
    elif a.get("max") == "1.2":
        ctx.maximum_version = ssl.TLSVersion.TLSv1_2
    if a.get("ciphers"):
        ctx.set_ciphers(a["ciphers"])
    if a.get("alpn"):
        ctx.set_alpn_protocols([a["alpn"]])
    with socket.create_connection(("127.0.0.1", a["port"]), 30) as nc:
        with ctx.wrap_socket(nc, server_hostname=a["name"]) as c:
            c.sendall(b"hi")
            got = c.recv(2)
            print("let in" if got else "closed")
            sys.exit(0 if got else 1)
except (OSError, ValueError) as e:
    print(type(e).__name__, e)
    sys.exit(1)
