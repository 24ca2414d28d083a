package main

const pageHead = `# Configuration

<!-- Written by go generate ./config from the comments of the Config types. Edit those. -->

SealMQ needs no configuration: without one, ` + "`sealmq serve`" + ` listens on port 8883 with mutual TLS and opens nothing in
the clear. What shall be different stands in a file in [TOML](https://toml.io):

` + "```" + `
sealmq serve --config sealmq.toml
sealmq check sealmq.toml          # what is wrong with it, or what it amounts to, every key
` + "```" + `

[sealmq.example.toml](../../sealmq.example.toml) holds every key with its default, ready to be uncommented.

## How the file is read

- It is strict. An unknown key, a wrong type, a value outside its limits, a key set twice: each is an error, all are
  reported at once, each with its line, and the server does not start.

  ` + "```" + `
  sealmq.toml:3: adress: unknown key; did you mean listener.address?
  sealmq.toml:9: listener.handshake_timeout: want a duration in quotes such as "15s", got the number 15
  ` + "```" + `

- Keys at the top of the file come before the first ` + "`[table]`" + `.
- A duration is a text: ` + "`\"250ms\"`, `\"15s\"`, `\"1h30m\"`, `\"30d\"`, `\"2w\"`" + `.
- A size is a number of bytes or a text with a unit: ` + "`2000000`, `\"64KiB\"`, `\"1.5GiB\"`" + `; KiB, MiB, GiB, TiB count by 1024,
  kB, MB, GB, TB by 1000.
- A relative path counts from the folder of the file. Only the default data folder, ` + "`sealmq-data`" + `, is in the working
  directory.

## Reloading

SIGHUP reads the file and all certificates again (` + "`kill -HUP PID`" + `). Everything is checked before anything changes: if
anything is wrong, the configuration in force stays, and standard error says why.

- Limits, ` + "`auth`, `anonymous`" + ` and certificates apply to connections accepted from then on; ` + "`log.level`" + ` applies at once.
- A listener whose address or other transport settings differ is opened anew; a listener that is gone from the file takes
  no more connections. Connections that exist live on.
- ` + "`data`, `preauth_memory`, `outbound_memory`, `sys_interval` and `log.format`" + ` need a restart: a file that changes them is refused.
`

const pageTail = `
## Listeners that are refused

- without TLS and without ` + "`anonymous = true`" + `: credentials never travel in the clear, so nobody could prove anything there;
- without TLS and with a certificate, key, client CA or ` + "`client_certificates`" + `;
- with a way in ` + "`auth`" + ` that has no table, is never asked, or needs TLS where there is none;
- with ` + "`anonymous = true`" + ` while ` + "`client_certificates`" + ` is required;
- with a certificate but no key, or a key but no certificate, a pair that does not fit together, or a key that others may read;
- two with one name, or with addresses that cannot be listened on together.

See [Listeners and TLS](listeners-and-tls.md) for examples.
`

const exampleHead = `# SealMQ configuration: every key with its meaning, limits and default.
# An empty file is a good file. Uncomment what shall be different; then: sealmq check sealmq.toml
#
# Durations: "250ms", "15s", "1h30m", "30d". Sizes: 2000000, "64KiB", "1.5GiB".
# Relative paths count from the folder of this file.
`

const exampleTail = `
# A listener in the clear for a test bench. Whoever reaches it may publish and subscribe; it listens
# on 127.0.0.1:1883 unless an address says otherwise. The server prints a warning.
#[[listener]]
#tls = false
#anonymous = true
`
