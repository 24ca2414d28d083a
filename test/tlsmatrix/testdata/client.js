// A TLS client of Node.js: one argument, JSON; prints what the library says.
const fs = require("fs"), net = require("net"), tls = require("tls");

const a = JSON.parse(process.argv[2]);
const fail = (e) => { console.log(e.code, e.message); process.exitCode = 1; };
try {
  const o = { host: "127.0.0.1", port: a.port, ca: fs.readFileSync(a.ca) };
  if (!net.isIP(a.name)) o.servername = a.name;
  if (a.cert) { o.cert = fs.readFileSync(a.cert); o.key = fs.readFileSync(a.key); }
  if (a.max === "1.1") { o.minVersion = "TLSv1"; o.maxVersion = "TLSv1.1"; o.ciphers = "DEFAULT:@SECLEVEL=0"; }
  if (a.max === "1.2") o.maxVersion = "TLSv1.2";
  if (a.ciphers) o.ciphers = a.ciphers;
  if (a.alpn) o.ALPNProtocols = [a.alpn];
  const c = tls.connect(o, () => c.write("hi"));
  c.setTimeout(30000, () => c.destroy(new Error("time-out")));
  c.on("data", () => console.log("let in"));
  c.on("error", fail);
  c.on("close", () => process.exit());
} catch (e) { fail(e); }
