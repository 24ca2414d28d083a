// The ws library as the other end: "client URL" or "server". What it finds
// wrong it throws.
'use strict'
const assert = require('node:assert')
const { WebSocket, WebSocketServer } = require('ws')

const once = (emitter, event) => new Promise((resolve, reject) => {
  emitter.once(event, (...args) => resolve(args))
  if (event !== 'error') emitter.once('error', reject)
})
const bytes = n => Buffer.from(Array.from({ length: n }, (_, i) => i * 7 & 255))

async function client (url) {
  const c = new WebSocket(url, ['mqttv3.1', 'mqtt'], { perMessageDeflate: true })
  const got = []
  c.on('message', (data, binary) => { assert(binary); got.push(data) })
  await once(c, 'open')
  assert.equal(c.protocol, 'mqtt')
  assert.equal(c.extensions, '')
  const sent = []
  const send = (data, options) => { sent.push(data); c.send(data, options) }
  for (const n of [0, 1, 125, 126, 127, 4095, 65535, 65536, 300000]) send(bytes(n))
  send(bytes(10), { fin: false })
  c.ping('in between')
  send(bytes(70000), { fin: false })
  send(bytes(3))
  const [pong] = await once(c, 'pong')
  assert.equal(pong.toString(), 'in between')
  const want = Buffer.concat(sent)
  while (got.reduce((n, b) => n + b.length, 0) < want.length) await once(c, 'message')
  assert(Buffer.concat(got).equals(want))
  c.close(4000, 'done')
  assert.equal((await once(c, 'close'))[0], 4000)

  const t = new WebSocket(url, 'mqtt')
  await once(t, 'open')
  t.send('words')
  const [code, reason] = await once(t, 'close')
  assert.equal(code, 1003)
  assert.match(reason.toString(), /text frame/)

  const o = new WebSocket(url, 'mqtt', { origin: 'https://evil.example' })
  o.on('error', () => {})
  assert.equal((await once(o, 'unexpected-response'))[1].statusCode, 403)
  o.terminate()

  const p = new WebSocket(url, 'chat')
  const [error] = await once(p, 'error')
  assert.match(error.message, /400/)
}

async function server () {
  const s = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: { threshold: 0 }, handleProtocols: p => p.has('mqtt') && 'mqtt' })
  await once(s, 'listening')
  console.log(s.address().port)
  const [c] = await once(s, 'connection')
  c.ping('are you there')
  c.on('message', (data, binary) => { assert(binary); c.send(data) })
  const [pong] = await once(c, 'pong')
  assert.equal(pong.toString(), 'are you there')
  const [code] = await once(c, 'close')
  assert.equal(code, 1000)
  s.close()
}

const [what, url] = process.argv.slice(2)
;(what === 'client' ? client(url) : server()).then(() => { console.log('ok'); process.exit(0) }, e => { console.error(e); process.exit(1) })
